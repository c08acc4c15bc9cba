"""Room remote: a bucket behind the store. Its address and objects; items fetched, sent, or read where they lie.

Imports base, params and upkeep; slides and the command line enter.
"""

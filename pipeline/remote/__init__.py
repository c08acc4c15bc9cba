"""Room remote: a bucket behind the store. What it is called, its objects, items fetched from it, sent to it, read where they lie.

Imports base, params and upkeep; slides and the command line enter.
"""

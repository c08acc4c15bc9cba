"""Room remote: a bucket behind the store. What it is called, its objects, items fetched from it and sent to it.

Imports base, params and upkeep; the command line may enter.
"""

"""Room upkeep: who names what in the store, pruning, verifying.

Imports base; the command line and the report may enter.
"""

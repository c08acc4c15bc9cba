"""Room base: errors, files, the store and its manifests, arrays, intervals.

Imports no other room; everyone may enter.
"""

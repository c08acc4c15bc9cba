"""Room sets: labelled images besides the slides, from folders, tables, HDF5 files and masks.

Imports tiles and above.
"""

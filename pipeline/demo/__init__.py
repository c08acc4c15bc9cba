"""Room demo: synthetic H&E slides and their exact label maps.

Imports base; slides and every room after it may enter.
"""

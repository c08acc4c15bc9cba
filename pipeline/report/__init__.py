"""Room report: one self-contained page from all manifests.

Starts without torch; imports what evaluate and benchmark call their figures.
"""

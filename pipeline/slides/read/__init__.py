"""Pixels and metadata of slide files: OpenSlide, tiled TIFFs decoded directly, and levels made while decoding."""

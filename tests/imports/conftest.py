"""Fixtures of the room imports."""

from made.teacher import tiny_weights

__all__ = ["tiny_weights"]

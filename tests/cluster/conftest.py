"""A tiny teacher for the room's tests."""

from made.teacher import tiny_params, tiny_weights

__all__ = ["tiny_params", "tiny_weights"]

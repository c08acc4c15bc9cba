"""A corpus and a tiny teacher for the room's tests."""

from made.cache import cache
from made.teacher import tiny_params, tiny_weights

__all__ = ["cache", "tiny_params", "tiny_weights"]

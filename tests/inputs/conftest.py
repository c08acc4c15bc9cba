"""A corpus for the room's tests."""

from made.cache import cache

__all__ = ["cache"]

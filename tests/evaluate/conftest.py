"""Hand-made manifests of the stages beside `evaluate`, and the students of other experiments."""

from made.manifests import compared, manifests

__all__ = ["compared", "manifests"]

"""Hand-made manifests, plots and pictures for the room's tests."""

from made.manifests import compared, manifests, plots, store

__all__ = ["compared", "manifests", "plots", "store"]

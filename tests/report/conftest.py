"""Hand-made manifests, plots and pictures for the room's tests."""

from made.manifests import manifests, plots, store

__all__ = ["manifests", "plots", "store"]

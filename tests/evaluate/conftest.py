"""Hand-made manifests of the stages beside `evaluate`."""

from made.manifests import manifests

__all__ = ["manifests"]

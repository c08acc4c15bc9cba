"""Measures what a study needs to know before its arms: where a training has converged, by tiles that it never saw."""

"""Each kernel held to its reference, then timed against it."""

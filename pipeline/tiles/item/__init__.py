"""One slide's tiles as the store keeps them: written once, read by row."""

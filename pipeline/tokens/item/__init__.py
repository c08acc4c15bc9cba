"""One slide's tokens as the store keeps them: encoded, written a chunk at a time, read by mapping."""

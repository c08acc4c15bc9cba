"""The nouns: what stages are made of. Nothing here reads argv, or params.yaml at import."""

"""A tool's feature files as they lie on disk: what each says of itself, and its rows."""

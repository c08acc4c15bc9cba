"""Room tiles: from a slide to its tiles at one physical resolution. Imports slides and the rooms above it."""

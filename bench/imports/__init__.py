"""Programs that measure the room imports."""

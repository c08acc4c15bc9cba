"""See DESIGN: room tiles."""

"""See DESIGN: room tokens."""

"""See DESIGN: room slides."""

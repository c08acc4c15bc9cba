"""See DESIGN: room student."""

"""See DESIGN: room evaluation."""

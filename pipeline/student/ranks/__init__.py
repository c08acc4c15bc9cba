"""What a training by several processes shares, and what their number changes."""

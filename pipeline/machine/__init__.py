"""What this machine and this checkout are, before a long run: `histill doctor`, `histill plan`."""

"""How long the report of a thousand slides takes."""

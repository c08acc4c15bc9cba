"""How fast slides become tiles, and how well tissue is told from glass."""

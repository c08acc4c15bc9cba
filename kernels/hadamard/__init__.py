"""A block rotation that spreads outlying channels before quantising, and undoes it after."""

"""What an encoder says of a slide, for eyes: maps of its embeddings over the slide, and the tiles most alike to one."""

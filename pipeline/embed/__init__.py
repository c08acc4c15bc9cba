"""Room embed: images in, the student's embeddings out."""

"""The tokens room: what the teacher said about every tile and view, kept at half the bytes and read by mapping."""

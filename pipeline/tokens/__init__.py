"""Room tokens: what the teacher said of every tile and view, kept at half the bytes and read by mapping.

Imports teachers.
"""

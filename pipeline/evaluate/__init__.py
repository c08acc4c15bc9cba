"""Room evaluate: what the student is worth beside its teacher.

Imports sets, student, tokens and the rooms above them.
"""

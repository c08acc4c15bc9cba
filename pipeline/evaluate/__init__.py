"""Room evaluate: what the student is worth beside its teacher.

Imports measures, sets, student, tokens and the rooms above them.
"""

"""Room imports: features that another tool has computed, taken as a teacher's answers; whether they are is asked first.

Imports tokens.
"""

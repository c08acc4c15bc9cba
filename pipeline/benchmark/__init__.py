"""Room benchmark: what the models cost on this machine, each in a process of its own.

Imports student and the rooms above.
"""

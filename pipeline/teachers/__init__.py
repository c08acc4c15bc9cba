"""Room teachers: which encoders are known, their weights, and the engines that run them.

Imports views and the rooms above.
"""

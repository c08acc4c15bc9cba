"""Programs that measure or check; each says in its docstring what it shows and how it is run. Nothing imports them.

They print a table for people and one JSON object as the last line. They are not installed with the package.
"""

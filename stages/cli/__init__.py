"""`histill`: a file a group of commands, put together in `app.py`. What a command needs it imports when it runs, so
that the others, and the shell's completion, start at once."""

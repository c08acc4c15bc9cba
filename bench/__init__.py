"""Programs that measure or check a machine, mirrored after the rooms.

They import anything; nothing imports them; not installed.
"""

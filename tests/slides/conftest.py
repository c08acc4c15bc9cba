"""One demo slide for the room's tests."""

from made.demo_slide import demo_folder

__all__ = ["demo_folder"]

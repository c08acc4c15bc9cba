"""The table of teachers that `histill teachers` prints; nothing is loaded."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from pipeline.teachers.registry import TEACHERS


def list_teachers() -> None:
    """Every teacher of the registry: what it takes, what it answers, and under which licence."""
    columns = ("teacher", "hub", "input", "patch", "um/px", "width", "registers", "gated", "licence", "for a tile")
    # As wide as it is, also into a pipe: a name that is cut off is no name.
    console, table = Console(width=160), Table(*columns)
    notes: dict[str, list[str]] = {}
    for name, entry in TEACHERS.items():
        registers = "?" if entry.registers is None else str(entry.registers)
        mpp = ", ".join(f"{value:g}" for value in entry.mpp)
        asked = "yes" if entry.gated else "no"
        row = (name, entry.hub, str(entry.input_px), str(entry.patch_px), mpp, str(entry.width), registers, asked)
        table.add_row(*row, entry.licence, entry.embedding)
        if entry.licence_note:
            notes.setdefault(entry.licence_note, []).append(name)
    console.print(table)
    for note, names in notes.items():
        console.print(f"{', '.join(names)}: the licence {note}.", soft_wrap=True)
    console.print("Any other timm name, hf-hub:owner/name and local weights work too: docs/teachers.md", soft_wrap=True)

"""`histill doctor`: what this machine is."""

from __future__ import annotations

import importlib
import os

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.files import free_bytes, human
from pipeline.upkeep.locks import locks
from stages.command import find_store


def add_to(cli: typer.Typer) -> None:
    """Add this command."""
    cli.command()(doctor)


def doctor() -> None:
    """Say what this machine has and what Histill will use."""
    import torch

    store = find_store()
    space = human(free_bytes(store.root))
    table = Table("what", "found", show_header=True)
    for package in ("torch", "torchvision", "timm", "zarr", "openslide", "dvc"):
        table.add_row(package, getattr(importlib.import_module(package), "__version__", "?"))
    table.add_row("GPU", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: everything runs on CPU")
    table.add_row("compute threads", str(torch.get_num_threads()))
    table.add_row("store", f"{store.root} ({space} free)")
    if store.root.is_dir() and os.access(store.root, os.W_OK):
        table.add_row("store's locks", str(locks(store.root)))
    Console().print(table)

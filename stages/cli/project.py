"""`histill scan`, `teachers` and `summary`: what there is to begin with, and what there is at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.slides.picture_folders import Grouping
from stages.command import Debug, errors


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    for command in (scan, teachers, summary):
        cli.command()(command)


def scan(
    folder: Path,
    folders: Annotated[
        Grouping, typer.Option(help="What folders of tiles side by side are: classes of one slide, or a slide each.")
    ] = Grouping.AUTO,
    debug: Debug = False,
) -> None:
    """Print a slide table of all slides under FOLDER: histill scan DIR > slides.csv."""
    from pipeline.slides.scan import scan as scan_folder

    with errors(debug):
        typer.echo(scan_folder(folder, folders), nl=False)


def teachers() -> None:
    """List the teachers that `tokens.teacher` knows by a short name, and what they want and give."""
    from pipeline.teachers.listing import list_teachers

    list_teachers()


def summary() -> None:
    """Say where the report, the student and the figures are."""
    for what, path in (
        ("the report", Path("reports/report.html")),
        ("the student", Path("models/student")),
        ("the figures", Path("metrics")),
    ):
        typer.echo(f"{what + ':':<13}{path}{'' if path.exists() else '  (not made yet: dvc repro)'}")
    typer.echo("             dvc metrics show; dvc plots show")

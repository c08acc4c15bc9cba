"""`histill scan`, `teachers` and `summary`: what there is to begin with, and what there is at the end."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.files import as_json
from pipeline.slides.picture_folders import Grouping
from stages.command import AsJson, Debug, errors


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    for command in (scan, teachers, summary):
        cli.command()(command)


def scan(
    folder: Annotated[
        Path, typer.Argument(help="Where the slides, or folders of images, are; or a URL (s3://bucket/prefix).")
    ],
    folders: Annotated[
        Grouping, typer.Option(help="What folders of tiles side by side are: classes of one slide, or a slide each.")
    ] = Grouping.AUTO,
    debug: Debug = False,
) -> None:
    """Print a slide table of all slides under FOLDER.

    histill scan /data/slides > slides.csv
    """
    from pipeline.slides.scan import scan as scan_folder

    with errors(debug):
        typer.echo(scan_folder(folder, folders), nl=False)


def teachers(json: AsJson = False) -> None:
    """List the teachers that `tokens.teacher` knows by a short name, and what they want and give.

    histill teachers
    """
    from pipeline.teachers.listing import list_teachers
    from pipeline.teachers.registry import TEACHERS

    if json:
        entries = {name: {**asdict(replace(of, model_kwargs=dict(of.model_kwargs)))} for name, of in TEACHERS.items()}
        typer.echo(as_json(entries))
    else:
        list_teachers()


def summary(json: AsJson = False) -> None:
    """Say where the report, the student and the figures are.

    histill summary
    """
    places = {"report": Path("reports/report.html"), "student": Path("models/student"), "figures": Path("metrics")}
    if json:
        typer.echo(as_json({what: {"path": str(path), "made": path.exists()} for what, path in places.items()}))
        return
    for what, path in places.items():
        typer.echo(f"{f'the {what}:':<13}{path}{'' if path.exists() else '  (not made yet: dvc repro)'}")
    typer.echo("             dvc metrics show; dvc plots show")

"""`histill STAGE`: every stage by name, without DVC; `histill report --compare` sets experiments side by side."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.files import as_json, dvc_root
from pipeline.base.types import Json
from pipeline.params import STAGES
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from stages.command import AsJson, Debug, Wait, errors


def add_to(cli: typer.Typer) -> None:
    """Add a command for each stage."""
    for stage in STAGES:
        if stage != "report":
            _register(cli, stage)
    cli.command()(report)


def _register(cli: typer.Typer, stage: str) -> None:
    """Add a stage's command; its module is imported when the command runs, so that the others start at once.

    So does a mistake in params.yaml, which is looked for before torch is imported.
    """

    @cli.command(stage, help=f"Run the stage `{stage}` here, without DVC.\n\nhistill {stage}")
    def command(wait: Wait = None, debug: Debug = False) -> None:
        with errors(debug):
            load_params(SiteParams)
        importlib.import_module(f"stages.{stage}").main(debug, wait)


def report(
    experiments: Annotated[
        list[str] | None, typer.Argument(help="With --compare: branches, experiments, `workspace`; by default all.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Write reports/compare.html instead.")] = False,
    json: AsJson = False,
    wait: Wait = None,
    debug: Debug = False,
) -> None:
    """Run the stage `report` here, without DVC; with --compare, put experiments side by side.

    histill report --compare workspace main
    """
    if not compare:
        if experiments or json:
            raise typer.BadParameter("experiments, and --json, go with --compare: histill report --compare EXP ...")
        importlib.import_module("stages.report").main(debug, wait)
        return
    from pipeline.report.across.compare import compare_experiments

    with errors(debug):
        out = Path("reports/compare.html")
        compared = compare_experiments(dvc_root(), experiments or [], out)
    if json:
        rows: list[Json] = [asdict(row) for row in compared.rows]
        typer.echo(as_json({"page": str(out), "experiments": compared.names, "rows": rows}))
    else:
        typer.echo(f"{out}: {', '.join(compared.names)}")

"""`histill doctor` and `histill plan`: before a long run, and after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.base.files import as_json, human
from pipeline.base.progress import seconds_text
from pipeline.base.types import Json
from stages.command import AsJson, Debug, Exit, errors, store_of

if TYPE_CHECKING:
    from pipeline.machine.plan.after import Outcome
    from pipeline.machine.plan.elsewhere import Line
    from pipeline.machine.plan.planned import Plan


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    cli.command()(doctor)
    cli.command()(plan)


def doctor(json: AsJson = False, debug: Debug = False) -> None:
    """Say of all that a run stands on whether it is well, or what it costs and how to mend it.

    histill doctor
    """
    with errors(debug):
        from pipeline.machine.doctor import can_run, examine
        from pipeline.machine.finding import Level

        found = examine()
    if json:
        typer.echo(as_json({"can_run": can_run(found), "findings": [finding.model_dump() for finding in found]}))
    else:
        for finding in found:
            typer.echo(f"{finding.level.value:<6} {finding.what:<14} {finding.found}")
            if finding.level is not Level.OK:
                typer.echo(f"{'':<22}{finding.cost}\n{'':<22}-> {finding.mend}")
        n = sum(finding.level is not Level.OK for finding in found)
        last = "the configured pipeline can run" if can_run(found) else "the configured pipeline cannot run"
        typer.echo(f"{last}: {n} of {len(found)} lines are not ok")
    if not can_run(found):
        raise typer.Exit(Exit.ERROR)


def plan(
    seconds: Annotated[float, typer.Option(min=1, help="For about how long to measure.")] = 50.0,
    after: Annotated[bool, typer.Option("--after", help="Set what the run took beside the last plan.")] = False,
    elsewhere: Annotated[bool, typer.Option("--elsewhere", help="And on a cluster, by list prices.")] = False,
    rate: Annotated[list[str] | None, typer.Option(help="For --elsewhere: NAME=NUMBER, see docs/cluster.md.")] = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say how many tiles, bytes and seconds each stage will take, from headers and a minute's measurement.

    histill plan --seconds 20
    """
    with errors(debug):
        from pipeline.machine.plan import after as record
        from pipeline.machine.plan.elsewhere import lines, rates_of, size_of
        from pipeline.machine.plan.planned import make_plan
        from pipeline.params.load import load_params
        from pipeline.params.whole import WholeParams

        if after:
            outcomes = record.compare(record.read())
            if json:
                typer.echo(as_json([outcome.model_dump() for outcome in outcomes]))
            else:
                _tell_outcomes(outcomes)
            return
        params = load_params(WholeParams)
        rates = rates_of(rate or [])
        made = make_plan(params, store_of(params), seconds)
        record.save(made)
        taken = lines(size_of(made, params), rates) if elsewhere else []
        if json:
            told: dict[str, Json] = made.model_dump()
            if taken:
                told |= {"elsewhere": [line.model_dump() for line in taken], "rates": rates.model_dump()}
            typer.echo(as_json(told))
            return
        _tell_plan(made, record.FILE)
        if taken:
            _tell_elsewhere(taken)


def _tell_plan(made: Plan, file: Path) -> None:
    told = (
        f"{made.slides} slides, {made.looked_at} of them looked at, {made.tiles} tiles, {made.train_tiles} to train on"
    )
    typer.echo(f"{told}; {made.cores} cores; measured in {seconds_text(made.measured_s)}")
    for slide, why in made.refused.items():
        typer.echo(f"without {slide}: {why}")
    for stage in made.stages:
        took = "" if stage.seconds is None else seconds_text(stage.seconds)
        size = "" if stage.nbytes is None else human(stage.nbytes)
        typer.echo(f"{stage.stage:<10}{took:>9}{size:>10}  {stage.basis}")
    typer.echo(f"{'together':<10}{seconds_text(made.seconds):>9}{human(made.nbytes):>10}  without embed")
    if made.nbytes > made.free_nbytes:
        typer.echo(f"the store has {human(made.free_nbytes)} free: not enough")
    typer.echo(f"kept in {file}; after the run: histill plan --after")


def _tell_elsewhere(taken: list[Line]) -> None:
    from pipeline.machine.plan.printed import COLUMNS, rows

    typer.echo("elsewhere; ~: by assumed speeds and prices, which were not measured here (--rate; docs/cluster.md):")
    for name, *cells in (COLUMNS, *rows(taken)):
        typer.echo(f"{name:<22}" + "".join(f"{cell:>13}" for cell in cells))


def _tell_outcomes(outcomes: list[Outcome]) -> None:
    typer.echo(f"{'stage':<10}{'planned':>9}{'took':>9}{'x':>7}{'tiles':>18}{'bytes':>22}")
    for one in outcomes:
        planned, took = ("" if s is None else seconds_text(s) for s in (one.planned_s, one.taken_s))
        ratio = "" if one.ratio_s is None else f"{one.ratio_s:.2f}"
        tiles = "" if one.made_tiles is None else f"{one.planned_tiles} -> {one.made_tiles:g}"
        nbytes = "" if one.made_nbytes is None else f"{human(one.planned_nbytes or 0)} -> {human(one.made_nbytes)}"
        typer.echo(f"{one.stage:<10}{planned:>9}{took:>9}{ratio:>7}{tiles:>18}{nbytes:>22}  {one.why}".rstrip())

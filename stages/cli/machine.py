"""`histill doctor`: what this machine is, before a long run."""

from __future__ import annotations

import typer

from pipeline.base.files import as_json
from stages.command import AsJson, Debug, Exit, errors


def add_to(cli: typer.Typer) -> None:
    """Add this command."""
    cli.command()(doctor)


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

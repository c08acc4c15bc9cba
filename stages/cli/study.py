"""`histill study`: the arms of a plan as experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.errors import StudyError
from pipeline.base.files import dvc_root
from pipeline.base.types import Json
from stages.command import AsJson, Debug, errors, find_store, tell


def add_to(cli: typer.Typer) -> None:
    """Add this command."""
    cli.command()(study)


def study(
    plan: Annotated[Path, typer.Argument(help="The arms, as in docs/study.yaml.")],
    data: Annotated[Path, typer.Option(help="The folder that {data} stands for in the plan.")],
    out: Annotated[Path, typer.Option(help="Folder of the clone and the results; what is there is not run again.")] = (
        Path("study")
    ),
    split: Annotated[
        list[str] | None, typer.Option(help="Held-out splits to tabulate (repeat for more); all of them.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments at a time; each gets its share of the cores.")] = 1,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run every arm of a plan over its seeds as DVC experiments, and print their table: goes on where it was.

    histill study docs/study.yaml --data /data --jobs 2
    """
    from pipeline.study.run import read_plan, run_study
    from pipeline.study.table import markdown, results_of, splits_of

    with errors(debug):
        told = read_plan(plan, data).at(dvc_root())
        results = run_study(told, dvc_root(), out, find_store().root, jobs)
        there = splits_of(told, results)
        if split and (strange := sorted(set(split).difference(there))):
            fix = f"there are: {', '.join(there)}; what was run is kept"
            raise StudyError(f"no held-out split {', '.join(strange)}", where="--split", fix=fix)
        by_split = {name: results_of(told, results, name) for name in split or there}
        figures: dict[str, Json] = {
            name: {
                arm: {str(seed): probed.split.model_dump(mode="json") for seed, probed in of.items()}
                for arm, of in found.items()
            }
            for name, found in by_split.items()
        }
        tell(json, figures, [markdown(found, name) + "\n" for name, found in by_split.items()])

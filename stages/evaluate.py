"""Stage `evaluate`: what the student keeps of the teacher, on slides it was not trained on.

In:  artifacts/{tiles,tokens,student}.json, models/student/, params `evaluate`.
Out: artifacts/evaluate.json (fidelity, probes of both under one protocol, retention), plots/{fidelity,probes}.csv.
Run: dvc repro evaluate, or python -m stages.evaluate
"""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.evaluation.evaluate import evaluate_student
from pipeline.manifest import Manifest
from pipeline.params import Params
from pipeline.store import Store
from stages.command import Debug, execute, load


def run(params: Params, store: Store) -> Manifest:
    """Compare the student with the teacher's cached answers."""
    tiles, tokens = load("tiles"), load("tokens")
    store.require(tiles)
    store.require(tokens)
    return evaluate_student(tiles, tokens, Path("models/student"), params.evaluate, store)


def main(debug: Debug = False) -> None:
    """What the student keeps of the teacher, on slides it was not trained on."""
    execute("evaluate", run, debug)


if __name__ == "__main__":
    typer.run(main)

"""Stage `student`: a small encoder learns the teacher's answers from the cache, and is exported.

In:  artifacts/tiles.json, artifacts/tokens.json, tiles and tokens in the store, params `student`.
Out: models/student/ (timm folder, adapter, model card), artifacts/student.json, plots/training.csv; checkpoints in the
     store, so that a killed run goes on and a finished one is never repeated.
Run: dvc repro student, or python -m stages.student, or accelerate launch -m stages.student, or
     torchrun --nproc-per-node N -m stages.student
"""

from pathlib import Path

import typer

from pipeline.base.items import StudentManifest, TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.params.site import SiteParams
from pipeline.params.student import StudentParams
from pipeline.student.train import train_student
from stages.command import Debug, Wait, execute, load


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    student: StudentParams = StudentParams()


def run(params: Params, store: Store) -> StudentManifest:
    """Train on the slides whose split is `train`, then export."""
    tiles, tokens = load(TilesManifest), load(TokensManifest)
    out, curve = Path("models/student"), Path("plots/training.csv")
    log = Path("reports/tensorboard")
    manifest, timings = train_student(tiles, tokens, params.student, store, out=out, curve=curve, log=log)
    return manifest.model_copy(update={"timings": timings})


def main(debug: Debug = False, wait: Wait = None) -> None:
    """A small encoder learns the teacher's answers from the cache, and is exported."""
    execute("student", Params, run, debug, wait)


if __name__ == "__main__":
    typer.run(main)

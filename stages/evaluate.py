"""Stage `evaluate`: what the student keeps of the teacher, on slides it was not trained on.

In:  artifacts/{tiles,tokens,student}.json, models/student/, params `evaluate`; the labelled data sets that it names;
     for them and for robustness the teacher itself (params `tokens`).
Out: artifacts/evaluate.json (fidelity, probes of both under one protocol, retention), plots/{fidelity,probes}.csv,
     plots/maps/ (patch tokens as colours); in the store, tiles and tokens of the data sets, the student's answers and
     the figures, so that a second run of the same student takes seconds.
Run: dvc repro evaluate, or python -m stages.evaluate
"""

from pathlib import Path

import typer

from pipeline.base.items import StudentManifest, TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.stage import evaluate_student
from pipeline.evaluate.teacher_source import TeacherSource
from pipeline.evaluate.upstream import Upstream
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tokens import TokensParams
from stages.command import Debug, Wait, execute, load


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    slides: SlidesParams = SlidesParams()
    tokens: TokensParams = TokensParams()
    evaluate: EvaluateParams = EvaluateParams()


def run(params: Params, store: Store) -> EvaluateManifest:
    """Compare the student with the teacher's cached answers."""
    tiles, tokens = load(TilesManifest), load(TokensManifest)
    store.require(tiles)
    store.require(tokens)
    teacher = TeacherSource(params.tokens, params.slides.demo_px)
    upstream = Upstream(tiles, tokens, load(StudentManifest), Path("models/student"))
    return evaluate_student(upstream, params.evaluate, teacher, store)


def main(debug: Debug = False, wait: Wait = None) -> None:
    """What the student keeps of the teacher, on slides it was not trained on."""
    execute("evaluate", Params, run, debug, wait)


if __name__ == "__main__":
    typer.run(main)

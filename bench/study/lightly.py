"""LightlyTrain's distillation as a row beside the arms of `bench.study.held_out`: same student, tiles and steps.

Its newest method (`distillationv3`, github.com/lightly-ai/lightly-train) with its own recipe: the teacher answers in
every step to a view that is cropped, flipped, changed in colour, blurred and mixed with another, and the student's
similarities to a queue of the teacher's answers, and between the positions of one tile, follow the teacher's by KL.
Learning rate, its scaling by the batch, warm-up and weight decay are its own where `--lr` is not given. What is trained
on are the train tiles that `held_out` trains on, for its passes of its batch; the model that it exports at the end is
scored on every held-out split, by the functions that score the arms:

    exported           the embedding that its user gets, narrower than the teacher's and not in its space: probes
    through its head   what the linear head of its training makes of that, which is a direction in the teacher's space,
                       made as long as the teacher's answers are in the mean; the export does not hold it
    its teacher        what the student is taught by: the teacher's own answers to the same tiles at `--view-px`, where
                       that is not the side at which the cache was answered

    python -m bench.study.lightly PLAN --data DIR --out OUT --lightly VENV/bin/python

In a project as `held_out` wants it, with a timm CNN as `tokens.teacher` and its `tokens.weights` on disk. Of the plan
base and the first seed are taken. VENV is an environment with lightly-train and timm (`pip install lightly-train
timm`); where it is missing, that is said and nothing is done. LightlyTrain's own reports of use are switched off. The
teacher runs in every step, which is most of the cost and grows with the square of `--view-px`. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.evaluate.geometries import geometries
from bench.printing import finish, show
from bench.study.held_out import (
    TILES,
    Floats,
    Images,
    Subject,
    Tiles,
    open_subject,
    probed,
    student_params,
    untrained,
)
from pipeline.base.items import TRAIN, TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.evaluate.selection import splits
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.params.student import StudentParams
from pipeline.params.tokens import TokensParams
from pipeline.student.recipe import input_side
from pipeline.study.run import read_plan

WAYS = (
    ("exported", "student {}", False),
    ("through its head", "student {}, head", True),
    ("its teacher", "teacher {}", False),
)
"""What is scored, under which name its answers lie, and whether they are of length 1."""
PROGRAM = Path(__file__).with_name("lightly_training.py")


class Params(SiteParams):
    """What of params.yaml is taken."""

    student: StudentParams = StudentParams()
    tokens: TokensParams = TokensParams()


@dataclass(frozen=True)
class Job:
    """What lightly_training.py is told."""

    model: str
    input_px: int
    teacher: str
    weights: str
    view_px: int
    epochs: int
    batch_size: int
    seed: int
    steps: int
    """At most; -1 is as many as the passes have."""
    lr: float | None
    """Before it is scaled by the batch; null is LightlyTrain's."""


def missing(python: Path) -> str | None:
    """Why that Python has no LightlyTrain; None where it has."""
    if not python.exists():
        return f"no such file: {python}"
    asked = [str(python), "-I", "-c", "import lightly_train, timm"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    return told.stderr.strip().splitlines()[-1] if told.returncode else None


def views(store: Store, px: int) -> dict[str, Images]:
    """The tiles of each split, train too, as its teacher sees them."""
    manifests = TilesManifest.load(TILES), TokensManifest.load(Path("artifacts/tokens.json"))
    found = splits(*manifests, store)
    return {split: Tiles.of(samples, px).image_NHWC for split, samples in found.items()}


def trained(python: Path, job: Job, subject: Subject, larger: dict[str, Images], folder: Path) -> dict[str, Floats]:
    """What its model answers (lightly_training.py), from FOLDER where it was trained already."""
    path = folder / "answers.npz"
    if not path.exists():
        tiles = folder / "tiles"
        tiles.mkdir(parents=True, exist_ok=True)
        corpus = subject.corpus
        for slide, reader in enumerate(corpus.tiles):
            for row in corpus.kept(slide):
                (tiles / f"{slide}-{row}.jpg").write_bytes(reader.jpeg(int(row)))
        ask = {f"student {split}": held.image_NHWC for split, held in subject.held.items()}
        ask[f"student {TRAIN}"] = subject.train.image_NHWC
        ask |= {f"teacher {split}": image_NHWC for split, image_NHWC in larger.items()}
        np.savez(folder / "ask.npz", **ask)  # type: ignore[arg-type]
        (folder / "job.json").write_text(json.dumps(asdict(job)))
        own = {"LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "LIGHTLY_TRAIN_CACHE_DIR": str(folder / "cache")}
        subprocess.run([python, "-I", PROGRAM, folder], env={**os.environ, **own}, check=True)
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def rows(subject: Subject, found: dict[str, Floats], floors: dict[str, dict[str, float]]) -> dict[str, Any]:
    """By split and by what is scored: cosines, balanced accuracies and how far from untrained to teacher they are."""
    told: dict[str, Any] = {}
    for split, held in subject.held.items():
        teacher = probed(subject.train.teacher_ND, subject.train, held.teacher_ND, held)
        told[split] = {"teacher": teacher, "untrained": floors[split]}
        for what, name, scale in WAYS:
            if name.format(split) not in found:
                continue
            answer_ND, train_ND = (found[name.format(part)] for part in (split, TRAIN))
            of = probed(train_ND, subject.train, answer_ND, held)
            for probe, best in teacher.items():
                of[f"{probe}, of the way"] = (of[probe] - floors[split][probe]) / (best - floors[split][probe])
            if answer_ND.shape == held.teacher_ND.shape:
                of["cosine"] = _cosine(held.teacher_ND, answer_ND, subject.train.teacher_ND, scale)
                if scale and f"teacher {split}" in found:
                    own_ND, own_train_ND = (found[f"teacher {part}"] for part in (split, TRAIN))
                    of["cosine to its teacher"] = _cosine(own_ND, answer_ND, own_train_ND, scale)
            told[split][what] = of
    return told


def _cosine(teacher_ND: Floats, answer_ND: Floats, train_ND: Floats, scale: bool) -> float:
    """Standardised by `train_ND`; with `scale`, of answers that are made as long as those are in the mean."""
    length = float(np.linalg.norm(train_ND, axis=1).mean()) if scale else 1.0
    return geometries(teacher_ND, answer_ND * length, train_ND)["channel"]


def main() -> None:
    """Train what is not trained yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="what {data} stands for in the plan")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lightly", type=Path, required=True, help="the Python that has lightly-train")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of each train slide's tiles")
    parser.add_argument("--view-px", type=int, default=112, help="side of what the teacher sees")
    parser.add_argument("--steps", type=int, default=-1, help="at most, for a trial")
    parser.add_argument("--lr", type=float, help="peak learning rate, before its scaling by the batch")
    asked = parser.parse_args()
    why = missing(asked.lightly)
    if why is not None:
        print(f"Nothing was run, without lightly-train: {why}")
        finish({"skipped": why})
        return
    plan, site = read_plan(asked.plan, asked.data), load_params(Params)
    store = Store.find(site.store.root)
    params = student_params(site.student, plan.base).model_copy(update={"seed": plan.seeds[0]})
    px = input_side(params, TilesManifest.load(TILES).tile_px)
    subject = open_subject(px, store, asked.held_out)
    weights = site.tokens.weights
    if weights is None:
        parser.error("tokens.weights names no file")
    job = Job(
        params.model, px, site.tokens.teacher, str(Path(weights).resolve()), asked.view_px,
        params.epochs, params.batch_size, params.seed, asked.steps, asked.lr,
    )  # fmt: skip
    asked.out.mkdir(parents=True, exist_ok=True)
    folder = (asked.out / f"lightly-{asked.view_px}-lr{asked.lr}-s{params.seed}").resolve()
    larger = {} if asked.view_px == site.tokens.input_px else views(store, asked.view_px)
    found = trained(asked.lightly, job, subject, larger, folder)
    told = rows(subject, found, untrained(params, subject, px, asked.out))
    columns = ("cosine", "cosine to its teacher", "linear", "linear, of the way", "knn", "knn, of the way")
    for split, each in told.items():
        show(split, ("", *columns), [(what, *(of.get(column) for column in columns)) for what, of in each.items()])
    finish({**json.loads((folder / "told.json").read_text()), "job": asdict(job), "splits": told})


if __name__ == "__main__":
    main()

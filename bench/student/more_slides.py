"""More slides came: what of the steps it takes to go on from the last student, against training anew.

In a project whose `tokens` stage has run, with its section `student`:

    before     a student of the first half of the train slides (by id; at least one), trained as params.yaml says
    anew       a student of all of them from random weights, as long
    going on   students of all of them that start from `before` (`student.weights`), optimiser and cosine begun anew,
               for each share of the passes that `--shares` names

Each is scored by its standardised cosine to the teacher on all held-out tiles, and by the linear probe of tile labels
where there are any. `--seeds` repeats all of it. Students are kept in the project's store as the stage keeps them, so
that a run that was stopped goes on, and `histill store prune` takes them away.

Run: python -m bench.student.more_slides [--shares 0.25 0.5] [--seeds 0 1 2]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.items import TRAIN, TilesManifest, TokensManifest
from pipeline.base.progress import track
from pipeline.base.store import Store
from pipeline.evaluate.answers.features import student_features, teacher_features
from pipeline.evaluate.selection import Sample, count, label_of_tiles, splits
from pipeline.measures.fidelity.embedding import Scale, cosine
from pipeline.measures.probes.probes import linear_head
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.params.student import StudentParams
from pipeline.student.exported import load_student
from pipeline.student.train import train_student

Floats = NDArray[np.float32]


class Params(SiteParams):
    """What of params.yaml is taken."""

    student: StudentParams = StudentParams()


@dataclass(frozen=True)
class Known:
    """The tiles by which students are scored, and what the teacher answers to them."""

    train: Sequence[Sample]
    held: Sequence[Sample]
    store: Store

    def score(self, folder: Path) -> tuple[float, float | None]:
        """(cosine, balanced accuracy of the linear probe or None without labels) of an exported student."""
        student = load_student(folder)
        scale = Scale.of(teacher_features(self.train))
        train_ND, held_ND = (_answers(student, samples) for samples in (self.train, self.held))
        found = float(cosine(scale(teacher_features(self.held)), scale(held_ND)).mean())
        labels = [np.array(label_of_tiles(samples)) for samples in (self.train, self.held)]
        train_M, held_M = (of != str(None) for of in labels)
        if len(set(labels[0][train_M])) < 2 or not held_M.any():
            return found, None
        own = Scale.of(train_ND[train_M])
        truth = labels[1][held_M]
        told = linear_head(own(train_ND[train_M]), labels[0][train_M]).predict(own(held_ND[held_M]))
        return found, float(np.mean([(told[truth == one] == one).mean() for one in np.unique(truth)]))


def _answers(student: object, samples: Sequence[Sample]) -> Floats:
    with track("asked", count(samples), "tiles") as advance:
        return np.concatenate([answer for (answer,) in student_features([student], samples, 64, advance)])  # type: ignore[list-item]


def first_half(tokens: TokensManifest) -> TokensManifest:
    """With the first half of the train slides, and none held out."""
    train = sorted((item for item in tokens.items if item.in_train and item.n), key=lambda item: item.id)
    return tokens.model_copy(update={"items": tuple(train[: max(1, len(train) // 2)])})


def compare(
    tiles: TilesManifest, tokens: TokensManifest, params: StudentParams, known: Known, shares: Sequence[float]
) -> list[tuple[str, int, float, float | None]]:
    """(what, steps, cosine, linear probe) of each student of one seed."""
    rows = []
    with scratch() as folder:

        def trained(name: str, of: TokensManifest, how: StudentParams) -> str:
            """Train, score, and say where the store has it."""
            manifest, _ = train_student(tiles, of, how, known.store, out=folder / name, curve=folder / f"{name}.csv")
            rows.append((name, manifest.summary.steps, *known.score(folder / name)))
            return str(manifest.uses[0])

        before = trained("before", first_half(tokens), params)
        trained("anew", tokens, params)
        for share in shares:
            epochs = max(1, ceil(share * params.epochs))
            how = params.model_copy(update={"weights": before, "epochs": epochs})
            trained(f"going on, {share:g} of the passes", tokens, how)
    return rows


def main() -> None:
    """Train, and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5], help="of params.yaml's passes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()
    tiles, tokens = TilesManifest.load(Path("artifacts/tiles.json")), TokensManifest.load(Path("artifacts/tokens.json"))
    site = load_params(Params)
    store = Store.find(site.store.root, site.store.base)
    found = splits(tiles, tokens, store)
    known = Known(found.pop(TRAIN), [sample for samples in found.values() for sample in samples], store)
    told = {}
    for seed in asked.seeds:
        rows = compare(tiles, tokens, site.student.model_copy(update={"seed": seed}), known, asked.shares)
        show(f"More slides came, seed {seed}", ("student", "steps", "cosine", "linear probe"), rows)
        told[str(seed)] = {name: {"steps": steps, "cosine": c, "linear": p} for name, steps, c, p in rows}
    finish(told)


if __name__ == "__main__":
    main()

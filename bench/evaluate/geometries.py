"""A finished student's cosine to its teacher in both geometries in which targets are standardised.

    channel   each channel divided by its own deviation: what `evaluate` states, and `standardise: channel` trains in
    phi-s     all channels divided by one number: the teacher's own angles, in which `standardise: phi-s` trains

Both are centred by the teacher's mean over its train tiles. The rotation of PHI-S, and its one scale, change no cosine,
so none is computed. A student trained in one geometry and scored in the other alone is scored for what it gave up on
purpose: compare `cls_kind: mse` (which a rotation does change) by `standardise` in both columns.

Run in a project whose `student` stage has run: python -m bench.evaluate.geometries [--folder models/student]
[--artifacts artifacts]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.printing import finish, show
from pipeline.base.items import TRAIN, TilesManifest, TokensManifest
from pipeline.base.progress import track
from pipeline.base.store import Store
from pipeline.evaluate.answers.features import student_features, teacher_features
from pipeline.evaluate.selection import count, splits, spread
from pipeline.measures.fidelity.embedding import Scale, cosine
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.student.exported import load_student

Features = NDArray[np.float32]


def geometries(teacher_ND: Features, student_ND: Features, train_MD: Features) -> dict[str, float]:
    """Mean cosine over N tiles in each geometry; `train_MD` are the teacher's answers to its train tiles."""
    scale = Scale.of(train_MD)
    return {
        "channel": float(cosine(scale(teacher_ND), scale(student_ND)).mean()),
        "phi-s": float(cosine(teacher_ND - scale.mean_D, student_ND - scale.mean_D).mean()),
    }


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("models/student"), help="an exported student")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="the run's manifests")
    parser.add_argument("--most", type=int, default=5000, help="tiles of a split, evenly spread")
    asked = parser.parse_args()
    tiles = TilesManifest.load(asked.artifacts / "tiles.json")
    tokens = TokensManifest.load(asked.artifacts / "tokens.json")
    found = splits(tiles, tokens, Store.find(load_params(SiteParams).store.root))
    train_MD, model = teacher_features(found.pop(TRAIN)), load_student(asked.folder)
    told: dict[str, dict[str, float]] = {}
    for split, samples in sorted(found.items()):
        chosen = spread(samples, asked.most)
        with track(split, count(chosen), "tiles") as advance:
            answers = list(student_features([model], chosen, 64, advance))
        student_ND = np.concatenate([answer_nD for (answer_nD,) in answers])
        told[split] = {"tiles": count(chosen), **geometries(teacher_features(chosen), student_ND, train_MD)}
    rows = [(split, of["tiles"], of["channel"], of["phi-s"]) for split, of in told.items()]
    show(f"Cosine of {asked.folder} to its teacher", ("split", "tiles", "channel", "PHI-S"), rows)
    finish({split: {name: round(value, 4) for name, value in of.items()} for split, of in told.items()})


if __name__ == "__main__":
    main()

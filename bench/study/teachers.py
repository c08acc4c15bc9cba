"""What a student of two teachers gives up and gains beside students of either: equal steps, several seeds.

Arms: a student of each teacher alone, of all with fixed weights, and of all balanced by uncertainty. Each is trained by
`train_student` as stage `student` would (finished ones are found in the store), with the section `student` of
params.yaml, so that every arm takes the same steps over the same tiles in the same order, and starts from the same
trunk. Scored on every held-out split:

    cosine of a head   to its teacher, standardised by the teacher's train statistics, as `evaluate` has it
    linear, knn        balanced accuracy of the two probes fitted on all train tiles: of each head's answers, of the
                       trunk (the features before the last layer), of each teacher, and of the trunk as it is drawn

A table has the mean over the seeds and their sample deviation; beneath it stands what an arm differs by from the
student of that teacher alone, seed by seed, with the 95 % interval of Student's t over the seeds. Run in a project with
`tokens.also` whose stage `tokens` has run (docs/study_teachers.yaml has the parameters of ours):

    python -m bench.study.teachers --seeds 0 1 2 --out OUT

Every run's figures lie in OUT as JSON, by arm and seed. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from bench.printing import finish, show
from bench.study.held_out import Floats, Images, Tiles, probed
from pipeline.base.files import write_atomic
from pipeline.base.items import TRAIN, TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store
from pipeline.evaluate.selection import splits
from pipeline.measures.fidelity.embedding import Scale, cosine
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.params.student import StudentParams
from pipeline.student.export import into_own_units, load_run
from pipeline.student.model import Student, build
from pipeline.student.recipe import input_side
from pipeline.student.train import train_student
from stages.command import find_store

BATCH = 128
Told = dict[str, dict[str, float]]
"""Figures by split."""


class Params(SiteParams):
    """What of params.yaml is taken."""

    student: StudentParams = StudentParams()


@dataclass(frozen=True)
class Subject:
    """The manifests, and each teacher's answers to the same tiles by split, at the student's side."""

    tiles: TilesManifest
    tokens: TokensManifest
    seen: dict[str, dict[str, Tiles]]

    @classmethod
    def of(cls, tiles: TilesManifest, tokens: TokensManifest, store: Store, px: int) -> Subject:
        """Read and decoded."""
        seen: dict[str, dict[str, Tiles]] = {}
        for one in tokens.each:
            found = splits(tiles, one, store)
            seen[one.teacher.name] = {split: Tiles.of(samples, px) for split, samples in sorted(found.items())}
        return cls(tiles, tokens, seen)

    @property
    def any(self) -> dict[str, Tiles]:
        """The tiles by split, with some teacher's answers."""
        return next(iter(self.seen.values()))

    def arms(self) -> dict[str, tuple[TokensManifest, str]]:
        """By name: whose answers, and how they are balanced."""
        alone = {
            f"{one.teacher.name} alone": (one.model_copy(update={"also": ()}), "fixed") for one in self.tokens.each
        }
        return {**alone, "both": (self.tokens, "fixed"), "both, by uncertainty": (self.tokens, "uncertainty")}


@torch.inference_mode()
def answers(student: Student, image_NHWC: Images) -> tuple[list[Floats], Floats]:
    """(each head's answer, the features before the last layer), (N, D) and (N, F)."""
    caught: list[torch.Tensor] = []
    hook = student.last.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    parts = [student(torch.from_numpy(image_NHWC[i : i + BATCH]))[0] for i in range(0, len(image_NHWC), BATCH)]
    hook.remove()
    heads: list[Floats] = [head.numpy() for head in torch.split(torch.cat(parts), list(student.widths), dim=1)]
    trunk: Floats = torch.cat(caught).numpy()
    return heads, trunk


def scored(subject: Subject, student: Student, teachers: list[str]) -> dict[str, Told]:
    """Of each head and of the trunk."""
    tiles = subject.any
    heads, trunk = zip(*(answers(student, part.image_NHWC) for part in tiles.values()), strict=True)
    by_split = dict(zip(tiles, heads, strict=True))
    told = {"trunk": probes(dict(zip(tiles, trunk, strict=True)), tiles)}
    for place, name in enumerate(teachers):
        own = {split: found[place] for split, found in by_split.items()}
        told[name] = probes(own, tiles)
        scale = Scale.of(subject.seen[name][TRAIN].teacher_ND)
        for split, figures in told[name].items():
            target_ND = subject.seen[name][split].teacher_ND
            figures["cosine"] = float(cosine(scale(target_ND), scale(own[split])).mean())
    return told


def probes(found: dict[str, Floats], tiles: dict[str, Tiles]) -> Told:
    """On every held-out split."""
    return {split: probed(found[TRAIN], tiles[TRAIN], found[split], tiles[split]) for split in found if split != TRAIN}


def run(subject: Subject, arm: str, params: StudentParams, store: Store, out: Path) -> dict[str, Told]:
    """Train, or find trained, and score; kept in OUT."""
    path = out / f"{arm.replace(' ', '-')}-s{params.seed}.json"
    if not path.exists():
        tokens, balance = subject.arms()[arm]
        teachers = params.teachers.model_copy(update={"balance": balance})
        asked = params.model_copy(update={"teachers": teachers})
        made, _ = train_student(subject.tiles, tokens, asked, store, out=out / "student", curve=out / "curve.csv")
        _, distiller, targets = load_run(store.path(Ref("checkpoints", made.recipe_key, "run")))
        into_own_units(distiller, targets)
        told = scored(subject, distiller.student.eval(), [one.teacher.name for one in tokens.each])
        write_atomic(path, json.dumps({**told, "loss": {"train": made.summary.loss}}).encode())
    found: dict[str, Told] = json.loads(path.read_text())
    return found


def untrained(subject: Subject, params: StudentParams, px: int) -> Told:
    """The trunk as the seed draws it."""
    width = subject.tokens.summary.width
    distiller, _ = build(
        model=params.model, width=width, input_px=px, adapter=None, grid=(1, 1), seed=params.seed,
        model_kwargs=params.model_kwargs,
    )  # fmt: skip
    return scored(subject, distiller.student.eval(), [])["trunk"]


def spread(values: list[float]) -> str:
    """Mean and sample deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3f} ± {deviation:.3f}"


def between(arm: list[float], alone: list[float]) -> str:
    """Mean of the differences by seed, and its interval."""
    difference: NDArray[np.float64] = np.array(arm) - np.array(alone)
    n = len(difference)
    reach = stats.t.ppf(0.975, n - 1) * difference.std(ddof=1) / n**0.5 if n > 1 else float("nan")
    return f"{difference.mean():+.3f} ± {reach:.3f}"


def main() -> None:
    """Train, print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", help="only these (all there are)")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    params, store = load_params(Params).student, find_store()
    tiles = TilesManifest.load(Path("artifacts/tiles.json"))
    px = input_side(params, tiles.tile_px)
    subject = Subject.of(tiles, TokensManifest.load(Path("artifacts/tokens.json")), store, px)
    found: dict[str, list[dict[str, Told]]] = {arm: [] for arm in asked.arms or subject.arms()}
    drawn: list[Told] = []
    for seed in asked.seeds:
        of_seed = params.model_copy(update={"seed": seed})
        drawn.append(untrained(subject, of_seed, px))
        for arm, runs in found.items():
            runs.append(run(subject, arm, of_seed, store, asked.out))
    names = [one.teacher.name for one in subject.tokens.each]
    alone = {name: f"{name} alone" for name in names}
    for split in (each for each in subject.any if each != TRAIN):
        rows: list[tuple[str, ...]] = []
        for name in names:
            of_teacher = {part: each.teacher_ND for part, each in subject.seen[name].items()}
            told = probes(of_teacher, subject.any)[split]
            rows.append((f"teacher {name}", "", f"{told['linear']:.3f}", f"{told['knn']:.3f}"))
        rows.append(
            ("untrained trunk", "", *(spread([one[split][probe] for one in drawn]) for probe in ("linear", "knn")))
        )
        for arm, runs in found.items():
            for part in ("trunk", *names):
                if part not in runs[0]:
                    continue
                cells = [
                    spread([one[part][split][figure] for one in runs]) if figure in runs[0][part][split] else ""
                    for figure in ("cosine", "linear", "knn")
                ]
                rows.append((f"{arm}: {part}", *cells))
        show(f"{split}: {len(asked.seeds)} seeds", ("", "cosine", "linear", "knn"), rows)
        against: list[tuple[str, ...]] = []
        for arm in (each for each in found if each not in alone.values()):
            for name in names:
                for part in ("trunk", name):
                    cells = [
                        between([one[part][split][figure] for one in found[arm]],
                                [one[part][split][figure] for one in found[alone[name]]])
                        if figure in found[arm][0][part][split] else ""
                        for figure in ("cosine", "linear", "knn")
                    ]  # fmt: skip
                    against.append((f"{arm}, {part} against {alone[name]}", *cells))
        show(f"{split}: differences by seed", ("", "cosine", "linear", "knn"), against)
    finish({"seeds": asked.seeds, "arms": found, "untrained": drawn})


if __name__ == "__main__":
    main()

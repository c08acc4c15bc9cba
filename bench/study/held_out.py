"""Arms of a plan trained with a part of each train slide held out, and stopped early by that part.

`histill study` trains every arm to the end of its schedule and scores that. Where tiles are few, an end may be past the
best: here a share of each train slide's tiles (`--held-out`; those that `student.train_fraction` leaves out, evenly
spread) is kept from the training and from the targets' statistics. At so many evenly spaced steps (`--points`) the
moving average is copied, its batch norm measured, and its cosine to the teacher on the part held out taken, and on up
to `--curve-tiles` tiles of each held-out split, which decide nothing. The copy that is best on the part held out is
what is scored, on every held-out split:

    cosine             standardised by the teacher's train statistics, as `evaluate` has it; and in the other geometry
                       (`bench.evaluate.geometries`)
    linear, knn        balanced accuracy of the two probes, fitted on all train tiles, and of the teacher and the
                       untrained network; `of the way`: (student - untrained) / (teacher - untrained)
    agreement          with itself on tiles that are stained, scaled, blurred, compressed or turned (`robustness`)

Run in a project whose `tokens` stage has run, of whose params.yaml the section `student` is where every arm starts:

    python -m bench.study.held_out PLAN --data DIR --out OUT

Of the plan (docs/study_inputs.yaml is one) arms and seeds are taken, and of base and arms what begins with `student.`.
Tiles are decoded once and kept at the student's side, so what a step takes here is the training alone. A run that was
stopped goes on from its checkpoint; finished ones lie in OUT as JSON. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch.optim.swa_utils import update_bn

from bench.evaluate.geometries import geometries
from bench.printing import finish, show
from pipeline.base.files import write_atomic
from pipeline.base.items import TRAIN, TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.loader import Batch, BatchShape, Loader
from pipeline.corpus.targets import Standardiser, cls_standardiser
from pipeline.evaluate.answers.features import teacher_features
from pipeline.evaluate.selection import Sample, label_of_tiles, primary, splits
from pipeline.measures.fidelity.embedding import Scale, cosine
from pipeline.measures.probes.probes import linear_head, vote
from pipeline.measures.robustness.perturbations import CHANGES
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.params.student import StudentParams
from pipeline.student.device import make_accelerator
from pipeline.student.loop import Training
from pipeline.student.losses import Losses
from pipeline.student.model import Distiller, Student, build
from pipeline.student.recipe import input_side
from pipeline.student.start import load_start
from pipeline.study.run import Overrides, read_plan
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import fit_square

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
BN_TILES, BATCH, KNN_K, ROBUSTNESS_TILES = 512, 128, 20, 64
TILES = Path("artifacts/tiles.json")


class Params(SiteParams):
    """What of params.yaml is taken."""

    student: StudentParams = StudentParams()


@dataclass(frozen=True)
class Decoded(Corpus):
    """A corpus of one view whose tiles are decoded once."""

    seen: dict[tuple[int, int, int], Images] = field(default_factory=dict)

    @classmethod
    def of(cls, corpus: Corpus) -> Decoded:
        """The same corpus. Raises `ValueError` where its tiles have several views."""
        if corpus.views > 1:
            raise ValueError(f"tiles have {corpus.views} views: set tokens.views to 1 and tokens.augment.views to 0")
        return cls(**{each.name: getattr(corpus, each.name) for each in fields(Corpus)})

    def image(self, slide: int, row: int, view: int, px: int) -> Images:
        """As `Corpus.image`."""
        found = self.seen.get((slide, row, px))
        if found is None:
            found = self.seen[slide, row, px] = super().image(slide, row, view, px)
        return found


@dataclass(frozen=True)
class Tiles:
    """Some tiles at the student's side, and what the teacher answers to them."""

    image_NHWC: Images
    teacher_ND: Floats
    labels: tuple[str, ...]

    @classmethod
    def of(cls, samples: list[Sample], px: int) -> Tiles:
        """All of them, decoded."""
        images = [TileReader(each.tiles).image(int(row), px) for each in samples for row in each.rows]
        return cls(np.stack(images), teacher_features(samples), tuple(label_of_tiles(samples)))

    def take(self, at: NDArray[np.int64]) -> Tiles:
        """Those at these places."""
        return Tiles(self.image_NHWC[at], self.teacher_ND[at], tuple(self.labels[i] for i in at))

    def spread(self, most: int) -> Tiles:
        """At most so many, evenly spread."""
        n = len(self.labels)
        return self.take(np.arange(min(n, most)) * n // min(n, most))


@dataclass(frozen=True)
class Subject:
    """What every arm is trained on and scored by; `held` are the held-out splits, `part` what is held out of train."""

    corpus: Decoded
    scale: Scale
    train: Tiles
    part: Tiles
    held: dict[str, Tiles]
    large: tuple[Images, ...]
    """Tiles as they are stored, for `agreement`."""


def answers(student: Student, cls: Standardiser, image_NHWC: Images) -> Floats:
    """(N, D) in the teacher's units."""
    weight_DD, bias_D = cls.inverse()
    with torch.inference_mode():
        parts = [student(torch.from_numpy(image_NHWC[i : i + BATCH]))[0] for i in range(0, len(image_NHWC), BATCH)]
        found: Floats = (torch.cat(parts).double() @ weight_DD.T + bias_D).float().numpy()
    return found


class Watched(Training):
    """A training that looks at its moving average at every `every`-th step, and keeps the best copy."""

    subject: Subject
    cls: Standardiser
    every: int
    curve_tiles: int

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """As `Training.step`."""
        values = super().step(step, batch)
        if (step + 1) % self.every == 0 or step + 1 == self.steps:
            self._look(step + 1, values["cls"])
        return values

    def _look(self, done: int, loss: float) -> None:
        """Add a point to points.json, and write best.pt where it is the best on the part held out."""
        student, subject = measured(self), self.subject
        point = {"step": done, "loss": loss, "part": likeness(subject, self.cls, subject.part, student)}
        for split, tiles in subject.held.items():
            point[split] = likeness(subject, self.cls, tiles.spread(self.curve_tiles), student)
        path = self.folder / "points.json"
        known = json.loads(path.read_text()) if path.exists() else []
        # A run that goes on from a checkpoint comes by some steps again.
        points = [one for one in known if one["step"] < done] + [point]
        if point["part"] == max(one["part"] for one in points):
            torch.save(student.state_dict(), self.folder / ".best.pt")
            (self.folder / ".best.pt").replace(self.folder / "best.pt")
        write_atomic(path, json.dumps(points).encode())


def measured(training: Training) -> Student:
    """A copy of the moving average with batch norm measured over `BN_TILES` train tiles, in evaluation mode."""
    average = training.raw if training.average is None else training.average.module
    assert isinstance(average, Distiller)
    student = copy.deepcopy(average.student)
    if not training.params.freeze_batch_norm:
        own = training.loader
        loader = Loader(training.corpus, own.order, BatchShape(BATCH, own.input_px, dense=()), workers=0)
        update_bn((batch.image_NHWC for batch in loader.batches(0, max(1, BN_TILES // BATCH))), student)
    return student.eval()


def likeness(subject: Subject, cls: Standardiser, tiles: Tiles, student: Student) -> float:
    """Mean standardised cosine."""
    found_ND = answers(student, cls, tiles.image_NHWC)
    return float(cosine(subject.scale(tiles.teacher_ND), subject.scale(found_ND)).mean())


def probed(train_ND: Floats, train: Tiles, held_ND: Floats, held: Tiles) -> dict[str, float]:
    """Balanced accuracy of both probes."""
    scale = Scale.of(train_ND)
    fit_ND, ask_ND = scale(train_ND), scale(held_ND)
    found = {"linear": linear_head(fit_ND, train.labels).predict(ask_ND)}
    found["knn"] = vote(fit_ND, train.labels, ask_ND, KNN_K)
    truth = np.asarray(held.labels)
    classes = np.unique(truth)
    return {
        name: float(np.mean([(answer[truth == one] == one).mean() for one in classes]))
        for name, answer in found.items()
    }


def agreement(subject: Subject, cls: Standardiser, student: Student, px: int) -> dict[str, float]:
    """Mean cosine between a tile's answer and its changed self's, by change, as `measures.robustness` has it."""

    def answer(images: list[Images]) -> Floats:
        return answers(student, cls, np.stack([fit_square(rgb_HWC, px) for rgb_HWC in images]))

    clean_ND, found = answer(list(subject.large)), {}
    scale = Scale.of(clean_ND)
    for kind, changes in CHANGES.items():
        changed = [answer([change(rgb, i) for i, rgb in enumerate(subject.large)]) for change in changes]
        found[kind] = float(np.mean([cosine(scale(clean_ND), scale(each_ND)).mean() for each_ND in changed]))
    return found


def untrained(params: StudentParams, subject: Subject, px: int, out: Path) -> dict[str, dict[str, float]]:
    """Probes of the network as a seed draws it, by split; kept in OUT, since arms of a seed share it."""
    path = out / f"untrained-{params.model}-{px}-s{params.seed}.json"
    if not path.exists():
        student, cls = fresh(params, subject.corpus, px).student.eval(), cls_standardiser(subject.corpus)
        train_ND = answers(student, cls, subject.train.image_NHWC)
        found = {
            split: probed(train_ND, subject.train, answers(student, cls, held.image_NHWC), held)
            for split, held in subject.held.items()
        }
        write_atomic(path, json.dumps(found).encode())
    told: dict[str, dict[str, float]] = json.loads(path.read_text())
    return told


def fresh(params: StudentParams, corpus: Corpus, px: int) -> Distiller:
    """A distiller without an adapter, its weights drawn by the seed."""
    distiller, _ = build(
        model=params.model,
        width=corpus.width,
        input_px=px,
        adapter=None,
        grid=corpus.grid,
        seed=params.seed,
        model_kwargs=params.model_kwargs,
    )
    return distiller


def run(params: StudentParams, subject: Subject, store: Store, folder: Path, asked: argparse.Namespace) -> Any:
    """Train one arm with one seed and score its best copy."""
    px, accelerator = subject.part.image_NHWC.shape[1], make_accelerator()
    distiller = fresh(params, subject.corpus, px)
    start = load_start(params, store)
    cls = cls_standardiser(subject.corpus, params.standardise)
    if start is not None:
        start.into(distiller, params.adapter, cls, None)
    if params.head_hidden is not None:
        distiller.student.expand_head(params.head_hidden, params.seed)
    losses = Losses(params, subject.corpus, [cls], accelerator.device)
    training = Watched(distiller, subject.corpus, params, losses=losses, folder=folder, accelerator=accelerator)
    training.subject, training.cls, training.curve_tiles = subject, cls, asked.curve_tiles
    training.every = max(1, training.steps // asked.points)
    began = time.process_time()
    training.run()
    spent = time.process_time() - began
    student = distiller.student
    student.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    student.eval()
    points = json.loads((folder / "points.json").read_text())
    train_ND = answers(student, cls, subject.train.image_NHWC)
    told: dict[str, Any] = {"steps": training.steps, "cpu_s": spent, "points": points}
    told["best_step"] = max(points, key=lambda one: one["part"])["step"]
    for split, held in subject.held.items():
        held_ND = answers(student, cls, held.image_NHWC)
        near = geometries(held.teacher_ND, held_ND, subject.train.teacher_ND)
        told[split] = {"cosine": near["channel"], "cosine_phi_s": near["phi-s"]}
        told[split] |= probed(train_ND, subject.train, held_ND, held)
    told["agreement"] = agreement(subject, cls, student, px)
    return told


def open_subject(px: int, store: Store, held_out: float) -> Subject:
    """Of the project's manifests, at this side of a student's tile."""
    tiles, tokens = TilesManifest.load(TILES), TokensManifest.load(Path("artifacts/tokens.json"))
    corpus = Decoded.of(open_corpus(tiles, tokens, store, 1 - held_out))
    found = splits(tiles, tokens, store)
    train_samples = found.pop(TRAIN)
    train = Tiles.of(train_samples, px)
    kept, first = [], 0
    ids = [item.id for item in corpus.items]
    for sample in train_samples:
        kept.append(first + corpus.kept(ids.index(sample.slide)))
        first += len(sample.rows)
    out = np.setdiff1d(np.arange(first), np.concatenate(kept))
    test = found[primary(list(found)) or ""]
    rows = test[0].rows[np.arange(ROBUSTNESS_TILES) * len(test[0].rows) // ROBUSTNESS_TILES]
    large = tuple(TileReader(test[0].tiles).image(int(row)) for row in rows)
    held = {split: Tiles.of(samples, px) for split, samples in found.items()}
    return Subject(corpus, Scale.of(train.teacher_ND), train, train.take(out), held, large)


def student_params(base: StudentParams, *overrides: Overrides) -> StudentParams:
    """With what of the overrides begins with `student.`."""
    tree = base.model_dump(mode="json")
    for each in overrides:
        for name, value in each.items():
            stage, *keys = name.split(".")
            if stage != "student":
                continue
            inner = tree
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value
    return StudentParams.model_validate(tree)


def table(arms: dict[str, list[Any]], floors: dict[str, Any], split: str) -> list[tuple[object, ...]]:
    """A row an arm: mean and half of Student's 95 % interval over its seeds."""
    rows = []
    for arm, runs in arms.items():
        columns = [[one[split][name] for one in runs] for name in ("cosine", "cosine_phi_s")]
        for probe in ("linear", "knn"):
            columns.append([one[split][probe] for one in runs])
            teacher = floors["teacher"][split][probe]
            columns.append(
                [
                    (one[split][probe] - one["untrained"][split][probe]) / (teacher - one["untrained"][split][probe])
                    for one in runs
                ]
            )
        columns.append([float(one["best_step"]) for one in runs])
        rows.append((arm, len(runs), *(_mean(values) for values in columns)))
    return rows


def _mean(values: list[float]) -> str:
    n, mean = len(values), float(np.mean(values))
    digits = 0 if mean > 2 else 3
    if n < 2:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n):.{digits}f}"


def main() -> None:
    """Run what has no result yet, seed after seed, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="what {data} stands for in the plan")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held-out", type=float, default=0.2, help="share of each train slide's tiles")
    parser.add_argument("--points", type=int, default=8, help="looks at a training")
    parser.add_argument("--curve-tiles", type=int, default=250, help="tiles of a held-out split at each look")
    asked = parser.parse_args()
    plan, site = read_plan(asked.plan, asked.data), load_params(Params)
    for arm, overrides in plan.arms.items():
        other = [name for name in overrides if not name.startswith("student.") or name == "student.train_fraction"]
        if other:
            parser.error(f"arm {arm!r} sets {', '.join(other)}: arms share the project's tokens and --held-out")
    store = Store.find(site.store.root)
    base = student_params(site.student, plan.base)
    tile_px = TilesManifest.load(TILES).tile_px

    @functools.cache
    def subject_at(px: int) -> Subject:
        return open_subject(px, store, asked.held_out)

    asked.out.mkdir(parents=True, exist_ok=True)
    floors_file = asked.out / "teacher.json"
    if not floors_file.exists():
        subject = subject_at(input_side(base, tile_px))
        of_teacher = {
            split: probed(subject.train.teacher_ND, subject.train, held.teacher_ND, held)
            for split, held in subject.held.items()
        }
        write_atomic(floors_file, json.dumps(of_teacher).encode())
    floors = {"teacher": json.loads(floors_file.read_text())}
    arms: dict[str, list[Any]] = {arm: [] for arm in plan.arms}
    for one in plan.runs():
        params = student_params(base, one.overrides)
        px = input_side(params, tile_px)
        subject = subject_at(px)
        folder = asked.out / one.name
        folder.mkdir(exist_ok=True)
        path = folder / "result.json"
        if not path.exists():
            write_atomic(path, json.dumps(run(params, subject, store, folder, asked), indent=1).encode())
        told = json.loads(path.read_text()) | {"untrained": untrained(params, subject, px, asked.out)}
        arms[one.arm].append(told)
        print(
            f"{one.arm}, seed {one.seed}: " + json.dumps({k: v for k, v in told.items() if k != "points"}), flush=True
        )
    columns = ("arm", "seeds", "cosine", "PHI-S’ geometry", "linear", "of the way", "20-NN", "of the way", "best step")
    for split in floors["teacher"]:
        show(split, columns, table(arms, floors, split))
    kinds = list(CHANGES)
    show(
        "agreement with itself",
        ("arm", *kinds),
        [(arm, *(_mean([one["agreement"][kind] for one in runs]) for kind in kinds)) for arm, runs in arms.items()],
    )
    finish({"teacher": floors["teacher"], "arms": arms})


if __name__ == "__main__":
    main()

"""What nested sizes cost the full embedding, and what each keeps beside principal components, over several seeds.

Two arms, with `student.nested` (`--sizes`) and without, each trained by `train_student` as stage `student` would
(finished ones are found in the store), with the section `student` of params.yaml: the same steps over the same tiles in
the same order, from the same trunk. Scored on every held-out split as `evaluate` does (measures/widths.py):
standardised cosine, balanced accuracy of the linear probe and of the neighbours, fitted on all train tiles; of k
numbers those of the nested vector, of principal components of the student's embedding (of both arms: what k numbers a
student gives that was trained for none), and of the teacher's own.

A table has the mean over the seeds and their sample deviation; beneath it what the full embedding loses, seed by seed,
with the 95 % interval of Student's t over the seeds. Run in a project whose stage `tokens` has run
(docs/study_held_out.yaml has the table of ours, `tokens.patch: none`):

    python -m bench.study.nested --seeds 0 1 2 --sizes 64 128 256 --out OUT

Every run's figures lie in OUT as JSON, by arm and seed. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from bench.printing import finish, show
from bench.study.held_out import KNN_K, Floats, Tiles, probed
from bench.study.teachers import BATCH, Params, between, spread
from pipeline.base.files import write_atomic
from pipeline.base.intervals import Resampler, Units
from pipeline.base.items import TRAIN, TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store
from pipeline.evaluate.selection import splits
from pipeline.measures.fidelity.embedding import Scale, cosine
from pipeline.measures.probes.probes import Labelled
from pipeline.measures.split_figures import Width
from pipeline.measures.widths import NESTED, STUDENT, TEACHER, Components, Probed, widths
from pipeline.measures.widths import Tiles as Answered
from pipeline.params.load import load_params
from pipeline.params.student import StudentParams
from pipeline.student.export import into_own_units, load_run
from pipeline.student.model import Distiller
from pipeline.student.recipe import input_side
from pipeline.student.train import train_student

FIGURES = ("cosine", "linear", "knn")
Told = dict[str, dict[str, dict[str, float]]]
"""Figures by split and by what they are of: `full`, `64 nested` …"""


@torch.inference_mode()
def answers(distiller: Distiller, tiles: Tiles) -> dict[str, Floats]:
    """`student` (N, D), and with nested sizes `nested` (N, K)."""
    caught: list[torch.Tensor] = []
    hook = distiller.student.last.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    batches = (tiles.image_NHWC[i : i + BATCH] for i in range(0, len(tiles.image_NHWC), BATCH))
    full_ND: Floats = torch.cat([distiller.student(torch.from_numpy(batch))[0] for batch in batches]).numpy()
    hook.remove()
    found = {STUDENT: full_ND, TEACHER: tiles.teacher_ND}
    # Without sizes of its own what is asked of the student is its components alone.
    nested = distiller.nested
    return {**found, NESTED: full_ND if nested is None else nested.project(torch.cat(caught)).numpy()}


def scored(distiller: Distiller, tiles: dict[str, Tiles], sizes: tuple[int, ...]) -> Told:
    """Of the full embedding and of each size."""
    found = {split: answers(distiller, part) for split, part in tiles.items()}
    scale = Scale.of(tiles[TRAIN].teacher_ND)
    components = {name: Components.of(found[TRAIN][name], scale, sizes[-1]) for name in (STUDENT, TEACHER)}

    def back(nested_NK: Floats, k: int) -> Floats:
        if distiller.nested is None:
            return nested_NK
        layer = distiller.nested.head(k)
        with torch.inference_mode():
            back_ND: Floats = layer(torch.from_numpy(nested_NK[:, :k])).numpy()
        return back_ND

    told: Told = {}
    for split, own in found.items():
        if split == TRAIN:
            continue
        units = Units(["one"] * len(tiles[split].labels), "slide")
        train, held = (
            Labelled(tiles[part].labels, Units(["one"] * len(tiles[part].labels), "slide"), found[part])
            for part in (TRAIN, split)
        )
        probes = Probed.of_tiles(train, held, KNN_K, 1, 0)
        by_size = widths(sizes, back, components, Answered(own, Resampler(units, 1, 0)), probes)
        full = probed(found[TRAIN][STUDENT], tiles[TRAIN], own[STUDENT], tiles[split])
        full["cosine"] = float(cosine(scale(own[TEACHER]), scale(own[STUDENT])).mean())
        told[split] = {"full": full}
        for k, width in by_size.items():
            told[split] |= {f"{k} {way}": figures for way, figures in _told(width).items()}
        if distiller.nested is None:
            told[split] = {what: figures for what, figures in told[split].items() if not what.endswith(NESTED)}
    return told


def _told(width: Width) -> dict[str, dict[str, float]]:
    ways = {NESTED: width.nested, "student_pca": width.student_pca, "teacher_pca": width.teacher_pca}
    found = {}
    for way, code in ways.items():
        assert code.linear is not None and code.knn is not None
        found[way] = {
            "cosine": code.cosine.value,
            "linear": code.linear.balanced.value,
            "knn": code.knn.balanced.value,
        }
    return found


def main() -> None:
    """Train, print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    params, store, sizes = load_params(Params).student, Store.find(), tuple(asked.sizes)
    manifests = TilesManifest.load(Path("artifacts/tiles.json")), TokensManifest.load(Path("artifacts/tokens.json"))
    px = input_side(params, manifests[0].tile_px)
    tiles = {split: Tiles.of(samples, px) for split, samples in sorted(splits(*manifests, store).items())}

    def run(arm: str, of_arm: StudentParams) -> Told:
        path = asked.out / f"{arm}-s{of_arm.seed}.json"
        if not path.exists():
            curve = asked.out / "curve.csv"
            made, _ = train_student(*manifests, of_arm, store, out=asked.out / "student", curve=curve)
            _, distiller, targets = load_run(store.path(Ref("checkpoints", made.recipe_key, "run")))
            into_own_units(distiller, targets)
            write_atomic(path, json.dumps(scored(distiller.eval(), tiles, sizes)).encode())
        found: Told = json.loads(path.read_text())
        return found

    found: dict[str, list[Told]] = {"plain": [], "nested": []}
    for seed in asked.seeds:
        for arm, its in (("plain", ()), ("nested", sizes)):
            found[arm].append(run(arm, params.model_copy(update={"seed": seed, "nested": its})))
    for split in (each for each in tiles if each != TRAIN):
        of_teacher = probed(tiles[TRAIN].teacher_ND, tiles[TRAIN], tiles[split].teacher_ND, tiles[split])
        rows: list[tuple[str, ...]] = [
            ("teacher, full", "1.000", f"{of_teacher['linear']:.3f}", f"{of_teacher['knn']:.3f}")
        ]
        for arm, runs in found.items():
            for what in runs[0][split]:
                if arm == "plain" and what.endswith("teacher_pca"):
                    continue
                cells = [spread([one[split][what][figure] for one in runs]) for figure in FIGURES]
                rows.append((f"{arm}: {what.replace('_', ' ')}", *cells))
        show(f"{split}: {len(asked.seeds)} seeds", ("", *FIGURES), rows)
        full = {arm: {f: [one[split]["full"][f] for one in runs] for f in FIGURES} for arm, runs in found.items()}
        lost = [between(full["nested"][figure], full["plain"][figure]) for figure in FIGURES]
        show(f"{split}: nested minus plain, full, by seed", ("", *FIGURES), [("full", *lost)])
    finish({"seeds": asked.seeds, "sizes": asked.sizes, "arms": found})


if __name__ == "__main__":
    main()

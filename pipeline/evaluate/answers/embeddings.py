"""What a model answers to tiles, kept in the store: a second evaluation of the same student runs no model.

    embeddings/<recipe key: the model by its weights, the tiles' recipe>/<item key: the tiles>/embedding

An item holds one model's answers to the chosen tiles of one slide (or of one split of a data set), a Zarr array (n, D)
float32: no less, since a figure made of it must be the one made of the answers themselves. The untrained twin and nets
trained on labels alone are models like any other, so students of one architecture and seed share their twin's answers.
Batches are filled up with zeros: a row's bits then do not depend on which slides are there already. Images of folders
and sets are found by content in other items of the same model (known_rows.py).
Shapes: n tiles of a slide, N of all, D channels of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import MappedArray
from pipeline.base.kept import Kept
from pipeline.base.progress import Advance
from pipeline.base.store import Ref, recipe_key
from pipeline.base.types import Json
from pipeline.evaluate.answers.features import student_features
from pipeline.evaluate.answers.known_rows import ARRAY, is_images, known, write_answers, write_digests
from pipeline.evaluate.models import Net
from pipeline.evaluate.selection import Sample

KIND = "embeddings"
RECIPE_VERSION = 1


def embeddings(
    nets: Sequence[Net], samples: Sequence[Sample], batch_size: int, kept: Kept, advance: Advance
) -> list[NDArray[np.float32]]:
    """Each net's answers to the tiles, [(N, D)]; see `answered`."""
    return [read(of_net, kept) for of_net in answered(nets, samples, batch_size, kept, advance)]


def answered(
    nets: Sequence[Net], samples: Sequence[Sample], batch_size: int, kept: Kept, advance: Advance
) -> list[list[Ref]]:
    """Where each net's answers to each sample are; those that the store lacks are computed, each tile decoded once.

    The nets take the same input. Raises `EvaluationError` where an answer is not finite.
    """
    refs = [[_ref(net, sample, kept) for sample in samples] for net in nets]
    missing: dict[tuple[int, ...], list[int]] = {}
    for i in range(len(samples)):
        lacking = tuple(k for k in range(len(nets)) if not kept.has(refs[k][i]))
        missing.setdefault(lacking, []).append(i)
    for lacking, chosen in missing.items():
        if not lacking:
            advance(sum(len(samples[i].rows) for i in chosen))
            continue
        found = [known(samples[i], [refs[k][i] for k in lacking], kept.store) for i in chosen]
        advance(sum(one.n_known for one in found))
        asked = [sample for one in found if len((sample := one.asked).rows)]
        answers = student_features([nets[k].model for k in lacking], asked, batch_size, advance)
        for i, one in zip(chosen, found, strict=True):
            fresh = next(answers) if len(one.asked.rows) else []
            for k, answer_nD in zip(lacking, one.whole(fresh), strict=True):
                _keep(kept, refs[k][i], _recipe(nets[k], samples[i]), samples[i], answer_nD)
    return refs


def read(refs: Sequence[Ref], kept: Kept) -> NDArray[np.float32]:
    """One net's answers to all samples, (N, D)."""
    return np.concatenate([_read(kept, ref) for ref in refs])


def _recipe(net: Net, sample: Sample) -> dict[str, Json]:
    return {"model": net.told, "tiles": sample.tiles.parent.name, "recipe_version": RECIPE_VERSION}


def _ref(net: Net, sample: Sample, kept: Kept) -> Ref:
    tiles = kept.digest(Ref(*sample.tiles.parts[-3:]))
    rows = recipe_key({"tiles": tiles, "rows": sample.rows.tolist()})
    return Ref(KIND, recipe_key(_recipe(net, sample)), f"{sample.tiles.name}-{rows[:16]}")


def _keep(kept: Kept, ref: Ref, recipe: Mapping[str, Json], sample: Sample, answer_nD: NDArray[np.float32]) -> None:
    with kept.store.write(ref, recipe) as partial:
        write_answers(partial, answer_nD)
        if is_images(sample):
            write_digests(partial, sample)


def _read(kept: Kept, ref: Ref) -> NDArray[np.float32]:
    array = MappedArray(kept.store.open(ref, remedy=kept.remedy) / ARRAY)
    answer_nD: NDArray[np.float32] = array.slice(0, len(array))
    return answer_nD

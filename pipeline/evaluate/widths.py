"""What each nested size of the student keeps on one held-out split; see measures/widths.py.

Shapes: N tiles, K the largest size, k a size, D the teacher's width.
"""

from __future__ import annotations

import numpy as np
from pydantic import TypeAdapter

from pipeline.base.intervals import Resampler
from pipeline.base.kept import Basis
from pipeline.base.types import Floats
from pipeline.evaluate import selection
from pipeline.evaluate.answers.embeddings import embeddings
from pipeline.evaluate.models import Net
from pipeline.evaluate.run import Run
from pipeline.evaluate.seen import Seen
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.probes.probes import unmeasurable
from pipeline.measures.split_figures import Width
from pipeline.measures.widths import NESTED, STUDENT, TEACHER, Components, Probed, Tiles, widths

WIDTHS = TypeAdapter(dict[int, Width])


def nested_widths(run: Run, scale: tuple[Scale, str], train: Seen, held: Seen) -> dict[int, Width]:
    """By size; empty of a student without any.

    `scale` is the teacher's over train tiles, and what tells those.
    """
    nested, net = run.models.nested_heads, run.models.nested
    if nested is None or net is None:
        return {}
    # Also where the figures are kept: the manifest names the answers that they stand on, or they would be pruned.
    params, (fitted, tried) = run.params, tuple(_with_nested(run, net, seen) for seen in (train, held))
    basis: Basis = {
        "student": run.models.student.told,
        "nested": net.told,
        "scale": scale[1],
        "train": run.tiles(train.samples),
        "held": run.tiles(held.samples),
    }
    slot = run.slot("widths", WIDTHS, ("knn_k", "bootstrap", "seed"), basis)
    found = slot.find()
    if found is not None:
        return found
    most = nested.sizes[-1]
    components = {name: Components.of(fitted.answers[name], scale[0], most) for name in (STUDENT, TEACHER)}
    learnt, compared = fitted.labelled().known, tried.labelled().known
    probed = None
    if not unmeasurable(learnt.labels, compared.labels):
        probed = Probed.of_tiles(learnt, compared, params.knn_k, params.bootstrap, params.seed)
    tiles = Tiles(tried.answers, Resampler(selection.units_of_tiles(held.samples), params.bootstrap, params.seed))

    def back(nested_NK: Floats, k: int) -> Floats:
        layer = nested.head(k)
        weight_Dk, bias_D = (value.numpy().astype(np.float64) for value in (layer.weight, layer.bias))
        back_ND: Floats = nested_NK[:, :k] @ weight_Dk.T + bias_D
        return back_ND

    return slot.keep(widths(nested.sizes, back, components, tiles, probed))


def _with_nested(run: Run, net: Net, seen: Seen) -> Seen:
    """The same tiles with the nested vector among their answers."""
    (nested_NK,) = embeddings([net], seen.samples, run.params.batch_size, run.kept, lambda n=1.0, note="": None)
    return Seen(seen.samples, {**seen.answers, NESTED: nested_NK})

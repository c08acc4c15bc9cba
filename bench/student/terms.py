"""What each objective and adapter adds to a step: `python -m bench.student.terms [--batch N] [--repeats N]`.

A step is forward, losses and backward on one resident batch of a made corpus (224 px, ViT-L's tokens of 14 x 14 x 1024,
int8), without optimiser and loader. Arms are interleaved within a repeat. The best of each is stated, since whatever
else the machine does only adds, and its difference from the step with `cls` alone. The last line is one JSON object.

What this does not cover: what an arm does to the student's fidelity.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from bench.clock import ratios, turns
from bench.printing import finish, show
from bench.scratch import scratch
from bench.student.corpus import TILE_PX, make_corpus
from pipeline.params.student import StudentParams
from pipeline.student.adapters import ADAPTERS
from pipeline.student.corpus import Corpus
from pipeline.student.loader import Batch, BatchShape, Loader
from pipeline.student.model import build
from pipeline.student.order import Order
from pipeline.student.targets import cls_standardiser
from pipeline.student.terms import Terms
from pipeline.teachers.engines import pick_device

BASE = "cls"
ARMS = {
    BASE: {"objective": {"patch": 0}},
    "cls by mse": {"objective": {"patch": 0, "cls_kind": "mse"}},
    "cls by PHI-S": {"objective": {"patch": 0}, "standardise": "phi-s"},
    "cls + relation": {"objective": {"patch": 0, "relation": 1}},
    **{f"cls + patch, {name}": {"adapter": name} for name in ADAPTERS},
    "cls + patch, attention, artefacts masked": {"objective": {"token_weight": "norm"}},
}


def main() -> None:
    """Print the table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    device = pick_device()
    with scratch() as root:
        corpus = make_corpus(root, slides=1, tiles_per_slide=max(64, options.batch))
        order = Order(corpus.rows, block_rows=16, buffer_rows=64, views=corpus.views, seed=0)
        loader = Loader(corpus, order, BatchShape(options.batch, TILE_PX, dense=True), workers=0)
        batch = next(iter(loader.batches(0, 1))).to(device)
        made = {name: _step(StudentParams.model_validate(changed), corpus, batch) for name, changed in ARMS.items()}

    def finished(step: Callable[[], None]) -> None:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    taken = turns({name: partial(finished, step) for name, (step, _) in made.items()}, options.repeats)
    best_s = {name: min(one.wall_s for one in each) for name, each in taken.items()}
    added = {name: ratios(each, taken[BASE]) for name, each in taken.items()}
    rows = [
        (name, 1000 * best_s[name], best_s[name] / best_s[BASE], added[name]["cpu"], parameters or "")
        for name, (_, parameters) in made.items()
    ]
    where = f"{device.type}, {torch.get_num_threads()} thread(s), batch {options.batch}, best of {options.repeats}"
    columns = ("arm", "ms a step", f"times {BASE}", "by CPU seconds", "adapter's parameters")
    show(f"What objectives and adapters add to a step: {where}", columns, rows)
    finish({"batch": options.batch, **{name: round(1000 * s, 1) for name, s in best_s.items()}, f"over_{BASE}": added})


def _step(params: StudentParams, corpus: Corpus, batch: Batch) -> tuple[Callable[[], None], int]:
    """(a step without the optimiser's, parameters of the adapter)."""
    device = batch.image_NHWC.device
    distiller, _ = build(
        model=params.model,
        width=corpus.width,
        input_px=TILE_PX,
        adapter=params.adapter if params.objective.patch > 0 else None,
        grid=corpus.grid,
        seed=0,
    )
    model = distiller.to(device).train()
    terms = Terms(params.objective, corpus, cls_standardiser(corpus, params.standardise), device)
    if terms.bank_KD is not None:
        # The made corpus holds fewer tiles than the bank of a real one.
        drawn_KD = torch.randn(params.objective.relation_queue, corpus.width, device=device)
        terms.bank_KD = F.normalize(drawn_KD, dim=-1)

    def step() -> None:
        model.zero_grad()
        terms.total(terms(batch, *model(batch.image_NHWC))).backward()  # type: ignore[no-untyped-call]

    return step, sum(p.numel() for p in model.adapter.parameters()) if model.adapter else 0


if __name__ == "__main__":
    main()

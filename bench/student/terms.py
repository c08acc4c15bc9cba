"""What objectives, adapters and changed inputs add to a step: python -m bench.student.terms [--arms TEXT].

A step is what is done to the batch (mixing, changes), forward, losses and backward, on one resident batch of a made
corpus (224 px, ViT-L's tokens of 14 x 14 x 1024, int8), without optimiser and loader. Arms are interleaved within a
repeat. The best of each is stated, since whatever else the machine does only adds, and its difference from the step
with `cls` alone. The last line is one JSON object.

Kernels are counted too that an eager device starts, and the bytes that they read and write, since on a GPU such work is
memory traffic: those of the whole step over those of `cls` alone, and of what is done to the batch as a share of the
step's. (Counted in fp32; in bf16 the step's own is about half, so that share nearly doubles.) Beside it stands its
share of the step's CPU seconds, timed alone.

What this does not cover: what an arm does to the student's fidelity.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.clock import median, ratios, turns
from bench.printing import finish, show
from bench.scratch import scratch
from bench.student.corpus import TILE_PX, make_corpus
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.loader import Batch, BatchShape, Loader
from pipeline.corpus.order import Order
from pipeline.corpus.targets import cls_standardiser
from pipeline.inputs import Inputs
from pipeline.inputs.slide_stains import measured
from pipeline.params.student import StudentParams
from pipeline.student.adapters import ADAPTERS
from pipeline.student.model import build
from pipeline.student.terms import Terms
from pipeline.teachers.engines import pick_device

BASE = "cls"
CHANGES: dict[str, dict[str, float]] = {
    "stain jitter": {"stain_scale": 0.2, "stain_shift": 0.05},
    "stain of other slides": {"stain_transfer": 1.0},
    "colour": {"brightness": 0.35, "contrast": 0.5, "saturation": 0.2},
    "blur": {"blur_sigma": 1.0},
    "noise": {"noise_sigma": 0.02},
    "JPEG": {"jpeg_quality": 50},
}
CHANGES["every change"] = {name: value for changed in CHANGES.values() for name, value in changed.items()}
ARMS = {
    BASE: {"objective": {"patch": 0}},
    "cls by mse": {"objective": {"patch": 0, "cls_kind": "mse"}},
    "cls by PHI-S": {"objective": {"patch": 0}, "standardise": "phi-s"},
    "cls + relation": {"objective": {"patch": 0, "relation": 1}},
    **{f"cls + patch, {name}": {"adapter": name} for name in ADAPTERS},
    "cls + patch, attention, artefacts masked": {"objective": {"token_weight": "norm"}},
    "cls by smooth-L1": {"objective": {"patch": 0, "cls_kind": "smooth_l1"}},
    "cls by KL": {"objective": {"patch": 0, "cls_kind": "kl"}},
    "cls by contrast": {"objective": {"patch": 0, "cls_kind": "contrastive"}},
    "cls, a head of two layers": {"objective": {"patch": 0}, "head_hidden": 1024},
    "cls, mixup": {"objective": {"patch": 0}, "mix": {"kind": "mixup"}},
    "cls, cutmix": {"objective": {"patch": 0}, "mix": {"kind": "cutmix"}},
    "cls + patch, attention, mixup": {"mix": {"kind": "mixup"}},
    "cls + patch, attention, cutmix": {"mix": {"kind": "cutmix"}},
    **{f"cls, {name}": {"objective": {"patch": 0}, "augment": changed} for name, changed in CHANGES.items()},
}


def main() -> None:
    """Print the table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--arms", default="", help="only those whose name holds this text")
    options = parser.parse_args()
    arms = {name: changed for name, changed in ARMS.items() if name == BASE or options.arms in name}
    device = pick_device()
    with scratch() as root:
        corpus = make_corpus(root, slides=2, tiles_per_slide=max(32, options.batch))
        corpus = replace(corpus, stain_L2S=np.array([[*_stain(corpus, slide)] for slide in range(2)]))
        order = Order(corpus.rows, block_rows=16, buffer_rows=64, views=corpus.views, seed=0)
        loader = Loader(corpus, order, BatchShape(options.batch, TILE_PX, dense=(0,)), workers=0)
        batch = next(iter(loader.batches(0, 1))).to(device)
        made = {name: _step(StudentParams.model_validate(changed), loader, batch) for name, changed in arms.items()}

    def finished(step: Callable[[], None]) -> None:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    taken = turns({name: partial(finished, arm.step) for name, arm in made.items()}, options.repeats)
    best_s = {name: min(one.wall_s for one in each) for name, each in taken.items()}
    added = {name: ratios(each, taken[BASE]) for name, each in taken.items()}
    alone = turns({name: partial(finished, arm.change) for name, arm in made.items()}, options.repeats)
    share = {name: median(alone[name]).cpu_s / median(taken[name]).cpu_s for name in made}
    base = made[BASE].whole
    rows = [
        (name, 1000 * best_s[name], best_s[name] / best_s[BASE], added[name]["cpu"], arm.parameters or "",
         arm.whole.kernels - base.kernels, arm.whole.nbytes / base.nbytes, arm.inputs.kernels or "",
         arm.inputs.nbytes / arm.whole.nbytes, share[name] if arm.inputs.kernels else 0)
        for name, arm in made.items()
    ]  # fmt: skip
    where = f"{device.type}, {torch.get_num_threads()} thread(s), batch {options.batch}, best of {options.repeats}"
    columns = (
        "arm", "ms a step", f"times {BASE}", "by CPU seconds", "adapter's weights", "kernels more",
        f"bytes over {BASE}", "input's kernels", "of bytes", "of CPU s",
    )  # fmt: skip
    show(f"What objectives and adapters add to a step: {where}", columns, rows)
    traffic = {
        name: {"inputs": vars(arm.inputs), "step": vars(arm.whole), "of_cpu": round(share[name], 4)}
        for name, arm in made.items()
    }
    told = {"batch": options.batch, **{name: round(1000 * s, 1) for name, s in best_s.items()}}
    finish({**told, f"over_{BASE}": added, "traffic": traffic})


@dataclass(frozen=True)
class Arm:
    """A step without the optimiser's, what of it is done to the batch, the adapter's parameters, and both's traffic."""

    step: Callable[[], None]
    change: Callable[[], None]
    parameters: int
    inputs: Traffic
    whole: Traffic


@dataclass
class Traffic:
    """Kernels that are started, and the bytes that they read and write."""

    kernels: int = 0
    nbytes: int = 0


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what an eager device would do: every operation but views, each with its tensors in and out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = Traffic()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        # What only looks at memory differently moves none of it; `out=` is what is found, and new_full reads nothing.
        name = str(func)
        if not func.is_view and not any(each in name for each in ("empty", "_unsafe_view")):
            given = {key: each for key, each in (kwargs or {}).items() if key != "out"}
            read = [] if "aten.new_" in name else [args, given]
            tensors = [each for each in tree_leaves([read, found]) if isinstance(each, torch.Tensor)]
            self.seen.kernels += 1
            self.seen.nbytes += sum(_nbytes(each) for each in tensors)
        return found


def _nbytes(tensor: torch.Tensor) -> int:
    """Of a view that overlaps itself no more than there is."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _stain(corpus: Corpus, slide: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    found = measured(corpus, slide)
    return found.mean, found.deviation


def _step(params: StudentParams, loader: Loader, batch: Batch) -> Arm:
    device, corpus = batch.image_NHWC.device, loader.corpus
    distiller, _ = build(
        model=params.model,
        width=corpus.width,
        input_px=TILE_PX,
        adapter=params.adapter if params.objective.patch > 0 else None,
        grid=corpus.grid,
        seed=0,
    )
    if params.head_hidden is not None:
        distiller.student.expand_head(params.head_hidden, 0)
    model = distiller.to(device).train()
    terms = Terms(params.objective, corpus, cls_standardiser(corpus, params.standardise), device)
    if terms.bank_KD is not None:
        # The made corpus holds fewer tiles than the bank of a real one.
        drawn_KD = torch.randn(params.objective.relation_queue, corpus.width, device=device)
        terms.bank_KD = F.normalize(drawn_KD, dim=-1)
    shown = batch if params.objective.patch > 0 else replace(batch, patch_NTD=None, scale_NT=None)
    inputs = Inputs(params, corpus, loader)

    def change() -> None:
        inputs(0, shown)

    def step() -> None:
        model.zero_grad()
        made = inputs(0, shown)
        terms.total(terms(made.each[0], *model(made.image_NHWC)[0])).backward()  # type: ignore[no-untyped-call]

    parameters = sum(p.numel() for p in model.adapter.parameters()) if model.adapter else 0
    step()
    with Counting() as of_inputs:
        change()
    with Counting() as of_all:
        step()
    return Arm(step, change, parameters, of_inputs.seen, of_all.seen)


if __name__ == "__main__":
    main()

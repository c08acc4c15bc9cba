"""Whether training computes on this machine what fp32 eager computes: a step's loss and gradient, and what it is fed.

    batches   what the loader gives (in page-locked memory for a GPU), as it arrives on the device, to the bit
    step      loss and gradient of the first batch as the stage runs it (bf16 and compiled on a GPU) against fp32 eager
    training  some optimiser steps; a loss that is not finite ends them

Run: python -m bench.student.check; the last line is one JSON object; exits with 1 where one is not as it should be.
On a GPU it has not run.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bench.printing import finish, show
from bench.scratch import scratch
from bench.student.corpus import TILE_PX, make_corpus
from bench.student.loader import training
from pipeline.corpus.loader import Batch, BatchShape, Loader
from pipeline.params.student import StudentParams
from pipeline.student.loop import Training
from pipeline.student.model import Distiller, build

LOSS_TOLERANCE, GRADIENT_COSINE = 0.02, 0.95
"""Of bf16 against fp32, with the batch norm of a network that has learnt nothing."""


def batches_differ(made: Training, steps: int) -> int:
    """Batches of which a byte is another on the device than a plain loader reads."""
    own, differ = made.loader, 0
    plain = Loader(made.corpus, own.order, BatchShape(own.batch_size, own.input_px, dense=own.dense), workers=0)
    for got, expected in zip(own.batches(0, steps), plain.batches(0, steps), strict=True):
        moved = got.to(made.accelerator.device)
        pairs = [(value, vars(expected)[name]) for name, value in vars(moved).items() if isinstance(value, Tensor)]
        differ += not all(torch.equal(value.cpu(), other) for value, other in pairs)
    return differ


def loss_and_gradient(made: Training, model: Any, raw: Distiller, batch: Batch) -> tuple[float, Tensor]:
    """The total loss, and all gradients as one float32 vector."""
    raw.zero_grad()
    loss = made.losses.total(made.losses(batch, model(batch.image_NHWC)))
    loss.backward()  # type: ignore[no-untyped-call]
    parts = [p.grad.detach().float().flatten() for p in raw.parameters() if p.grad is not None]
    raw.zero_grad()
    return float(loss.detach()), torch.cat(parts)


def check(made: Training, params: StudentParams, steps: int) -> dict[str, Any]:
    """What is found."""
    device = made.accelerator.device
    told: dict[str, Any] = {"device": str(device), "batches": steps, "batches_differ": batches_differ(made, steps)}
    batch = next(made.loader.batches(0, 1)).to(device)
    adapter = params.adapter if params.objective.patch > 0 else None
    grid = made.corpus.grid
    plain, _ = build(model=params.model, width=made.corpus.width, grid=grid, input_px=TILE_PX, adapter=adapter, seed=0)
    plain = plain.to(device).train()
    made.model.train()
    expected, expected_P = loss_and_gradient(made, plain, plain, batch)
    loss, gradient_P = loss_and_gradient(made, made.model, made.raw, batch)
    told["loss"], told["loss_error"] = loss, abs(loss - expected) / abs(expected)
    told["gradient_cosine"] = float(torch.cosine_similarity(gradient_P, expected_P, dim=0))
    losses = [made.step(step, some)["loss"] for step, some in enumerate(made.loader.batches(0, steps))]
    told["losses"] = [round(value, 4) for value in losses]
    told["falls"] = sum(after < before for before, after in pairwise(losses))
    return told


def main(arguments: list[str] | None = None) -> None:
    """Check and print."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="a training step here against fp32 eager")
    parser.add_argument("--model", default="efficientvit_b0")
    parser.add_argument("--batch", type=int, default=64 if gpu else 4)
    parser.add_argument("--steps", type=int, default=12 if gpu else 2)
    options = parser.parse_args(arguments)
    with scratch() as folder:
        corpus = make_corpus(folder, slides=2, tiles_per_slide=max(8, options.batch * 2))
        params = StudentParams(model=options.model, batch_size=options.batch, workers=2, epochs=1000, lr=1e-4)
        told = check(training(corpus, params, folder), params, options.steps)
    good = not told["batches_differ"] and told["loss_error"] <= LOSS_TOLERANCE
    good = good and told["gradient_cosine"] >= GRADIENT_COSINE
    show(f"A step of {options.model} against fp32 eager", ("", "found"), list(told.items()))
    finish({"model": options.model, "good": good, **told})
    sys.exit(not good)


if __name__ == "__main__":
    main()

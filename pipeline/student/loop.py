"""The training loop: AdamW, cosine schedule with warm-up, clipping, moving average, exact resume. Losses: `losses`.

One process or many (Hugging Face Accelerate); bf16 autocast on a GPU that has it, fp32 elsewhere. All randomness of a
step is seeded by (seed, step, rank) and the learning rate is a function of the step, so a checkpoint holds only tensors
and a resumed run repeats an uninterrupted one bit for bit on a CPU.

The learning rate's course is `base/fitting.py`'s, from lr / W in W steps of warm-up.

Batch norm: the exported weights are the moving average, whose activations no single step has seen. Its batch-norm
statistics are therefore measured at the end, over `BN_TILES` train tiles with those very weights
(`torch.optim.swa_utils.update_bn`), not averaged along the way; rank 0 alone does it. While training, each process
normalises by its own share of the batch: with 32 tiles a process or more that is as good as synchronising, and costs
nothing. `freeze_batch_norm` measures the statistics once, at step 0, with the first weights, and normalises by them to
the end: then no tile's answer depends on its neighbours, and N processes train what one does within rounding.

On a GPU the model is compiled (`student.compile`), which has run nowhere yet.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import update_bn

from pipeline.base.errors import TrainingError, some
from pipeline.base.fitting import Fitting
from pipeline.base.progress import track
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.loader import Batch, BatchShape, Loader, Share
from pipeline.inputs import Inputs
from pipeline.params.student import StudentParams
from pipeline.student.checkpoint import Checkpoints, State, load_checkpoint
from pipeline.student.device import autocast_dtype
from pipeline.student.losses import Losses
from pipeline.student.model import Distiller
from pipeline.student.ranks.node import once
from pipeline.student.ranks.number import order_of, shards_of
from pipeline.student.scalars import scalar_log

CURVE_ROWS = 1000
"""At most about this many rows in the curve; each is the mean over the steps since the row before."""
BN_TILES, BN_BATCH = 1024, 256
"""Tiles that batch norm is measured on, and how many at a time; never more than a training batch holds."""
LR_FLOOR = 0.01
"""The schedule ends at this share of the top learning rate."""


class Training:
    """One training of `distiller` on `corpus`, from a fresh start or from the checkpoint in `folder`.

    `losses` gives the loss. Every process makes one and calls `run`; rank 0 writes to `folder`.
    """

    def __init__(
        self,
        distiller: Distiller,
        corpus: Corpus,
        params: StudentParams,
        *,
        losses: Losses,
        folder: Path,
        accelerator: Accelerator,
        log: Path | None = None,
    ) -> None:
        self.log = log
        self.params, self.corpus, self.folder, self.accelerator = params, corpus, folder, accelerator
        self.losses = losses
        shards = shards_of(params, corpus.kept_total, accelerator.num_processes)
        order = once(lambda: order_of(corpus, params, shards))
        self.loader = Loader(
            corpus,
            order,
            BatchShape(params.batch_size, distiller.student.input_px, _places(distiller.adapters)),
            share=Share(accelerator.process_index, accelerator.num_processes),
            workers=params.workers,
            pin=accelerator.device.type == "cuda",
        )
        self.inputs = Inputs(params, corpus, self.loader)
        self.steps = params.epochs * self.loader.steps_per_epoch
        self.raw = distiller.to(accelerator.device)
        self.average = ModelEmaV3(self.raw, decay=params.ema_decay, use_warmup=True) if params.ema_decay else None
        self.raw.autocast = autocast_dtype()
        warmup = math.ceil(params.warmup_fraction * self.steps)
        how = Fitting(
            steps=self.steps,
            lr=params.lr,
            weight_decay=params.weight_decay,
            warmup_steps=warmup,
            warmup_lr=params.lr / max(1, warmup),
            lr_min=LR_FLOOR * params.lr,
        )
        optimizer, self.schedule = how.start(self.raw)
        self.model, self.optimizer = accelerator.prepare(self.raw, optimizer)
        if params.compile == "auto" and accelerator.device.type == "cuda":
            # In place, so that names in checkpoints stay as they are.
            self.raw.compile()
        self.curve: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        """Train to the last step. Returns timings: seconds, tiles_per_s, steps, resumed_from (a step).

        Raises `TrainingError` at a loss or gradient that is not finite, before the weights take that step, with the
        step, the objective and the batch's slides.
        """
        begun, first = time.perf_counter(), self._resume()
        every = max(1, math.ceil(self.steps / CURVE_ROWS))
        size = self.loader.batch_size
        self._train_mode(fresh=first == 0)
        label, main = f"student {self.params.model}", self.accelerator.is_main_process
        watched = self.params.log if main else "none"
        with (
            track(label, self.steps * size if main else 0, "tiles", done=first * size) as advance,
            scalar_log(watched, self.log, first) as write,
            Checkpoints(self.folder, self.params.checkpoint_minutes) as checkpoints,
        ):
            for step, batch in enumerate(self.loader.batches(first, self.steps), start=first):
                losses = self.step(step, batch)
                for name, value in losses.items():
                    self.sums[name] = self.sums.get(name, 0.0) + value
                done = step + 1
                if done % every == 0 or done == self.steps:
                    write(done, self._row(done, (done - 1) % every + 1))
                    # Not within a row: what is summed towards it is of each process, and a checkpoint of all.
                    if main and done < self.steps and checkpoints.due():
                        checkpoints.save(self._state(done))
                advance(size, note=f"loss {losses['loss']:.4f}")
        seconds = time.perf_counter() - begun
        speed = (self.steps - first) * size / max(seconds, 1e-9)
        return {"seconds": seconds, "tiles_per_s": speed, "steps": self.steps, "resumed_from": first}

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """One optimiser step; every objective's value on this process's share of the batch."""
        torch.manual_seed((self.params.seed % 2**20 * 2**30 + step) * 2**12 + self.accelerator.process_index)
        batch = self.inputs(step, batch.to(self.accelerator.device))
        terms = self.losses(batch, self.model(batch.image_NHWC))
        loss = self.losses.total(terms, self.raw.log_variance)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.params.clip_norm)
        assert norm is not None
        # All in one, since on a GPU each number that is read waits for the device.
        seen = torch.stack([norm, loss.detach(), *(term.detach() for term in terms.values())]).tolist()
        values = dict(zip(("gradient", "loss", *terms), seen, strict=True))
        for name in reversed(values):
            if not math.isfinite(values[name]):
                raise self._diverged(step, name, batch)
        del values["gradient"]
        self.schedule.step_update(step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.raw, step=step + 1)
        return values

    def _diverged(self, step: int, name: str, batch: Batch) -> TrainingError:
        """`name` is an objective's, or `loss`, or `gradient`, which is of the whole batch, whoever had the tiles."""
        slide_N = self.loader.whole_batch(step).slide if name == "gradient" else batch.slide_N
        ids = sorted({self.corpus.items[slide].id for slide in slide_N})
        fix = "lower student.lr or student.clip_norm; where it is always the same slides, histill store verify"
        what = {"loss": "loss", "gradient": "gradient"}.get(name, f"{name} loss")
        return TrainingError(f"the {what} is not finite; slides: {some(ids, 20)}", where=f"step {step}", fix=fix)

    def _row(self, done: int, steps: int) -> dict[str, float]:
        """Add a row to the curve: the mean of each loss over the last `steps` steps and over all processes."""
        names = sorted(self.sums)
        means = torch.tensor([self.sums[name] / steps for name in names], device=self.accelerator.device)
        values = self.accelerator.reduce(means, reduction="mean").tolist()
        row = {"step": done, "epoch": done / self.loader.steps_per_epoch, **dict(zip(names, values, strict=True))}
        row |= {"lr": self.optimizer.param_groups[0]["lr"], "tiles_seen": done * self.loader.batch_size}
        self.curve.append(row)
        self.sums = {}
        return row

    def _state(self, done: int) -> State:
        return {
            "step": done,
            "model": self.raw.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": self.curve,
        }

    def _resume(self) -> int:
        """Load the checkpoint, if there is one; the step to go on with."""
        state = load_checkpoint(self.folder)
        if state is None:
            return 0
        self.raw.load_state_dict(state["model"])
        if self.average is not None and state["average"] is not None:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = state["curve"]
        return state["step"]

    def _train_mode(self, fresh: bool) -> None:
        """Training mode; with frozen batch norm, its statistics measured where training is `fresh`, and held.

        One process measures for all.
        """
        self.model.train()
        if not self.params.freeze_batch_norm:
            return
        if fresh:
            if self.accelerator.is_main_process:
                self._measure_batch_norm(self.raw)
            broadcast(list(self.raw.buffers()))
            if self.average is not None:
                self.average.set(self.raw)
        for module in self.raw.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def final(self) -> Distiller:
        """The moving average (or the last weights without one), batch norm measured, in evaluation mode, on the CPU.

        An expanded head is one layer in it.
        """
        model = self.raw if self.average is None else self.average.module
        assert isinstance(model, Distiller)
        if not self.params.freeze_batch_norm:
            self._measure_batch_norm(model)
        distiller = model.eval().cpu()
        distiller.autocast = None
        distiller.student.fold_head()
        return distiller

    @torch.no_grad()
    def _measure_batch_norm(self, model: Distiller) -> None:
        """Over images of an epoch that training does not come to; the same whatever the number of processes.

        Of the student alone, in fp32 as it is exported: autocast and the compiled graph are the distiller's, whose
        adapter has no batch norm. Through the graph every layer would be compiled anew, since a layer that measures
        reads its counter.
        """
        own = self.loader
        size = min(own.batch_size, BN_BATCH)
        order = order_of(self.corpus, self.params, 1)
        loader = Loader(self.corpus, order, BatchShape(size, own.input_px), workers=own.workers)
        batches = max(1, min(loader.steps_per_epoch, BN_TILES // loader.batch_size))
        first = self.params.epochs * loader.steps_per_epoch
        # Dropout, where a model has it, must not depend on which step this process ran before.
        torch.manual_seed(self.params.seed)
        images = (batch.to(self.accelerator.device).image_NHWC for batch in loader.batches(first, first + batches))
        update_bn(images, model.student)


def _places(found: Sequence[object | None]) -> tuple[int, ...]:
    """Where there is something."""
    return tuple(place for place, one in enumerate(found) if one is not None)

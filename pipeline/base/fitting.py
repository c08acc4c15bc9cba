"""AdamW on a cosine with a linear warm-up: how everything here that has weights is fitted.

The rate of a step is a function of its number alone. It rises in W steps of warm-up, and then goes on where the cosine
over *all* S steps is by then: at 0.976 of its top where W / S is 0.1, so that after a warm-up it never stands there.

`fit` is the plain loop of one process, for the demo's teacher, rivals from labels and heads on slides. The student's
own loop (student/loop.py) adds processes, a moving average and checkpoints, and starts from the same `start`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How weights are fitted: `steps` of AdamW, the rate rising from `warmup_lr` to `lr` and falling to `lr_min`."""

    steps: int
    lr: float
    weight_decay: float
    warmup_steps: int = 0
    warmup_lr: float = 0.0
    lr_min: float = 0.0
    clip_norm: float | None = None
    """The gradient's norm is cut to this."""
    decay_all: bool = False
    """Weight decay on biases and norms too, which else go without."""

    def start(self, model: nn.Module) -> tuple[Optimizer, CosineLRScheduler]:
        """The optimiser of the model's weights, and its schedule: `step_update(step)` before the optimiser's step."""
        # Here, since it loads torch's compiler (deferred.py).
        from timm.optim import create_optimizer_v2

        optimizer: Optimizer = create_optimizer_v2(
            model, opt="adamw", lr=self.lr, weight_decay=self.weight_decay, filter_bias_and_bn=not self.decay_all
        )
        schedule = CosineLRScheduler(
            optimizer,
            t_initial=self.steps,
            lr_min=self.lr_min,
            warmup_t=self.warmup_steps,
            warmup_lr_init=self.warmup_lr,
            t_in_epochs=False,
        )
        return optimizer, schedule


def fit(
    model: nn.Module, losses: Iterable[Tensor], how: Fitting, seen: Callable[[float], object] | None = None
) -> list[float]:
    """Fit in place; the loss of every step.

    `losses` computes each step's when it is asked for it, with the weights of then; `seen` is told its value.
    """
    optimizer, schedule = how.start(model)
    values = []
    for step, loss in enumerate(losses):
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if how.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), how.clip_norm)
        schedule.step_update(step)
        optimizer.step()
        values.append(float(loss.detach()))
        if seen is not None:
            seen(values[-1])
    return values

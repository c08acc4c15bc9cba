"""On what a student is trained: the processes and devices as Accelerate finds them, and the precision there.

Accelerate is told all that would change the weights, since it takes what it is not told from the environment. Autocast
is ours (`model.Distiller`), not Accelerate's, which widens a model's answers to fp32: the dense loss reads the
adapter's map in bf16 and writes its gradient so, at half the bytes.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin

from pipeline.teachers.engines import pick_device, resolve_precision


def make_accelerator() -> Accelerator:
    """One process, or as many as `accelerate launch` or `torchrun` started; every batch is a step."""
    # Told nothing, Accelerate leaves processes on CPUs that torchrun started as strangers to one another.
    cpu = not torch.accelerator.is_available()
    # The environment wins over gradient_accumulation_steps=1, and would divide every gradient; not over a plugin.
    every = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(cpu=cpu, mixed_precision="no", gradient_accumulation_plugin=every)


def autocast_dtype() -> torch.dtype | None:
    """bf16 on a GPU that has it, else None: fp32."""
    return torch.bfloat16 if resolve_precision("auto", pick_device()) == "bf16" else None

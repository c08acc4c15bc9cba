"""A training step as a GPU would run it, without one: fake tensors on `cuda` hold no values, and refuse a CPU's.

Not of this: backward (the autograd engine asks for a real device), the kernel's own arithmetic, and time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made.cache import Cache
from made.corpus import GRID, TILE_PX, tiny
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from kernels.dense_loss import kernel
from kernels.hadamard import reference as hadamard
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.targets import cls_standardiser
from pipeline.student import loop
from pipeline.student.loop import Training
from pipeline.student.losses import Losses
from pipeline.student.model import build

GPU = torch.device("cuda:0")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "phi-s, relation, artefacts masked, fuse": {
        "standardise": "phi-s",
        "adapter": "fuse",
        "objective": {"relation": 1, "token_weight": "norm"},
    },
}


class Launch:
    """In place of a Triton kernel: every tensor it is given lies on the GPU, one row after the other."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        def launch(*arguments: object, **_: object) -> None:
            tensors = [value for value in arguments if isinstance(value, Tensor)]
            assert tensors and all(value.device == GPU and value.is_contiguous() for value in tensors)

        return launch


class OneGpu:
    """In place of Accelerate's: gradients that hold nothing."""

    device, num_processes, process_index, is_main_process = GPU, 1, 0, True

    def prepare(self, *made: Any) -> tuple[Any, ...]:
        self.model: nn.Module = made[0]
        return made

    def backward(self, loss: Tensor) -> None:
        assert loss.device == GPU and loss.dtype == torch.float32
        for parameter in self.model.parameters():
            parameter.grad = torch.empty_like(parameter)

    def clip_grad_norm_(self, parameters: Any, norm: float) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(parameters, norm)


def to_gpu(module: nn.Module) -> nn.Module:
    """Its parameters and buffers as fake ones of the GPU; what `Module.to` cannot do with them."""
    for part in module.modules():
        for name, value in part._parameters.items():
            part._parameters[name] = None if value is None else nn.Parameter(torch.empty(value.shape, device=GPU))
        for name, held in part._buffers.items():
            part._buffers[name] = None if held is None else torch.empty(held.shape, dtype=held.dtype, device=GPU)
    return module


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_keeps_to_its_gpu_and_waits_for_it_once(
    variant: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny(compile="off", **VARIANTS[variant])
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    size: dict[str, Any] = {"width": corpus.width, "input_px": TILE_PX, "grid": GRID}
    distiller, _ = build(model=params.model, adapter=params.adapter, seed=0, **size)
    standardiser, waits, generator = cls_standardiser(corpus, params.standardise), list[int](), torch.Generator()
    for name in ("_loss", "_norm"):
        monkeypatch.setattr(kernel, name, Launch())
    # Tables kept by device: a fake one would outlive this test.
    for tables in ("_SIGNS", "_MATRICES"):
        monkeypatch.setattr(hadamard, tables, {})
    monkeypatch.setattr(loop, "autocast_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.Generator", lambda device: generator)
    monkeypatch.setattr(nn.Module, "_apply", lambda module, *_: to_gpu(module))
    # Whatever else reads a value from the device raises under the mode.
    monkeypatch.setattr(FakeTensor, "tolist", lambda values: waits.append(1) or [1.0] * values.numel())
    with FakeTensorMode(allow_non_fake_inputs=True):
        losses = Losses(params, corpus, [standardiser], GPU)
        made = Training(distiller, corpus, params, losses=losses, folder=tmp_path, accelerator=OneGpu())  # type: ignore[arg-type]
        made.loader.pin = False
        made.model.train()
        with torch.utils._python_dispatch._disable_current_modes():
            batches = list(made.loader.batches(0, 2))
        for step, batch in enumerate(batches):
            values = made.step(step, batch)
    assert len(waits) == len(batches)
    assert {"loss", "cls", "patch"} <= set(values)

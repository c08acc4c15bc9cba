"""The stream as a GPU would see it: no lane reads too early, the host waits for nothing but results, devices agree.

There is no GPU: see device_stand_in.py for what stands in for it and what that cannot show.
"""

import sys

import numpy as np
import pytest
import timm
import torch
from device_stand_in import standing_in
from made.tiles import SIDE_PX, tiles_json

from kernels import available
from kernels.hadamard.blocks import block_of
from kernels.hadamard.reference import transform
from pipeline.params.tokens import AugmentParams
from pipeline.teachers.engines import Eager
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher
from pipeline.tokens import calibration
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.job import Job
from pipeline.tokens.run.worker import Worker
from pipeline.tokens.stage import tokens_recipe

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: bench.tokens.check runs on it")
VIT = {"img_size": SIDE_PX, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
MODELS = {
    "register tokens": ("vit_tiny_patch16_224", VIT | {"reg_tokens": 2}),
    "pooled": ("vit_tiny_patch16_224", VIT | {"class_token": False, "global_pool": "avg"}),
    "CNN": ("test_convnext", {}),
}


class OneOutput(Eager):
    """Answers into the same memory each time, as CUDA graphs do."""

    def __call__(self, image_NHWC):
        raw = super().__call__(image_NHWC)
        self._out = getattr(self, "_out", torch.empty_like(raw))
        return self._out.copy_(raw)


@pytest.fixture
def machine(monkeypatch):
    # Triton's kernels do not run on the stand-in; without Triton the reference does, on any device.
    monkeypatch.setitem(sys.modules, "triton", None)
    available._has_triton.cache_clear()
    with standing_in(monkeypatch) as machine:
        yield machine
    available._has_triton.cache_clear()


def computed(device, model, params, store, watched=None):
    """(cls, patch tokens) of two slides, which share batches; two dihedral views and one of crop and stain."""
    torch.manual_seed(0)
    name, kwargs = MODELS[model]
    teacher = Teacher(
        model, timm.create_model(name, num_classes=0, **kwargs), SIDE_PX, Preparation((0.5,) * 3, (0.5,) * 3)
    )
    tiles = tiles_json(store, {"a": 7, "b": 3})
    recipe = tokens_recipe(tiles, teacher, params, params.precision)
    choice = tuple(calibration.choose(tiles.items, 8))
    worker = Worker(Job(tiles.recipe, recipe | {"on": device}, params, store, 0, choice), teacher, torch.device(device))
    worker.engine = OneOutput(teacher, worker.device, params.precision)
    # The reference's table is sent there at its first use.
    transform(torch.zeros(1, teacher.width, device=device), block_of(teacher.width))
    worker.calibrate(choice)
    if watched is not None:
        watched.found.clear()
    assert worker.compute(tiles.items, lambda tiles, slide_id, cached: None).tiles == 10
    readers = [TokenReader(store.path(worker.job.ref(item.key))) for item in tiles.items]
    cls = [reader.cls(np.arange(len(reader))).ravel() for reader in readers]
    patch = [reader.dequantised(np.arange(len(reader)), v).ravel() for reader in readers for v in range(3)]
    return np.concatenate(cls).astype(np.float32), np.concatenate(patch)


@pytest.mark.parametrize(
    ("model", "layout", "precision"),
    [("register tokens", "int8", "bf16"), ("pooled", "fp16", "fp32"), ("CNN", "int8", "fp32")],
)
def test_the_stream_on_a_device_of_its_own(model, layout, precision, tiny_params, store, machine):
    gate = tiny_params.gate.model_copy(update={"mean_cosine": 0.0, "worst_cosine": 0.0})
    augment = AugmentParams(views=1)
    changed = {
        "engine": "eager",
        "patch": layout,
        "precision": precision,
        "batch_size": 4,
        "views": 2,
        "augment": augment,
        "gate": gate,
    }
    params = tiny_params.model_copy(update=changed)
    here = computed("cpu", model, params, store)
    there = computed("cuda", model, params, store, machine)
    assert machine.found == []
    for got, expected in zip(there, here, strict=True):
        # CUDA takes other operators, whose last bits round to another int here and there.
        assert np.linalg.norm(got - expected) < 0.01 * np.linalg.norm(expected)


def lanes():
    """Two of them, and a tensor that the first has made."""
    first, second = torch.cuda.Stream(), torch.cuda.Stream()
    with torch.cuda.stream(first):
        return first, second, torch.ones(4, device="cuda") + 1


FAULTS = {
    "read before it is written": lambda first, second, value: (value.record_stream(second), value + 1),
    "used on a lane that its memory is not recorded for": lambda first, second, value: (
        second.wait_stream(first),
        value + 1,
    ),
    "overwritten before it is read": lambda first, second, value: (
        second.wait_stream(first),
        value.record_stream(second),
        value + 1,
        on(first, value.zero_),
    ),
    "the host waits for work in flight": lambda first, second, value: on(first, value.cpu),
    "the host waits for work in flight, by a question": lambda first, second, value: on(
        first, lambda: bool(value.all())
    ),
    "the host waits for work in flight, by pageable memory": lambda first, second, value: on(
        first, lambda: torch.from_numpy(np.ones(4)).to("cuda", non_blocking=True)
    ),
}


def on(lane, work):
    with torch.cuda.stream(lane):
        return work()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_stand_in_sees_each_fault(fault, machine):
    first, second, value = lanes()
    on(second, lambda: FAULTS[fault](first, second, value))
    assert [found.split(":")[0] for found in machine.found] == [fault.split(",")[0]]


def test_the_stand_in_refuses_two_devices_in_one_operation(machine):
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device="cuda") + torch.ones(3)

import numpy as np
import pytest
import timm
import torch

from pipeline.base.errors import TeacherError
from pipeline.params.tokens import GateParams
from pipeline.teachers.engines import Eager, gate
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, depth=3)
    return Teacher("tiny", model, 64, Preparation((0.5,) * 3, (0.5,) * 3))


@pytest.fixture(scope="module")
def tiles() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8))


class Broken(Eager):
    """An engine whose last block's attention is scaled wrongly, as a compiler that loses 1 / sqrt(d) would do."""

    name = "broken"

    def __call__(self, image_NHWC):
        attention = self._trunk.features.blocks[-1].attn
        right = attention.q_norm
        attention.q_norm = Times(attention.head_dim**0.5)
        try:
            return super().__call__(image_NHWC)
        finally:
            attention.q_norm = right


class Times(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


class Shifted(Eager):
    """An engine that answers one token with its neighbour's answer, and all else rightly."""

    name = "shifted"

    def __call__(self, image_NHWC):
        raw = super().__call__(image_NHWC).clone()
        raw[:, 7] = raw[:, 8]
        return raw


class NotFinite(Eager):
    name = "nan"

    def __call__(self, image_NHWC):
        raw = super().__call__(image_NHWC).clone()
        raw[-1, -1, 0] = torch.inf
        return raw


def test_bf16_passes_and_says_how_near_it_came(teacher, tiles):
    engine = Eager(teacher, CPU, "bf16")
    result = gate.compare(engine, teacher, tiles, GateParams(), 16)
    assert gate.needed(engine) and not gate.needed(Eager(teacher, CPU, "fp32"))
    assert set(result.figures()) == {"gate_cls_mean", "gate_cls_worst", "gate_patch_mean", "gate_patch_worst"}
    assert 0.999 < result.patch_worst <= result.patch_mean < 1 and result.tiles == 16


def test_the_reference_agrees_with_itself(teacher, tiles):
    result = gate.compare(Eager(teacher, CPU, "fp32"), teacher, tiles, GateParams(), 16)
    assert min(result.figures().values()) > 1 - 1e-9


@pytest.mark.parametrize("engine", [Broken, Shifted])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_broken_engine_is_refused_with_the_table(engine, precision, teacher, tiles):
    with pytest.raises(TeacherError, match=r"(?s)engine (broken|shifted), .*too far .*CLS .*patch .*needed .*eager"):
        gate.compare(engine(teacher, CPU, precision), teacher, tiles, GateParams(), 16)


def test_standardised_cosines_show_a_broken_engine_more_than_raw_ones(teacher, tiles):
    with torch.inference_mode():
        wrong, right = (teacher.finish(engine(teacher, CPU, "fp32")(tiles))[1] for engine in (Broken, Eager))
    raw = torch.nn.functional.cosine_similarity(wrong, right, dim=2)
    standardised = gate.cosines(wrong.flatten(0, 1), right.flatten(0, 1))
    assert standardised.mean() < raw.mean()


def test_inf_is_refused_whatever_the_thresholds(teacher, tiles):
    loose = GateParams(mean_cosine=0, worst_cosine=0, fp32_mean_cosine=0, fp32_worst_cosine=0)
    with pytest.raises(TeacherError, match="NaN or inf on the golden tiles"):
        gate.compare(NotFinite(teacher, CPU, "fp32"), teacher, tiles, loose, 16)


def test_tiles_that_are_all_the_same_are_no_reason_to_refuse(teacher, tiles):
    same = tiles[:1].expand(16, -1, -1, -1).contiguous()
    assert gate.compare(Eager(teacher, CPU, "bf16"), teacher, same, GateParams(), 16).cls_worst > 0.999


def test_a_store_of_one_tile_can_be_checked(teacher, tiles):
    assert gate.compare(Eager(teacher, CPU, "bf16"), teacher, tiles[:1], GateParams(), 16).tiles == 1


def test_the_engine_gets_full_batches_of_the_runs_size_alone(teacher, tiles):
    seen = []

    class Watched(Eager):
        def __call__(self, image_NHWC):
            seen.append(len(image_NHWC))
            return super().__call__(image_NHWC)

    assert gate.compare(Watched(teacher, CPU, "bf16"), teacher, tiles, GateParams(), 12).tiles == 16
    assert seen == [12, 12]

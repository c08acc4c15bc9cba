"""The gate: no engine's answer is kept before it was compared with fp32 eager on golden tiles.

Half-precision ViTs have silently broken in compilers more than once: the answer is finite, plausible and wrong.

What is compared is the token as it is used downstream: centred and divided by each channel's deviation, both taken
from the reference. Raw cosines mislead: the tokens of a ViT share one long mean vector and a few massive channels, so
that even the constant mean scores 0.7 and an engine that gets all else wrong still looks near. Shapes: N golden tiles,
T patch tokens, M = N * T, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.base.errors import TeacherError
from pipeline.params.tokens import GateParams
from pipeline.teachers.engines.base import Engine
from pipeline.teachers.engines.eager import Eager
from pipeline.teachers.statistics import measure
from pipeline.teachers.teacher import Teacher

_SPREAD_MIN = 1e-3
"""Tokens that vary less than this share of their length have nothing but rounding left when they are centred."""
_BATCH = 8
"""Tiles a forward pass of the reference."""


@dataclass(frozen=True)
class GateResult:
    """How near an engine came: mean and worst cosine of the CLS tokens and of the patch tokens with fp32 eager's."""

    engine: str
    precision: str
    tiles: int
    cls_mean: float
    cls_worst: float
    patch_mean: float
    patch_worst: float

    def figures(self) -> dict[str, float]:
        """For the run's metrics; they depend on the machine, so that no manifest holds them."""
        return {f"gate_{name}": getattr(self, name) for name in ("cls_mean", "cls_worst", "patch_mean", "patch_worst")}

    def table(self, mean: float, worst: float) -> str:
        """The figures beside what they have to reach."""
        lines = [f"{'':8}{'mean':>12}{'worst':>12}"]
        for kind, found in (("CLS", (self.cls_mean, self.cls_worst)), ("patch", (self.patch_mean, self.patch_worst))):
            lines.append(f"{kind:8}{found[0]:12.7f}{found[1]:12.7f}")
        return "\n".join([*lines, f"{'needed':8}{mean:12.7f}{worst:12.7f}"])


def needed(engine: Engine) -> bool:
    """Every engine but the reference itself, fp32 eager."""
    return not (engine.name == "eager" and engine.precision == "fp32")


def compare(
    engine: Engine, teacher: Teacher, image_NHWC: Tensor, thresholds: GateParams, batch_size: int
) -> GateResult:
    """Compare the engine with fp32 eager on golden tiles, uint8 (N, input_px, input_px, 3) on any device.

    The engine gets batches of `batch_size`, filled up with zeros, as the run will send them: other shapes run other
    kernels. Raises `TeacherError` with the table where a cosine is too low, or where the engine answers NaN or inf.
    """
    where = f"teacher {teacher.name}, engine {engine.name}, {engine.precision}"
    got_cls_ND, got_patch_NTD = _answers(engine, teacher, image_NHWC, batch_size)
    want_cls_ND, want_patch_NTD = _answers(Eager(teacher, engine.device, "fp32"), teacher, image_NHWC, None)
    if not (torch.isfinite(got_cls_ND).all() and torch.isfinite(got_patch_NTD).all()):
        fix = "try `tokens.precision: fp32`, or `tokens.engine: eager`"
        raise TeacherError("answers NaN or inf on the golden tiles", where=where, fix=fix)
    cls_N = cosines(got_cls_ND, want_cls_ND, where)
    patch_M = cosines(got_patch_NTD.flatten(0, 1), want_patch_NTD.flatten(0, 1), where)
    figures = [float(value) for cosine in (cls_N, patch_M) for value in (cosine.mean(), cosine.min())]
    result = GateResult(engine.name, engine.precision, len(image_NHWC), *figures)
    exact = engine.precision == "fp32"
    mean = thresholds.fp32_mean_cosine if exact else thresholds.mean_cosine
    worst = thresholds.fp32_worst_cosine if exact else thresholds.worst_cosine
    if min(result.cls_mean, result.patch_mean) < mean or min(result.cls_worst, result.patch_worst) < worst:
        what = f"too far from fp32 eager on {result.tiles} golden tiles:\n{result.table(mean, worst)}\n"
        fix = "set `tokens.engine: eager` or `tokens.precision: fp32`; thresholds: `tokens.gate`"
        raise TeacherError(what, where=where, fix=fix)
    return result


def cosines(got_MD: Tensor, want_MD: Tensor, where: str = "") -> Tensor:
    """Cosine of each token with its reference (M,) float64, both standardised by the reference's mean and deviation.

    Raw where there is nothing to standardise by: fewer than 8 tokens, or tokens that are all the same.
    """
    got_MD, want_MD = got_MD.double(), want_MD.double()
    if len(want_MD) >= 8:
        frozen = measure([want_MD[None]], where)
        mu_D, sigma_D = (torch.from_numpy(v).to(want_MD) for v in (frozen.mu, frozen.sigma))
        if (want_MD - mu_D).norm(dim=1).mean() > _SPREAD_MIN * want_MD.norm(dim=1).mean():
            got_MD, want_MD = (got_MD - mu_D) / sigma_D, (want_MD - mu_D) / sigma_D
    return torch.nn.functional.cosine_similarity(got_MD, want_MD, dim=1)


def _answers(engine: Engine, teacher: Teacher, image_NHWC: Tensor, batch_size: int | None) -> tuple[Tensor, Tensor]:
    """cls (N, D) and patch (N, T, D), float32 on the CPU; from batches of that size alone, or of any."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for part_NHWC in torch.split(image_NHWC, batch_size or _BATCH):
            n = len(part_NHWC)
            if batch_size is not None:
                part_NHWC = F.pad(part_NHWC, (0, 0) * 3 + (0, batch_size - n))
            cls_ND, patch_NTD = teacher.finish(engine(part_NHWC.to(engine.device))[:n])
            yield cls_ND.cpu(), patch_NTD.cpu()

    with torch.inference_mode():
        cls, patch = zip(*batches(), strict=True)
        return torch.cat(cls), torch.cat(patch)

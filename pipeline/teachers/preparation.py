"""How a tile becomes the teacher's input: mean and deviation of the colours, and the filter that resizes it.

Local weights under a timm name would otherwise run with what timm says of that name, which is of timm's own weights;
so what is used is said, and where the file or its geometry looks like a known teacher's, what that one takes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, TypedDict

from PIL import Image

from pipeline.params.tokens import TokensParams
from pipeline.teachers.registry import TEACHERS, TeacherEntry

if TYPE_CHECKING:
    from pipeline.teachers.teacher import Teacher

RESIZED_BY = "bicubic"
"""The filter where the params name none."""
_HALVES = (0.5, 0.5, 0.5)
_SAME = 1e-4
_PATHOLOGY = frozenset(
    (
        "uni", "uni2", "virchow", "virchow2", "hoptimus", "optimus", "h0", "phikon", "gigapath", "conch", "titan",
        "chief", "ctranspath", "hibou", "kaiko", "midnight", "lunit", "plip", "quilt", "musk", "keep", "pathodino",
        "pathoduet", "retccl", "hipt", "prism", "exaone", "atlas", "rudolfv", "pathology", "histology",
        "histopathology", "tcga", "bioptimus", "owkin", "mahmoodlab", "paige",
    )
)  # fmt: skip
"""Words in the names of files that hold a pathology encoder's weights."""
_NAMED = {"uni2": "uni2-h", "virchow2": "virchow2", "uni": "uni", "phikon": "phikon-v2", "gigapath": "gigapath"}
_NAMED |= {"optimus": "h-optimus-0", "hoptimus": "h-optimus-0", "h0": "h-optimus-0", "bioptimus": "h-optimus-0"}

Rgb = tuple[float, float, float]


class PretrainedCfg(TypedDict, total=False):
    """What is read of timm's `pretrained_cfg`."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


@dataclass(frozen=True)
class Preparation:
    """Mean and deviation of red, green and blue in 0..1, the filter by which tiles are resized, and who said so."""

    mean: Rgb
    std: Rgb
    interpolation: str = RESIZED_BY
    said_by: str = "its own"

    @property
    def resample(self) -> Image.Resampling:
        """The filter, as Pillow knows it."""
        return Image.Resampling[self.interpolation.upper()]

    def same_colours(self, mean: Rgb, std: Rgb) -> bool:
        """Whether these are its mean and deviation."""
        pairs = zip((*self.mean, *self.std), (*mean, *std), strict=True)
        return all(abs(mine - other) < _SAME for mine, other in pairs)

    def told(self, input_px: int) -> str:
        """In words."""
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        resized = f"tiles of other sides resized to {input_px} px, {self.interpolation}"
        return f"mean {mean}, std {std} ({self.said_by}); {resized}"


def preparation(params: TokensParams, entry: TeacherEntry | None, cfg: PretrainedCfg) -> Preparation:
    """What the params say, else the registry's `entry`, else timm's `cfg` of the model."""
    mean, std = (entry.mean, entry.std) if entry else (cfg.get("mean", _HALVES), cfg.get("std", _HALVES))
    said_by = "the registry's" if entry else f"timm's for {params.teacher}"
    told = [f"tokens.{name}" for name in ("mean", "std") if getattr(params, name) is not None]
    if told:
        said_by = " and ".join(told) if len(told) == 2 else f"{told[0]}, else {said_by}"
    return Preparation(_rgb(params.mean or mean), _rgb(params.std or std), params.interpolation or RESIZED_BY, said_by)


def hints(params: TokensParams, teacher: Teacher, cfg: PretrainedCfg) -> tuple[str, ...]:
    """What to say of local weights under a timm name whose preprocessing nobody has told."""
    said = []
    filtered = cfg.get("interpolation", RESIZED_BY)
    if params.interpolation is None and filtered in ("bilinear", "lanczos", "nearest"):
        said.append(
            f"timm resizes to {params.teacher} by {filtered}: to do so too, set tokens.interpolation: {filtered}"
        )
    if params.weights is not None and (params.mean is None or params.std is None):
        said += _of_weights(params.weights, teacher)
    return tuple(said)


def _of_weights(weights: str, teacher: Teacher) -> list[str]:
    """Whose weights these may be, by the file's name or by a registry entry of the same geometry, and what to set."""
    words = _words(weights)
    of_pathology = sorted(words & _PATHOLOGY)
    alike = [name for name, entry in TEACHERS.items() if _same_geometry(entry, teacher)]
    named = [name for word, name in _NAMED.items() if word in words and name in alike]
    used = teacher.preparation
    other = [name for name in named[:1] or alike if not used.same_colours(TEACHERS[name].mean, TEACHERS[name].std)]
    if not other and (named or not of_pathology):
        return []
    looks = f"{PurePath(weights).name} looks like a pathology encoder's weights ({', '.join(of_pathology)} in its path)"
    if not other:
        return [f"{looks}: set tokens.mean and tokens.std to its makers', even if they are these"]
    has = "has" if len(other) == 1 else "have"
    why = looks if of_pathology else f"{', '.join(other)} {has} this width, patch and registers"
    first = TEACHERS[other[0]]
    mean, std = f"tokens.mean: {list(first.mean)}", f"tokens.std: {list(first.std)}"
    return [f"{why}: if these are the weights of {other[0]}, set tokens.teacher: {other[0]}, or {mean} and {std}"]


def _same_geometry(entry: TeacherEntry, teacher: Teacher) -> bool:
    registers = teacher.n_prefix - 1
    patch_px = teacher.input_px / teacher.grid[0]
    alike = (teacher.width, patch_px) == (entry.width, entry.patch_px) and teacher.cls_is_token
    return alike and entry.registers in (None, registers)


def _words(weights: str) -> set[str]:
    """The words of the file's name and of the folders it lies in (a hub's cache calls all its files alike)."""
    return set(re.findall(r"[a-z]+\d*", " ".join(PurePath(weights).parts[-4:]).lower()))


def _rgb(values: Sequence[float]) -> Rgb:
    red, green, blue = (float(value) for value in values)
    return red, green, blue

"""What an exported student's folder says of itself, read without torch: its files, its input, its width, its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import StudentError
from pipeline.base.files import as_file_name
from pipeline.base.partials import file_sha256
from pipeline.base.types import Json

CONFIG_FILE, WEIGHTS_FILE, ONNX_FILE, CARD_FILE = "config.json", "model.safetensors", "model.onnx", "README.md"
ADAPTER_FILE, ADAPTER_WEIGHTS_FILE = "adapter.json", "adapter.safetensors"
ADAPTER_FOLDER = "adapter"
"""Of these two: timm 1.0.16 to 1.0.28 fail on a folder with a second .safetensors in it (a NameError)."""
DENSE_ONNX_FILE = "dense.onnx"
"""In the adapter's folder: the student with its adapter, two outputs."""
NESTED_FOLDER, NESTED_FILE, NESTED_WEIGHTS_FILE = "nested", "nested.json", "nested.safetensors"
"""Of a student with nested sizes: what makes the nested vector of its features, and brings it into the teacher's."""
SPACE_FILE = "space.json"
"""In the adapter's folder: mean and deviation of the teacher's patch tokens."""
SPACES_FOLDER = "spaces"
"""Of a student of several teachers: a folder a further one, called after it, the same student in that one's space."""
MADE = "histill"
"""Of config.json, what the student was made of; timm passes over it."""


@dataclass(frozen=True)
class Made:
    """What a student was distilled from: the teacher's name, and its tiles, `tile_px` a side at `target_mpp` um/px.

    `also` are further teachers that its trunk learnt from.
    """

    teacher: str
    tile_px: int
    target_mpp: float | None
    also: tuple[str, ...] = ()

    @property
    def told(self) -> dict[str, Json]:
        """For config.json; without an `also` that names none."""
        found: dict[str, Json] = {"teacher": self.teacher, "tile_px": self.tile_px, "target_mpp": self.target_mpp}
        return {**found, "also": list(self.also)} if self.also else found

    @property
    def teachers(self) -> tuple[str, ...]:
        """All of them."""
        return (self.teacher, *self.also)


@dataclass(frozen=True)
class Shipped:
    """An exported student: its folder, timm's name of it, the side of its square input, mean and deviation of inputs in
    0..1, the teacher's width D, `digest`, 32 hex digits of its weights' sha256, timm's further `arguments`, and what it
    was made of (None of what an earlier Histill exported)."""

    folder: Path
    architecture: str
    input_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    width: int
    digest: str
    arguments: Mapping[str, Json] = field(default_factory=dict)
    made: Made | None = None

    @property
    def name(self) -> str:
        """What it is called as an encoder, unless it stands in for another."""
        return f"histill-{self.architecture}-{self.digest[:8]}"

    @classmethod
    def of_folder(cls, folder: Path) -> Shipped:
        """Raises `StudentError` where there is none, or what is there says too little."""
        require_student(folder)
        try:
            config = json.loads((folder / CONFIG_FILE).read_bytes())
            cfg = config["pretrained_cfg"]
            mean, std = (tuple(float(value) for value in cfg[name]) for name in ("mean", "std"))
            side, width = int(cfg["input_size"][-1]), int(config["num_classes"])
            digest = file_sha256(folder / WEIGHTS_FILE)[:32]
            arguments = dict(config.get("model_args") or {})
            made = Made(**{**told, "also": tuple(told.get("also", ()))}) if (told := config.get(MADE)) else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            fix = "export it again: dvc repro student"
            raise StudentError(f"not an exported student: {error!r}", where=str(folder), fix=fix) from None
        name = str(config["architecture"])
        return cls(folder, name, side, _three(mean), _three(std), width, digest, arguments, made)


def require_student(folder: Path) -> None:
    """Raises `StudentError` where the folder holds no exported student."""
    if not (folder / CONFIG_FILE).is_file():
        fix = "dvc repro student, or name another folder"
        raise StudentError("no exported student here", where=str(folder), fix=fix)


def space_of(folder: Path, teacher: str) -> Path:
    """Where an exported student of several teachers answers in the space of that one, a further one."""
    return folder / SPACES_FOLDER / as_file_name(teacher)


def in_space(folder: Path, teacher: str) -> Path:
    """The folder of an exported student that answers in a teacher's space. Raises `StudentError` where none does."""
    first = Shipped.of_folder(folder).made
    found = space_of(folder, teacher)
    if first is not None and as_file_name(first.teacher) == found.name:
        return folder
    if not (found / CONFIG_FILE).is_file():
        others = sorted(path.parent.name for path in folder.glob(f"{SPACES_FOLDER}/*/{CONFIG_FILE}"))
        known = ", ".join([*([first.teacher] if first else []), *others])
        fix = f"one of: {known}; a further teacher is named in tokens.also before the student is trained"
        raise StudentError(f"it does not answer in the space of {teacher}", where=str(folder), fix=fix)
    return found


def adapter_folder(folder: Path) -> Path:
    """Where an exported student has its adapter: below it, and beside its weights if an earlier Histill exported it."""
    return folder if (folder / ADAPTER_FILE).is_file() else folder / ADAPTER_FOLDER


def dense_grid(folder: Path) -> tuple[int, int]:
    """(h, w) of the patch tokens that an exported student answers. Raises `StudentError` where it has no adapter."""
    try:
        told = json.loads((adapter_folder(folder) / ADAPTER_FILE).read_bytes())
        height, width = (int(side) for side in told["arguments"]["grid"])
    except FileNotFoundError:
        what = "the student has no adapter: it was trained without the patch objective"
        fix = "leave out --dense, or train with student.objective.patch"
        raise StudentError(what, where=str(folder), fix=fix) from None
    return height, width


def nested_sizes(folder: Path) -> tuple[int, ...]:
    """The nested sizes of an exported student; empty where it has none."""
    path = folder / NESTED_FOLDER / NESTED_FILE
    return tuple(int(size) for size in json.loads(path.read_bytes())["sizes"]) if path.is_file() else ()


def nested_digest(folder: Path) -> str:
    """32 hex digits of the sha256 of what makes an exported student's nested vector."""
    return file_sha256(folder / NESTED_FOLDER / NESTED_WEIGHTS_FILE)[:32]


def require_size(folder: Path, width: int) -> None:
    """Raises `StudentError` where an exported student has no embedding of `width` numbers."""
    sizes = nested_sizes(folder)
    if width in sizes:
        return
    if sizes:
        fix = f"one of {', '.join(map(str, sizes))}; without --width, the full embedding"
        raise StudentError(f"it has no embedding of {width} numbers", where=str(folder), fix=fix)
    if folder.parent.name == SPACES_FOLDER:
        what = "nested sizes are of the first teacher's space, and this is another's"
        raise StudentError(what, where=str(folder), fix="leave out --width or --space")
    fix = "leave out --width, or train with student.nested: [64, 128, 256]"
    raise StudentError("it has no nested sizes: it was trained without student.nested", where=str(folder), fix=fix)


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue

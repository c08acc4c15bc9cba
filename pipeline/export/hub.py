"""A folder to push to a model hub: the student's files, and its card with the metadata that a hub reads.

    config.json, model.safetensors   what timm.create_model("hf-hub:OWNER/NAME", pretrained=True) takes
    model.onnx, adapter/             the rest of the student
    README.md                        the card: with figures, where the report of the same run has made one

A folder that is there, as a clone of the hub's repository is, is written into; what is in it under other names stays.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import ExportError
from pipeline.base.files import write_atomic
from pipeline.export.metadata import Metadata
from pipeline.export.student_copy import card_of, copy_student
from pipeline.student.shipped import CARD_FILE, Shipped

FIGURED_CARD = Path("reports/model_card.md")
SOMEBODY = "OWNER/NAME"
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_FIGURES = re.compile(r"^## Figures\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_LOCAL = (
    ("local-dir:models/student", "hf-hub:{repo}"),
    ("With timm before 1.0.16, which knows no `local-dir`", "From a clone of this repository, with any timm"),
    ("models/student/", ""),
)
"""What the card of a student on one's own disk says, and what it says on a hub."""


@dataclass(frozen=True)
class HubFolder:
    """What was written, relative to the folder, and whether the card has figures."""

    written: tuple[str, ...]
    as_it_was: tuple[str, ...]
    figures: bool


def export_hub(
    student: Path,
    out: Path,
    metadata: Metadata,
    *,
    repo: str = SOMEBODY,
    card: Path | None = None,
    replace: bool = False,
) -> HubFolder:
    """Write the folder. `repo` is what it will be called; `card` is a card to use, by default that of the report.

    Raises `StudentError` where there is none, `ExportError` where another file is in the way and not `replace`.
    """
    shipped = Shipped.of_folder(student)
    if out.exists() and not out.is_dir():
        raise ExportError("not a folder", where=str(out), fix="give a folder")
    text = card.read_text(encoding="utf-8") if card else best_card(shipped)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        fresh = Path(name) / "student"
        copy_student(shipped, fresh)
        write_atomic(fresh / CARD_FILE, hub_card(text, metadata, repo).encode())
        files = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file())
        same = [file for file in files if (out / file).is_file() and _equal(fresh / file, out / file)]
        new = [file for file in files if file not in same]
        others = [str(file) for file in new if (out / file).exists()]
        if others and not replace:
            what = f"other files are there: {', '.join(others)}"
            raise ExportError(what, where=str(out), fix="--replace, or another folder")
        for file in new:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(fresh / file, out / file)
    return HubFolder(tuple(map(str, new)), tuple(map(str, same)), figures="| measure |" in text)


def best_card(shipped: Shipped, figured: Path = FIGURED_CARD) -> str:
    """The student's own card; where the report has made one of the same run, that one, which has figures."""
    own = card_of(shipped)
    if figured.is_file():
        found = figured.read_text(encoding="utf-8")
        if _FIGURES.sub("", found) == _FIGURES.sub("", own):
            return found
    return own


def hub_card(text: str, metadata: Metadata, repo: str) -> str:
    """The card with its metadata block in place of the one that it has, and the model by its name on the hub."""
    body = _FRONT.sub("", text)
    for local, remote in _LOCAL:
        body = body.replace(local, remote.format(repo=repo))
    return metadata.block() + body


def _equal(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()

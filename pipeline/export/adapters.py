"""A small file that builds the student in another tool, and the student beside it: `histill_student/`.

    trident, clam, stamp    run the tool's own program with the student as its encoder
    slide2vec               registers it as a preset; runs the program too
    lazyslide, thunder      a function, a class, as the tool wants one
    eva                     a configuration

The student's folder is a package too, which the adapters share: it builds the student by
`timm.create_model(architecture, num_classes=D, checkpoint_path=…)`, which every timm has since 0.9 (`local-dir:` came
with 1.0.16, and the tools pin 0.9.8 to 1.0.27), and gives tiles the transform that the student was trained with. What
each tool asks for, by its source: templates/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from pipeline.base.errors import ExportError
from pipeline.base.files import write_atomic
from pipeline.base.types import Json
from pipeline.export.student_copy import copy_student, require_same
from pipeline.student.shipped import CONFIG_FILE, WEIGHTS_FILE, Shipped
from pipeline.tiles.coords.tiling import power

TOOLS = ("trident", "clam", "lazyslide", "slide2vec", "stamp", "eva", "thunder")
STUDENT, PACKAGE_FILE = "histill_student", "__init__.py"
TILE_PX, TARGET_MPP = 224, 0.5
"""Of a student that does not say what tiles it was trained on: Histill's defaults."""
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Adapter:
    """What was written: the file, its first lines, which say how it is run, and whether anything changed."""

    file: Path
    usage: str
    written: bool


def export_adapter(tool: str, student: Path, out: Path, *, replace: bool = False) -> Adapter:
    """Write `out/histill_<tool>.py` (eva: .yaml) and the student to `out/histill_student`.

    Raises `ExportError` for an unknown tool, where another student is there, and where the file is there with another
    content, unless `replace`; `StudentError` where `student` is none.
    """
    if tool not in TOOLS:
        raise ExportError(f"no such tool: {tool}", where="--for", fix=f"one of {', '.join(TOOLS)}")
    shipped = Shipped.of_folder(student)
    (template,) = _TEMPLATES.glob(f"{tool}.*.txt")
    file = out / f"histill_{template.name.removesuffix('.txt')}"
    if out.exists() and not out.is_dir():
        raise ExportError("not a folder", where=str(out), fix="give a folder")
    if (out / STUDENT).exists():
        require_same(shipped, out / STUDENT)
    package = _TEMPLATES / "student.py.txt"
    wanted = ((out / STUDENT / PACKAGE_FILE, package), (file, template))
    files = {path: render(of, shipped, path.name) for path, of in wanted}
    there = {path: path.read_text(encoding="utf-8") if path.exists() else None for path in files}
    for path, text in files.items():
        if there[path] not in (None, text) and not replace:
            what, fix = "another file is there (changed by hand, or of another Histill)", "--replace, or another --out"
            raise ExportError(what, where=str(path), fix=fix)
    written = copy_student(shipped, out / STUDENT)
    for path, text in files.items():
        if there[path] != text:
            write_atomic(path, text.encode())
            written = True
    return Adapter(file, _usage(files[file]), written)


def render(template: Path, shipped: Shipped, file: str) -> str:
    """The adapter's text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, autoescape=False
    )
    return environment.get_template(template.name).render(_facts(shipped, file)) + "\n"


def _facts(shipped: Shipped, file: str) -> Mapping[str, Json]:
    """What the templates name."""
    made = shipped.made
    tile_px, mpp = (made.tile_px, made.target_mpp or TARGET_MPP) if made else (TILE_PX, TARGET_MPP)
    config = json.loads((shipped.folder / CONFIG_FILE).read_bytes())
    cfg = config["pretrained_cfg"]
    arguments = {"num_classes": shipped.width, **shipped.arguments}
    how = f'interpolation="{cfg.get("interpolation", "bicubic")}", crop_pct={float(cfg.get("crop_pct", 1.0))}'
    return {
        "name": shipped.name,
        "file": file,
        "architecture": shipped.architecture,
        "teacher": made.teacher if made else "a teacher",
        "width": shipped.width,
        "channels": int(config["num_features"]),
        "input_px": shipped.input_px,
        "tile_px": tile_px,
        "mpp": mpp,
        "tile_um": round(tile_px * mpp, 3),
        "power": power(mpp),
        "mean": repr(shipped.mean),
        "std": repr(shipped.std),
        "mean_list": json.dumps(shipped.mean),
        "std_list": json.dumps(shipped.std),
        "model_kwargs": json.dumps({**arguments, "checkpoint_path": f"{STUDENT}/{WEIGHTS_FILE}"}),
        "weights": WEIGHTS_FILE,
        "arguments": ", ".join(f"{name}={value!r}" for name, value in arguments.items()),
        "resized": how,
    }


def _usage(text: str) -> str:
    """The adapter's first lines, without what makes them a docstring or comments."""
    if text.startswith('"""'):
        return text[3:].split('"""', 1)[0].strip()
    lines = text.split("\n", 60)
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines if line.startswith("#"))

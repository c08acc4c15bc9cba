"""The metadata block of a model card, as the Hugging Face hub reads it: whose licence holds, and what it was made of.

A student's licence is the teacher's, of several the strictest one's, as far as is known here (teachers/licences.py);
what is not known is told as `other`, and never left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from pipeline.base.errors import ExportError
from pipeline.student.shipped import Shipped
from pipeline.teachers.licences import licence_of, strictest, unknown_licences
from pipeline.teachers.registry import entry_of

TAGS = ("histopathology", "pathology", "feature-extraction", "knowledge-distillation", "timm")
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0")
"""Those of the hub's identifiers that models of the field have."""
OF_ITS_TEACHER = "as-of-its-teacher"
_HUB = "hf-hub:"
_REPO = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Metadata:
    """`licence` is an identifier of the hub; with `other` there are `licence_name` and, to a page, `licence_link`."""

    licence: str
    licence_name: str | None = None
    licence_link: str | None = None
    base_model: str | tuple[str, ...] | None = None
    datasets: tuple[str, ...] = ()

    def block(self) -> str:
        """The YAML block that begins a card."""
        told = {
            "library_name": "timm",
            "pipeline_tag": "image-feature-extraction",
            "license": self.licence,
            "license_name": self.licence_name,
            "license_link": self.licence_link,
            "base_model": list(self.base_model) if isinstance(self.base_model, tuple) else self.base_model,
            "datasets": list(self.datasets) or None,
            "tags": list(TAGS),
        }
        kept = {name: value for name, value in told.items() if value is not None}
        return f"---\n{yaml.safe_dump(kept, sort_keys=False)}---\n"


def metadata_of(
    shipped: Shipped, base_model: str | None = None, licence: str | None = None, datasets: Sequence[str] = ()
) -> Metadata:
    """Of a student, by its teacher; what is given goes before what is known. Raises `ExportError`."""
    for name in (*datasets, *([base_model] if base_model else [])):
        if not _REPO.fullmatch(name):
            raise ExportError(f"{name} is no name on the hub", where="--base-model, --dataset", fix="OWNER/NAME")
    teachers = shipped.made.teachers if shipped.made else ("",)
    found = tuple(base for base in (base_model or _on_hub(teachers[0]), *map(_on_hub, teachers[1:])) if base)
    bases = found if len(found) > 1 else found[0] if found else None
    if licence is not None:
        return Metadata(licence, base_model=bases, datasets=tuple(datasets))
    # A licence that is not known may be the strictest.
    rules = (
        None if unknown_licences(teachers) or base_model not in (None, _on_hub(teachers[0])) else strictest(teachers)
    )
    known = licence_of(rules) if rules is not None else None
    if known in LICENCES:
        return Metadata(known, base_model=bases, datasets=tuple(datasets))
    base = _on_hub(rules) if rules is not None else found[0] if found else None
    link = f"https://huggingface.co/{base}" if base else None
    return Metadata("other", OF_ITS_TEACHER, link, bases, tuple(datasets))


def _on_hub(teacher: str) -> str | None:
    """OWNER/NAME of a teacher that is on the hub."""
    entry = entry_of(teacher)
    return entry.hub if entry else teacher.removeprefix(_HUB) if teacher.startswith(_HUB) else None

"""Which teacher an encoder is, by the name that a tool gives it.

TRIDENT's names are of its registry (trident/patch_encoder_models/load.py), STAMP's of its `ExtractorName`, slide2vec's
of its encoder registry, slideflow's are classes.
"""

from __future__ import annotations

import re

from pipeline.base.errors import SlideRefused
from pipeline.teachers.registry import entry_of

_NAMES = {
    "uni": ("uni", "univ1", "mahmooduni", "uni1"),
    "uni2-h": ("uni2h", "uni2", "univ2", "mahmooduni2", "uni2hmahmood"),
    "virchow2": ("virchow2", "virchowv2"),
    "h-optimus-0": ("hoptimus0",),
    "h-optimus-1": ("hoptimus1",),
    "h0-mini": ("h0mini",),
    "phikon-v2": ("phikonv2", "phikon2"),
}


_OTHERS = re.compile(
    "conch|gigapath|provgigapath|ctranspath|chief|musk|hibou|kaiko|lunit|midnight|openmidnight|gpfm|keep|plip|quilt|"
    "virchow$|virchowv1|virchowfull|phikon$|phikonv1|resnet|mstar|dinobloom|ticon|pathdino|titan|prism|genbio|atlas|"
    "hipt|transpath|retccl|histossl|pathorchestra|patho3dmatrix|exaone|clip|dinov2|dinov3"
)
"""Encoders of the tools' registries that are none of the registry's teachers; some answer with as many channels."""


def teacher_called(encoder: str) -> str | None:
    """The short name of the teacher that tools call so; None where it is none that is known here."""
    plain = _plain(encoder)
    return next((teacher for teacher, names in _NAMES.items() if plain in names), None)


def _plain(encoder: str) -> str:
    """The last part of a name, letters and digits alone: `slideflow.model.extractors.uni.UNIFeatures` is uni."""
    last = encoder.rsplit(".", 1)[-1].rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9]", "", last.lower()).removesuffix("features").removesuffix("extractor")


def require_teacher(encoder: str | None, teacher: str) -> None:
    """Raise `SlideRefused` where the encoder is known to be another than the teacher."""
    called = None if encoder is None else teacher_called(encoder)
    if called is not None and called != teacher:
        what = f"its features are named as {encoder}'s, which is the teacher {called}, not {teacher}"
        raise SlideRefused(what, fix=f"set tokens.teacher to {called}, or give the features of {teacher}")
    if encoder is not None and called is None and entry_of(teacher) is not None and _OTHERS.match(_plain(encoder)):
        what = f"its features are named as {encoder}'s, which is another encoder than {teacher}"
        raise SlideRefused(what, fix=f"give the features of {teacher}, or name that encoder as the teacher")


def channels(width: int, teacher: str, expected: int) -> int:
    """How many of a file's `width` channels, from the first, are the teacher's CLS of `expected`.

    Of teachers whose makers recommend CLS and the mean of the patch tokens side by side, tools keep both: the first
    half is CLS. Raises `SlideRefused` for any other width.
    """
    entry = entry_of(teacher)
    both = entry is not None and entry.embedding == "cls + mean of patch tokens" and width == 2 * expected
    if width != expected and not both:
        what = f"its features have {width} channels, and {teacher} answers with {expected}"
        raise SlideRefused(what, fix="are they of this teacher? tokens.teacher names it")
    return expected

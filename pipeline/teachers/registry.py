"""The teachers that Histill knows by a short name, as plain facts: nothing is loaded, and neither torch nor timm is.

Any other timm model, `hf-hub:owner/name` or local file works too; what stands here saves looking it up, and is checked
against the model that comes. Where each fact is from, and what could not be confirmed: docs/teachers.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pipeline.base.types import Json

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
_NC_ND = "CC-BY-NC-ND-4.0"
_MAHMOOD = "forbids commercial use of derivatives, which it says include models trained on its outputs and data sets "
_MAHMOOD += "made from them: the cache of tokens and the student"


@dataclass(frozen=True, kw_only=True)
class TeacherEntry:
    """What is known of a teacher before it is loaded.

    `hub` owner/name on the Hugging Face hub; `architecture` timm's name for it (None where it is not known: then local
    weights need timm's name); `model_kwargs` for timm.create_model, layers by their names; `input_px` side of its
    input; `patch_px` side of a patch; `width` D of CLS and of each patch token; `registers` tokens between them, None
    where it is not known; `mpp` the resolutions it was made for, um/px; `gated` whether the hub asks for an
    agreement; `embedding` what its makers recommend for a whole tile; `state_names` how its weights are named.
    CLS is always the class token, after the final LayerNorm.
    """

    hub: str
    architecture: str | None
    input_px: int = 224
    patch_px: int
    width: int
    registers: int | None = 0
    mpp: tuple[float, ...] = (0.5,)
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    licence: str
    licence_note: str = ""
    gated: bool = True
    embedding: Literal["cls", "cls + mean of patch tokens"] = "cls"
    state_names: Literal["timm", "transformers"] = "timm"
    model_kwargs: Mapping[str, Json] = field(default_factory=dict)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of its patch tokens."""
        side = self.input_px // self.patch_px
        return side, side


_ENTRIES = {
    "uni": TeacherEntry(
        hub="MahmoodLab/UNI",
        architecture="vit_large_patch16_224",
        patch_px=16,
        width=1024,
        licence=_NC_ND,
        licence_note=_MAHMOOD,
        model_kwargs={"init_values": 1e-5, "dynamic_img_size": True},
    ),
    "uni2-h": TeacherEntry(
        hub="MahmoodLab/UNI2-h",
        architecture="vit_giant_patch14_224",
        patch_px=14,
        width=1536,
        registers=8,
        licence=_NC_ND,
        licence_note=_MAHMOOD,
        model_kwargs={
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
            **_SWIGLU,
        },
    ),
    "virchow2": TeacherEntry(
        hub="paige-ai/Virchow2",
        architecture="vit_huge_patch14_224",
        patch_px=14,
        width=1280,
        registers=4,
        mpp=(0.25, 0.5, 1.0, 2.0),
        licence=_NC_ND,
        embedding="cls + mean of patch tokens",
        model_kwargs={
            "img_size": 224,
            "init_values": 1e-5,
            "reg_tokens": 4,
            "mlp_ratio": 5.3375,
            "global_pool": "",
            "dynamic_img_size": True,
            **_SWIGLU,
        },
    ),
    "h-optimus-0": TeacherEntry(
        hub="bioptimus/H-optimus-0",
        architecture="vit_giant_patch14_reg4_dinov2",
        patch_px=14,
        width=1536,
        registers=4,
        mean=_BIOPTIMUS[0],
        std=_BIOPTIMUS[1],
        licence="Apache-2.0",
        model_kwargs={"img_size": 224, "global_pool": "token", "init_values": 1e-5, "dynamic_img_size": False},
    ),
    "h-optimus-1": TeacherEntry(
        hub="bioptimus/H-optimus-1",
        architecture="vit_giant_patch14_reg4_dinov2",
        patch_px=14,
        width=1536,
        registers=4,
        mean=_BIOPTIMUS[0],
        std=_BIOPTIMUS[1],
        licence=_NC_ND,
        model_kwargs={"img_size": 224, "global_pool": "token", "init_values": 1e-5, "dynamic_img_size": False},
    ),
    "h0-mini": TeacherEntry(
        hub="bioptimus/H0-mini",
        architecture=None,
        patch_px=14,
        width=768,
        registers=None,
        mean=_BIOPTIMUS[0],
        std=_BIOPTIMUS[1],
        licence="see its page",
        embedding="cls + mean of patch tokens",
        model_kwargs=dict(_SWIGLU),
    ),
    "phikon-v2": TeacherEntry(
        hub="owkin/phikon-v2",
        architecture="vit_large_patch16_224",
        patch_px=16,
        width=1024,
        licence="Owkin non-commercial",
        gated=False,
        state_names="transformers",
        model_kwargs={"init_values": 1e-5},
    ),
    "gigapath": TeacherEntry(
        hub="prov-gigapath/prov-gigapath",
        architecture="vit_giant_patch14_dinov2",
        patch_px=16,
        width=1536,
        licence="see its page",
        model_kwargs={
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
        },
    ),
}
TEACHERS: Mapping[str, TeacherEntry] = MappingProxyType(_ENTRIES)
"""Short name -> entry, for `tokens.teacher`."""


def entry_of(teacher: str) -> TeacherEntry | None:
    """The entry of a short name, or of a hub's `hf-hub:owner/name`; None where there is none."""
    if teacher in TEACHERS:
        return TEACHERS[teacher]
    name = teacher.replace("hf_hub:", "hf-hub:").removeprefix("hf-hub:").lower()
    return next((entry for entry in TEACHERS.values() if entry.hub.lower() == name), None)


def mpp_warning(teacher: str, target_mpp: float, tile_px: int, input_px: int) -> str | None:
    """What to say where tiles reach the teacher at a resolution that it was not made for; None where all is well.

    A tile of `tile_px` is resized to `input_px`, so that the teacher sees target_mpp * tile_px / input_px.
    """
    entry = entry_of(teacher)
    seen = target_mpp * tile_px / input_px
    if entry is None or any(abs(seen - mpp) <= 0.15 * mpp for mpp in entry.mpp):
        return None
    made_for = ", ".join(f"{mpp:g}" for mpp in entry.mpp)
    return (
        f"teacher {teacher} sees {seen:.3g} um/px (tiles of {tile_px} px at {target_mpp:g}, resized to {input_px} px), "
        f"but was made for {made_for}: set `tiles.target_mpp` and `tiles.tile_px`"
    )

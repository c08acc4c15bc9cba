"""What is asked: the teachers, their views, their engines and the gate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.base.files import as_file_name
from pipeline.params.base import Fraction, Keywords, OnError, Positive, Section, Seed

_Mean = tuple[Fraction, Fraction, Fraction]
_Deviation = Annotated[float, Field(gt=0, le=1)]


class AugmentParams(Section):
    """Views beside the dihedral ones, each tile's own: a random element, crop and stain."""

    views: Annotated[int, Field(ge=0, le=64)] = 0
    """Further views of every train tile."""
    crop_side: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.5, 1.0)
    """Smallest and largest side of the crop, as shares of the tile's; a crop is enlarged, so it changes the mpp."""
    stain_sigma: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Largest change of each stain's factor and of its shift, in natural optical density; 0 leaves the stain."""
    seed: Seed = 0
    """Of every tile's draw."""

    @model_validator(mode="after")
    def _sides_in_order(self) -> AugmentParams:
        if self.crop_side[0] > self.crop_side[1]:
            raise ValueError(f"crop_side {list(self.crop_side)}: the smallest side comes first")
        return self


class GateParams(Section):
    """How near an engine must come to fp32 eager, as cosines of tokens that were centred and standardised."""

    tiles: Annotated[int, Field(ge=8)] = 32
    """Golden tiles, evenly spread over the train slides."""
    mean_cosine: Fraction = 0.999
    """Least mean over the CLS tokens and over the patch tokens, of an engine in bf16 or fp8."""
    worst_cosine: Fraction = 0.98
    """Least cosine of any one token, of an engine in bf16 or fp8."""
    fp32_mean_cosine: Fraction = 0.999999
    """The same of an engine in fp32, which differs by the order of its sums alone."""
    fp32_worst_cosine: Fraction = 0.9999
    """The same of an engine in fp32."""


class ImportedParams(Section):
    """Features that another tool has computed (`features` in slides.csv): are they the teacher's answers?"""

    check_tiles: Annotated[int, Field(ge=0)] = 64
    """Tiles that the teacher is asked about, evenly spread over the slides; 0 asks about none."""
    check_each: Annotated[int, Field(ge=0)] = 4
    """And so many of every slide, so that one whose features are not the teacher's is refused by itself."""
    min_cosine: Fraction = 0.9
    """Least mean cosine of its answers with the features, both standardised."""
    below: Literal["refuse", "keep"] = "refuse"
    """refuse: nearer or not at all; keep: take them as they are, and say so."""


class TeacherParams(Section):
    """Which teacher, and how it sees a tile."""

    teacher: str
    """`demo`, a name that `histill teachers` lists (uni, virchow2 …), any timm name, or `hf-hub:owner/name`."""
    weights: str | None = None
    """A local safetensors or PyTorch file for it, in place of the hub's."""
    model_kwargs: Keywords = {}
    """Passed to timm.create_model over what the registry says; mlp_layer, act_layer and norm_layer by their names."""
    input_px: Positive | None = None
    """Side the teacher sees; null takes the teacher's own."""
    mean: _Mean | None = None
    """Mean of red, green and blue (0 to 1); null = the registry's or timm's, under local weights too."""
    std: tuple[_Deviation, _Deviation, _Deviation] | None = None
    """Deviation of red, green and blue; null = the registry's or timm's, under local weights too."""
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] | None = None
    """By what filter tiles are resized to the teacher's side; null = bicubic, as the registry's teachers have it."""

    @model_validator(mode="after")
    def _of_that_teacher(self) -> TeacherParams:
        told = [name for name in ("mean", "std", "interpolation", "weights") if getattr(self, name) is not None]
        if self.teacher == "demo" and told:
            raise ValueError(f"{told[0]} is of other teachers: the demo's is made here")
        return self


class AlsoParams(TeacherParams):
    """A further teacher of the same tiles; views, gate and all that is not named here are as the section has them."""

    engine: Literal["auto", "eager", "compile", "tensorrt"] | None = None
    """null takes the section's, here and below."""
    precision: Literal["auto", "fp32", "bf16", "fp8"] | None = None
    """As `tokens.precision`."""
    patch: Literal["int8", "fp16", "none"] | None = None
    """As `tokens.patch`: one teacher's patch tokens may be kept and another's not."""
    calibration_tiles: Annotated[int, Field(ge=8)] | None = None
    """As `tokens.calibration_tiles`."""
    batch_size: Positive | None = None
    """As `tokens.batch_size`."""


class TokensParams(TeacherParams):
    """The teacher, and how its answers are kept; further teachers in `also`."""

    teacher: str = "demo"
    """`demo`, a name that `histill teachers` lists (uni, virchow2 …), any timm name, or `hf-hub:owner/name`."""
    engine: Literal["auto", "eager", "compile", "tensorrt"] = "auto"
    """What runs the teacher; auto says what it chose and why."""
    precision: Literal["auto", "fp32", "bf16", "fp8"] = "auto"
    """auto = bf16 on a GPU that has it, else fp32; fp8 with `engine: tensorrt` alone."""
    gate: GateParams = GateParams()
    """How near the engine must come to fp32 eager before a byte is kept; see below."""
    patch: Literal["int8", "fp16", "none"] = "int8"
    """How patch tokens are kept; none keeps the CLS token alone."""
    views: Annotated[int, Field(ge=1, le=8)] = 1
    """Dihedral views of every train tile the teacher answers; 1 = the tile as it is, as held-out ones have it."""
    augment: AugmentParams = AugmentParams()
    """Further views with random crops and stain; see below."""
    imported: ImportedParams = ImportedParams()
    """Features made elsewhere; see below."""
    calibration_tiles: Annotated[int, Field(ge=8)] = 256
    """Tiles that the frozen mean and deviation of each channel are taken from."""
    batch_size: Positive = 32
    """Tiles a forward pass."""
    demo_teacher_steps: Positive = 150
    """Training steps of the demo teacher."""
    on_error: OnError = "refuse"
    """refuse goes on without a bad slide and lists it; fail stops at the first."""
    also: tuple[AlsoParams, ...] = ()
    """Further teachers of the same tiles, from which the student learns too; it answers in the space of `teacher`.

    Or all of them as one list, of which the first is `teacher`, or the one with `primary: true`:
    `teachers: [{name: uni}, {name: virchow2}]`."""

    @model_validator(mode="before")
    @classmethod
    def _as_one_list(cls, told: object) -> object:
        """`teachers: [{name: uni}, {name: virchow2, …}]`: one is the section's own, the others are `also`.

        It is the one with `primary: true`, else the first.
        """
        if not isinstance(told, dict) or "teachers" not in told:
            return told
        rest = {key: value for key, value in told.items() if key != "teachers"}
        listed = told["teachers"]
        if not isinstance(listed, list | tuple) or not all(isinstance(one, dict) and "name" in one for one in listed):
            raise ValueError("teachers: a list of sections with a name each, as [{name: uni}, {name: virchow2}]")
        if not listed or rest.get("also"):
            raise ValueError("teachers: name one or more, and none in `also` beside them")
        if any("teacher" in one for one in listed):
            raise ValueError("teachers: each has a name, and no `teacher` beside it")
        if len(marked := [one for one in listed if one.get("primary") is True]) > 1:
            raise ValueError("teachers: one of them is primary: in its space the exported student answers")
        listed = [*marked, *(one for one in listed if one.get("primary") is not True)]
        first, *others = (
            {"teacher": one["name"], **{k: v for k, v in one.items() if k not in ("name", "primary")}} for one in listed
        )
        twice = [key for key, value in first.items() if key in rest and rest[key] != value]
        if twice:
            raise ValueError(
                f"teachers: its primary one says {twice[0]} otherwise than tokens.{twice[0]}: keep one of them"
            )
        return {**rest, **first, "also": others}

    @model_validator(mode="after")
    def _fits_together(self) -> TokensParams:
        if self.augment.views and any(one.interpolation not in (None, "bicubic") for one in (self, *self.also)):
            raise ValueError("crops are resized by the bicubic filter alone: set augment.views to 0, or interpolation")
        names = [as_file_name(one.teacher) for one in (self, *self.also)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"also: {twice} is named twice: a student has one head a teacher")
        return self

    @property
    def each(self) -> tuple[TokensParams, ...]:
        """One a teacher, each as it would be alone, `teacher` first."""
        alone = self.model_copy(update={"also": ()})
        return (alone, *(alone.model_copy(update=_told(further)) for further in self.also))

    @property
    def n_views(self) -> int:
        """Views of every train tile, of all kinds."""
        return self.views + self.augment.views

    @property
    def one_view(self) -> TokensParams:
        """The same for tiles that nothing is trained on: as they are, and no other view."""
        return self.model_copy(update={"views": 1, "augment": self.augment.model_copy(update={"views": 0})})


def _told(further: AlsoParams) -> dict[str, object]:
    """What is of that teacher in a section of its own."""
    own = {name: getattr(further, name) for name in TeacherParams.model_fields}
    how = {name: getattr(further, name) for name in AlsoParams.model_fields if name not in own}
    return own | {name: value for name, value in how.items() if value is not None}

"""The items and manifest of `student`: what is said of a student, of its teachers and of how it was trained."""

from __future__ import annotations

from typing import Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from pipeline.base.errors import ManifestError
from pipeline.base.items.slides import ImportedFacts, TeacherFacts, TokensManifest
from pipeline.base.manifest import Item, Manifest
from pipeline.base.types import Frozen, Json


class FileItem(Item):
    """One exported file."""

    nbytes: int


class AdapterArguments(Frozen):
    """What an adapter is made with: channels and cells (h, w) of each feature map, the teacher's cells and width."""

    channels: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]
    grid: tuple[int, int]
    width: int


class StartFacts(Frozen):
    """From what weights a student started: where they are from, their digest, and what of them was taken.

    `mean` and `std` are those of the input that they were trained on, which the student keeps; `head` says whether the
    last layer was taken too, `adapter` whether the dense adapter was.
    """

    origin: str
    digest: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    head: bool
    adapter: bool


class HeadFacts(Frozen):
    """Of a further teacher: which, what its head answers, and its `weight` in the loss as training ended with it.

    `adapter` is None where its patch tokens were not learnt; `imported` as in `StudentFacts`.
    """

    teacher: TeacherFacts
    width: int
    grid: tuple[int, int]
    adapter: AdapterArguments | None
    weight: float
    imported: ImportedFacts | None = None


class StudentFacts(Frozen):
    """run.json: enough to build the student again, to describe it, and to say how training ended.

    `student` are the parameters it was trained by, without those of the site; `adapter` is None where no patch tokens
    were learnt; `loss` is each loss's mean over the last epoch; `start` is None of a student from scratch; `also` are
    the heads of further teachers; `imported` says where the teacher's answers are from that it did not give here, as
    tokens.json tells it (run.json has None).
    """

    model: str
    input_px: int
    width: int
    grid: tuple[int, int]
    tile_px: int
    target_mpp: float | None
    parameters: int
    teacher: TeacherFacts
    student: dict[str, Json]
    precision: str
    adapter: AdapterArguments | None
    train_slides: int
    train_tiles: int
    views: int
    steps: int
    batch_size: int
    tiles_seen: int
    loss: dict[str, float]
    start: StartFacts | None = None
    also: tuple[HeadFacts, ...] = ()
    imported: ImportedFacts | None = None

    @property
    def teachers(self) -> tuple[str, ...]:
        """The names of all that it learnt from, the one first in whose space it answers."""
        return (self.teacher.name, *(one.teacher.name for one in self.also))

    @property
    def origins(self) -> tuple[ImportedFacts | None, ...]:
        """Of each of these teachers `imported`."""
        return (self.imported, *(one.imported for one in self.also))

    def with_origins(self, tokens: TokensManifest) -> StudentFacts:
        """The same with where each teacher's answers are from, who may be verified after a student learnt from them."""
        pairs = zip(self.also, tokens.also, strict=True)
        also = tuple(head.model_copy(update={"imported": one.summary.imported}) for head, one in pairs)
        return self.model_copy(update={"imported": tokens.summary.imported, "also": also})

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Without an `also` or `imported` that says nothing."""
        told: dict[str, Json] = handler(self)
        return {name: value for name, value in told.items() if value or name not in ("also", "imported")}


class StudentManifest(Manifest[FileItem, StudentFacts]):
    """artifacts/student.json."""

    stage: Literal["student"] = "student"
    version: int = 2

    @property
    def learnt_keys(self) -> set[str]:
        """The item keys of the slides that it was trained on."""
        items = self.recipe.get("items", ())
        if not isinstance(items, list | tuple):
            raise ManifestError("its recipe names no items", where="student.json", fix="dvc repro student")
        return {str(item[0]) for item in items if isinstance(item, list | tuple)}

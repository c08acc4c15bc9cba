"""params.yaml as frozen typed models: one section a stage, plus `store` and `cluster` for the site.

Defaults live here and nowhere else; params.yaml repeats those a user is likely to change, with a comment each. An
unknown key is refused with the nearest known one. Sections named after stages are what DVC watches; `store` and
`cluster` say where and with what to compute, never what, so no stage depends on them.
"""

from __future__ import annotations

import difflib
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ParamsError

OnError = Literal["refuse", "fail"]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SlidesParams(_Frozen):
    """Which slides, and how strict to be about them."""

    table: str = "slides.csv"
    """The slide table; relative to the project, and its own paths relative to it."""
    on_error: OnError = "refuse"
    """refuse goes on without a bad slide and lists it; fail stops at the first."""
    test_fraction: Fraction = 0.2
    """Share of patients (or slides) held out where the table has no `split`."""
    mpp_from_objective: bool = False
    """Take 10 / objective power as um per pixel (20x: 0.5) where neither the slide nor the table says; a guess."""
    demo_px: Annotated[int, Field(ge=512, le=16384)] = 2560
    """Side of a `demo:N` slide in pixels; only demo rows look at it."""


class TissueParams(_Frozen):
    """How tissue is told from glass."""

    method: Literal["otsu", "hsv", "mask"] = "otsu"
    """otsu: Otsu's threshold on saturation; hsv: fixed bounds; mask: only the masks that slides.csv names."""
    mask_mpp: Annotated[float, Field(gt=0)] = 8.0
    """Resolution of the mask, micrometres a pixel."""
    min_coverage: Fraction = 0.5
    """A tile is kept when at least this share of it is tissue."""
    min_area_mm2: Annotated[float, Field(ge=0)] = 0.01
    """Islands smaller than this are dirt, holes smaller than this are filled."""
    exclude_pen: bool = True
    """Leave blue, green, black and red ink out of the mask."""
    fat: bool = True
    """Also take fat that adjoins stained tissue, by its web of membranes."""


class TilesParams(_Frozen):
    """The grid, at a physical resolution, and how its tiles are stored."""

    target_mpp: Annotated[float, Field(gt=0.05, le=10)] = 0.5
    """Micrometres a pixel of the tiles."""
    tile_px: Annotated[int, Field(ge=16, le=2048)] = 224
    """Side of a tile, pixels at `target_mpp`."""
    overlap_px: Annotated[int, Field(ge=0)] = 0
    """Pixels that neighbouring tiles share."""
    edge: Literal["skip", "shift"] = "skip"
    """A tile that would leave the slide is left out, or moved inside."""
    tissue: TissueParams = TissueParams()
    """How tissue is told from glass; see below."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 95
    """Of the stored tiles, always 4:4:4."""
    reader: Literal["auto", "openslide"] = "auto"
    """auto decodes tiled TIFFs directly where that gives OpenSlide's own pixels, and keeps JPEG tiles that fit."""
    reduced_dct: bool = False
    """Decode JPEG at 1/2, 1/4 or 1/8 where a level is that much finer than needed: sooner, but not the same pixels."""
    min_sharpness: Annotated[float, Field(ge=0)] = 0.8
    """Tiles below are out of focus and left out: 0.8 drops what a blur of sigma 2 to 3 px leaves; 0 keeps all."""
    min_stain: Annotated[float, Field(ge=0)] = 0.005
    """Tiles whose optical densities of haematoxylin and eosin sum to less are blank and left out (fat: 0.01)."""
    max_tiles_per_slide: Positive | None = None
    """A seeded choice spread over the tissue; null keeps all."""
    seed: int = 0
    """Of every random choice of this stage."""
    on_error: OnError = "refuse"
    """refuse goes on without a bad slide and lists it; fail stops at the first."""

    @model_validator(mode="after")
    def _fits_together(self) -> TilesParams:
        if self.overlap_px >= self.tile_px:
            raise ValueError(f"overlap_px ({self.overlap_px}) must be smaller than tile_px ({self.tile_px})")
        if self.reduced_dct and self.reader == "openslide":
            raise ValueError("reduced_dct is the direct reader's: set reader to auto")
        return self


class AugmentParams(_Frozen):
    """Views beside the dihedral ones, each tile's own: a random element, crop and stain."""

    views: Annotated[int, Field(ge=0, le=64)] = 0
    """Further views of every tile."""
    crop_side: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.5, 1.0)
    """Smallest and largest side of the crop, as shares of the tile's; a crop is enlarged, so it changes the mpp."""
    stain_sigma: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Largest change of each stain's factor and of its shift, in natural optical density; 0 leaves the stain."""
    seed: int = 0
    """Of every tile's draw."""

    @model_validator(mode="after")
    def _sides_in_order(self) -> AugmentParams:
        if self.crop_side[0] > self.crop_side[1]:
            raise ValueError(f"crop_side {list(self.crop_side)}: the smallest side comes first")
        return self


class GateParams(_Frozen):
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


class TokensParams(_Frozen):
    """The teacher, and how its answers are kept."""

    teacher: str = "demo"
    """`demo`, a name that `histill teachers` lists (uni, virchow2 …), any timm name, or `hf-hub:owner/name`."""
    weights: str | None = None
    """A local safetensors or PyTorch file for it, in place of the hub's."""
    model_kwargs: dict[str, Any] = {}
    """Passed to timm.create_model over what the registry says; mlp_layer, act_layer and norm_layer by their names."""
    input_px: Positive | None = None
    """Side the teacher sees; null takes the teacher's own."""
    engine: Literal["auto", "eager", "compile", "tensorrt"] = "auto"
    """What runs the teacher; auto says what it chose and why."""
    precision: Literal["auto", "fp32", "bf16", "fp8"] = "auto"
    """auto = bf16 on a GPU that has it, else fp32; fp8 with `engine: tensorrt` alone."""
    gate: GateParams = GateParams()
    """How near the engine must come to fp32 eager before a byte is kept; see below."""
    patch: Literal["int8", "fp16", "none"] = "int8"
    """How patch tokens are kept; none keeps the CLS token alone."""
    views: Annotated[int, Field(ge=1, le=8)] = 1
    """Dihedral views of every tile the teacher answers; 1 = the tile as it is."""
    augment: AugmentParams = AugmentParams()
    """Further views with random crops and stain; see below."""
    calibration_tiles: Annotated[int, Field(ge=8)] = 256
    """Tiles that the frozen mean and deviation of each channel are taken from."""
    batch_size: Positive = 32
    """Tiles a forward pass."""
    demo_teacher_steps: Positive = 150
    """Training steps of the demo teacher."""
    on_error: OnError = "refuse"
    """refuse goes on without a bad slide and lists it; fail stops at the first."""

    @property
    def n_views(self) -> int:
        """Views of every tile, of all kinds."""
        return self.views + self.augment.views


class ObjectiveParams(_Frozen):
    """What is matched: a weight each (0 switches one off), and how."""

    cls: Annotated[float, Field(ge=0)] = 1.0
    """The global embedding."""
    patch: Annotated[float, Field(ge=0)] = 1.0
    """The dense tokens, through the adapter."""
    relation: Annotated[float, Field(ge=0)] = 0.0
    """Which other tiles each tile is like."""
    cls_kind: Literal["cosine", "mse"] = "cosine"
    """How embeddings are compared; cosine: 0.9 (1 - cosine) + 0.1 smooth-L1."""
    token_weight: Literal["none", "norm"] = "none"
    """norm leaves out patch tokens of outlying norm, a large ViT's artefacts."""
    relation_queue: Positive = 4096
    """Cached tiles with which each tile is compared."""
    relation_temperature: Annotated[float, Field(gt=0)] = 0.1
    """Of the softmax over similarities."""


class StudentParams(_Frozen):
    """The student and its training."""

    model: str = "efficientvit_b0"
    """Any timm name."""
    model_kwargs: dict[str, Any] = {}
    """Passed to timm.create_model, e.g. {head_widths: [256, 256]} for an EfficientViT with a narrower head."""
    input_px: Positive | None = None
    """Side the student sees; null takes the tile's."""
    objective: ObjectiveParams = ObjectiveParams()
    """What is matched; see below."""
    standardise: Literal["channel", "phi-s"] = "channel"
    """CLS targets: each channel by its own deviation, or rotated so that all are alike (PHI-S)."""
    adapter: Literal["attention", "fuse", "bilinear", "pool"] = "attention"
    """From the student's feature maps to the teacher's token grid."""
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each slide's train tiles that is trained on, evenly spread; below 1 for studies."""
    epochs: Positive = 20
    """Passes over the training tiles."""
    batch_size: Positive = 64
    """Over all processes together."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Not on norms and biases."""
    warmup_fraction: Fraction = 0.1
    """Share of the steps in which the learning rate rises; then it falls as a cosine."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """0 switches the moving average of the weights off."""
    freeze_batch_norm: bool = False
    """Measure batch norm once, before training, and leave it so; false lets each process follow its own batches."""
    compile: Literal["auto", "off"] = "auto"
    """auto = torch.compile on a GPU; CPUs always run eager."""
    block_rows: Positive = 32
    """Neighbouring rows that the loader reads together."""
    buffer_rows: Positive = 4096
    """Rows among which blocks are mixed."""
    checkpoint_every: Positive = 50
    """Steps between checkpoints."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Threads that decode tiles and gather tokens."""
    log: Literal["none", "tensorboard"] = "none"
    """Where losses and learning rate are also written; tensorboard: reports/tensorboard, which DVC does not track."""
    seed: int = 0
    """Of every random choice of this stage."""


class DatasetParams(_Frozen):
    """A labelled data set besides the slides, for probes alone: the student is never trained on it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    """What its figures are called."""
    kind: Literal["folder", "csv", "masks", "h5"]
    """folder: SPLIT/CLASS/images; csv: path, label, split, group; masks: SPLIT/images and SPLIT/masks; h5: as PCam."""
    path: str
    """The folder or the CSV file; relative to the project."""


class EvaluateParams(_Frozen):
    """What is compared, and how sure to be."""

    datasets: tuple[DatasetParams, ...] = ()
    """Labelled data sets besides the slides: name, kind and path of each, as below."""
    knn_k: Positive = 20
    """Neighbours of the kNN probe."""
    episodes: Positive = 100
    """Few-shot episodes behind each figure."""
    mil_epochs: Positive = 20
    """Passes over the train slides of the attention model for slide labels."""
    max_probe_tiles: Positive = 20000
    """Tiles a probe is trained and tested on at most, evenly spread."""
    max_dense_tiles: Positive = 2000
    """Tiles at most of which patch tokens are compared, and of which CKA, neighbours and RankMe are taken."""
    robustness_tiles: Annotated[int, Field(ge=0)] = 64
    """Held-out tiles that are stained, scaled, blurred and turned; the teacher runs 10 times over each. 0 = none."""
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    """Resamples behind each interval."""
    batch_size: Positive = 64
    """Tiles a forward pass."""
    seed: int = 0
    """Of every random choice of this stage."""

    @model_validator(mode="after")
    def _names_differ(self) -> EvaluateParams:
        names = [dataset.name for dataset in self.datasets]
        if len(set(names)) < len(names):
            raise ValueError(f"two datasets have one name: {', '.join(sorted(names))}")
        return self


class BenchmarkParams(_Frozen):
    """What is timed."""

    batch_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 8, 32)
    """Batch sizes of the latency table."""
    seconds: Annotated[float, Field(gt=0)] = 1.0
    """Time spent on each cell of the table, at least 10 repeats; the 99th percentile needs 100."""
    engines: tuple[Literal["eager", "compile", "onnxruntime", "openvino", "tensorrt"], ...] = ("eager",)
    """What runs the models. eager, the reference, is always among them; compile needs a minute a model on a CPU."""
    precisions: Annotated[tuple[Literal["auto", "fp32", "bf16"], ...], Field(min_length=1)] = ("auto",)
    """Of each engine; auto = bf16 on a GPU, fp32 on a CPU. The first is that of the leading figures."""
    devices: Annotated[tuple[Literal["auto", "cpu", "cuda"], ...], Field(min_length=1)] = ("auto",)
    """auto = the GPU where there is one, else the CPU. The first is that of the leading figures."""
    slide_tiles: Positive = 10000
    """Tiles of the slide for which slides an hour are stated."""


class ReportParams(_Frozen):
    """What the page shows."""

    title: str = "Histill report"
    """Title of the page."""
    max_slides: Positive = 60
    """Slides whose pictures the page holds."""


class StoreParams(_Frozen):
    """Where bytes live; HISTILL_STORE wins over this, and null means `.store` in the DVC root."""

    root: str | None = None
    """A folder, relative to the DVC root; null = `.store`."""


class ClusterParams(_Frozen):
    """With what to compute."""

    scheduler: str | None = None
    """Address of a running Dask scheduler (tcp://host:8786); null starts a local cluster."""
    workers: Positive | None = None
    """Local worker processes; null = one a core; 1 = this process, which a crashing decoder then ends."""


class Params(_Frozen):
    """The whole of params.yaml."""

    slides: SlidesParams = SlidesParams()
    tiles: TilesParams = TilesParams()
    tokens: TokensParams = TokensParams()
    student: StudentParams = StudentParams()
    evaluate: EvaluateParams = EvaluateParams()
    benchmark: BenchmarkParams = BenchmarkParams()
    report: ReportParams = ReportParams()
    store: StoreParams = StoreParams()
    cluster: ClusterParams = ClusterParams()


SITE_SECTIONS = ("store", "cluster")
STAGES = tuple(name for name in Params.model_fields if name not in SITE_SECTIONS)


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check params.yaml.

    Raises `ParamsError` with the file, the key and the nearest known key where one is misspelt.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError("file not found", where=str(path), fix="run from the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"not valid YAML: {error}", where=str(path), fix="mend the line it names") from None
    if raw is not None and not isinstance(raw, dict):
        raise ParamsError("the top level is not a mapping of sections", where=str(path), fix=f"sections: {STAGES}")
    try:
        return Params.model_validate(raw or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ParamsError(
            f"unknown key {where!r}" if first["type"] == "extra_forbidden" else f"{where}: {first['msg']}",
            where=str(path),
            fix=_advice(first["type"], first["loc"], first.get("input")),
        ) from None


def _advice(kind: str, loc: tuple[int | str, ...], got: object) -> str:
    """The nearest known key for a misspelt one, else what was found."""
    if kind != "extra_forbidden":
        return f"found {got!r}; docs/parameters.md lists what is allowed"
    model: Any = Params
    for part in loc[:-1]:
        # A number is a place in a list of sections: tuple[Section, ...].
        model = typing.get_args(model)[0] if isinstance(part, int) else model.model_fields[part].annotation
    known = sorted(model.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"

"""What is trained: the student, its objectives and its schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.params.base import Fraction, Keywords, Positive, Section, Seed


class ObjectiveParams(Section):
    """What is matched: a weight each (0 switches one off), and how."""

    cls: Annotated[float, Field(ge=0)] = 1.0
    """The global embedding."""
    patch: Annotated[float, Field(ge=0)] = 1.0
    """The dense tokens, through the adapter."""
    relation: Annotated[float, Field(ge=0)] = 0.0
    """Which other tiles each tile is like."""
    nested: Annotated[float, Field(ge=0)] = 1.0
    """The mean over `student.nested`, where sizes are asked for; as many as there are weighs each like the full one."""
    cls_kind: Literal["cosine", "mse", "smooth_l1", "kl", "contrastive"] = "cosine"
    """How embeddings are compared; cosine: 0.9 (1 - cosine) + 0.1 smooth-L1. kl and contrastive compare similarities to
    `relation_queue` tiles: they set an embedding's direction, not its length, which the teacher's heads may need."""
    token_weight: Literal["none", "norm"] = "none"
    """norm leaves out patch tokens of outlying norm, a large ViT's artefacts."""
    relation_queue: Positive = 4096
    """Cached tiles with which each tile is compared, by `relation` and by the kinds kl and contrastive."""
    relation_temperature: Annotated[float, Field(gt=0)] = 0.1
    """Of the softmax over similarities."""


class MixParams(Section):
    """Tiles shown in pairs and asked for both answers, against learning tiles by heart; costs the teacher nothing."""

    kind: Literal["none", "mixup", "cutmix"] = "none"
    """mixup blends two tiles and their targets; cutmix pastes a box of one, with its patch tokens, into the other."""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """Of the Beta distribution of the weight: 1 draws it evenly, less leaves most tiles nearly whole."""
    share: Fraction = 1.0
    """Of the tiles; the rest are shown as they are."""


class InputParams(Section):
    """What is done to the student's tile while its target stays that of the clean one: what it must not depend on.

    Each tile draws its own amounts, evenly up to the largest named here; 0 (null) leaves a change out. The group of
    Tellez et al. 2019 ("Quantifying the effects of data augmentation and stain color normalization", Medical Image
    Analysis 58) has in its code, for tiles of 128 px: stain scale and shift 0.05 (`hed-light`), brightness 0.35,
    contrast 0.5, noise 0.1, blur 1 px (github.com/DIAGNijmegen/pathology-he-auto-augment, data_augmentation.py; its
    shift is in a density of its own, so of 0.05 only the order of size carries over). Others quote 0.2 for its
    `hed-strong`, which that file does not hold.
    """

    share: Fraction = 1.0
    """Of the tiles that are changed; the rest stay clean."""
    stain_scale: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest change of each stain's factor from 1."""
    stain_shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift of each stain, in natural optical density; it colours glass too."""
    stain_transfer: Fraction = 0.0
    """Share of the changed tiles that are stained as another slide of the run is."""
    brightness: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Largest change of its factor from 1."""
    contrast: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """The same, about the tile's mean grey."""
    saturation: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """The same, about each pixel's grey."""
    blur_sigma: Annotated[float, Field(ge=0, le=3)] = 0.0
    """Largest deviation of a Gaussian blur, pixels of the student's input."""
    noise_sigma: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """Largest deviation of Gaussian noise, as a share of the range from black to white."""
    jpeg_quality: Annotated[int, Field(ge=10, le=100)] | None = None
    """Lowest quality of a JPEG compression, drawn from it to 100; null compresses nothing."""

    @property
    def changes(self) -> bool:
        """Whether anything is done to any tile."""
        amounts = self.model_dump(exclude={"share", "jpeg_quality"}).values()
        return self.share > 0 and (any(amounts) or self.jpeg_quality is not None)

    @property
    def stains_as_others(self) -> bool:
        """Whether any tile is stained as another slide."""
        return self.share > 0 and self.stain_transfer > 0


class TeachersParams(Section):
    """Of several teachers (`tokens.also`): how much each counts, and what is learnt of it. Of one, nothing."""

    balance: Literal["fixed", "uncertainty"] = "fixed"
    """fixed: by `weights` alone; uncertainty: each teacher's loss divided by its own size, which is learnt."""
    weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    """A weight by a teacher's name, as {uni: 1, virchow2: 0.5}; 1 of those that are not named."""
    dense: Literal["all", "first"] = "all"
    """Whose patch tokens are learnt, with `objective.patch`: of all that have them, or of the first teacher alone."""


class StudentParams(Section):
    """The student and its training."""

    model: str = "efficientvit_b0"
    """Any timm name."""
    model_kwargs: Keywords = {}
    """Passed to timm.create_model, e.g. {head_widths: [256, 256]} for an EfficientViT with a narrower head."""
    weights: str | None = None
    """To start from: a timm name with its tag, a file, an exported student's folder, or checkpoints/KEY/run."""
    input_px: Positive | None = None
    """Side the student sees; null takes the tile's."""
    objective: ObjectiveParams = ObjectiveParams()
    """What is matched; see below."""
    teachers: TeachersParams = TeachersParams()
    """Of several teachers; see below."""
    standardise: Literal["channel", "phi-s"] = "channel"
    """CLS targets: each channel by its own deviation, or rotated so that all are alike (PHI-S)."""
    nested: tuple[Positive, ...] = ()
    """Sizes, each the first numbers of one further embedding, e.g. [64, 128, 256]; none of them without."""
    head_hidden: Positive | None = None
    """Channels of a second linear layer before the last, with batch norm, while it trains; exported as one layer."""
    adapter: Literal["attention", "fuse", "bilinear", "pool"] = "attention"
    """From the student's feature maps to the teacher's token grid."""
    mix: MixParams = MixParams()
    """Tiles shown in pairs; see below."""
    augment: InputParams = InputParams()
    """Changes of the student's tile alone; see below."""
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each slide's train tiles that is trained on, evenly spread (a smaller one is within a larger)."""
    epochs: Positive = 20
    """Passes over the training tiles."""
    batch_size: Positive = 64
    """Over all processes together, which must be able to share it evenly."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Not on norms and biases."""
    warmup_fraction: Fraction = 0.1
    """Share of the steps in which the learning rate rises; then it falls, on the cosine of all steps."""
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
    shards: Positive | None = None
    """Parts of the corpus, of each of which a batch has as many tiles, so that a process reads its own parts alone;
    null = one a process, where their number is part of what is trained anyhow, else 1."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 2.0
    """Between checkpoints: what a killed training loses at most."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Threads that decode tiles and gather tokens."""
    log: Literal["none", "tensorboard"] = "none"
    """Where losses and learning rate are also written; tensorboard: reports/tensorboard, which DVC does not track."""
    seed: Seed = 0
    """Of every random choice of this stage."""

    @field_validator("nested")
    @classmethod
    def _rise(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(sizes) != sorted(set(sizes)):
            raise ValueError(f"sizes rise, each once: {sorted(set(sizes))}")
        return sizes

    @property
    def sizes(self) -> tuple[int, ...]:
        """The nested sizes that are trained: none where their objective has no weight."""
        return self.nested if self.objective.nested > 0 else ()

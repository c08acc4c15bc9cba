"""What is trained: the student, its objectives and its schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.base import Fraction, Frozen, Keywords, Positive


class ObjectiveParams(Frozen):
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


class StudentParams(Frozen):
    """The student and its training."""

    model: str = "efficientvit_b0"
    """Any timm name."""
    model_kwargs: Keywords = {}
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
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 2.0
    """Between checkpoints: what a killed training loses at most."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Threads that decode tiles and gather tokens."""
    log: Literal["none", "tensorboard"] = "none"
    """Where losses and learning rate are also written; tensorboard: reports/tensorboard, which DVC does not track."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of every random choice of this stage."""

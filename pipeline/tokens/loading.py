"""Which teacher the params name, and where its weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.params import TokensParams
from pipeline.store import Store, dvc_root
from pipeline.tokens.demo_teacher import demo_teacher
from pipeline.tokens.teacher import Teacher
from pipeline.tokens.weights import create_model, load_weights


def load_teacher(params: TokensParams, store: Store, demo_px: int) -> Teacher:
    """The teacher that the params name: `demo`, a timm name with local weights, or one with weights from the hub.

    `demo_px` is `slides.demo_px`: the demo teacher learns from demo slides of that side. Raises `TeacherError`. Weights
    are never left at random: without `weights`, a plain timm name asks the hub for its pretrained ones.
    """
    if params.teacher == "demo":
        return demo_teacher(params, store, demo_px)
    model = create_model(params.teacher, params.model_kwargs, pretrained=params.weights is None)
    if params.weights is not None:
        load_weights(model, _weights_path(params.weights), params.teacher)
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    input_px = params.input_px or params.model_kwargs.get("img_size") or cfg.get("input_size", (3, 224, 224))[-1]
    mean, std = cfg.get("mean", (0.5, 0.5, 0.5)), cfg.get("std", (0.5, 0.5, 0.5))
    return Teacher(params.teacher, model, int(input_px), _floats(mean), _floats(std))


def _weights_path(text: str) -> Path:
    """Relative to here, or (a temporary experiment does not carry the file) to the project it was made from."""
    path = Path(text).expanduser()
    return path if path.is_absolute() or path.exists() else dvc_root() / path


def _floats(values: tuple[float, ...] | list[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)

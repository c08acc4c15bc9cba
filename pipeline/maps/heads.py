"""A linear head on embeddings, as anybody can write one: a .safetensors or .npz file, without pickles.

weight  (D, C) float, or (C, D) as torch's Linear has it
bias    (C) float, optional
names   of the C classes, optional: an array of texts in .npz; JSON in the metadata of .safetensors

One column is a probability by the logistic function; several are by softmax.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pipeline.base.errors import MapError
from pipeline.base.types import Floats

_FIX = "docs/use.md says what is in the file of a head"


@dataclass(frozen=True)
class Head:
    """Weights (D, C), biases and names (C)."""

    weight_DC: NDArray[np.float64]
    bias_C: NDArray[np.float64]
    names: tuple[str, ...]

    def __call__(self, embedding_ND: Floats) -> NDArray[np.float64]:
        """Probabilities (N, C)."""
        logit_NC = np.asarray(embedding_ND, np.float64) @ self.weight_DC + self.bias_C
        if len(self.names) == 1:
            single_NC: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logit_NC, -500, 500)))
            return single_NC
        power_NC = np.exp(logit_NC - logit_NC.max(axis=1, keepdims=True))
        several_NC: NDArray[np.float64] = power_NC / power_NC.sum(axis=1, keepdims=True)
        return several_NC


def read_head(path: Path, width: int) -> Head:
    """The head for embeddings of `width` channels. Raises `MapError` where the file is none, or of another width."""
    try:
        arrays, names = _read(path)
        weight = np.asarray(arrays["weight"], np.float64)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise MapError(f"not a linear head: {error}", where=str(path), fix=_FIX) from None
    if weight.ndim == 1:
        weight = weight[:, None]
    if weight.ndim != 2 or width not in weight.shape:
        what = f"its weights are {' x '.join(map(str, weight.shape))}, and embeddings have {width} channels"
        raise MapError(what, where=str(path), fix="give the head that was fitted to this encoder's embeddings")
    weight_DC = weight if weight.shape[0] == width else weight.T
    n = weight_DC.shape[1]
    bias_C = np.asarray(arrays.get("bias", np.zeros(n)), np.float64).reshape(-1)
    names = names or tuple(f"class {i}" for i in range(n))
    if n == 1 and len(names) == 2:
        # scikit-learn's two classes: its one column is the second's.
        names = names[1:]
    if len(bias_C) != n or len(names) != n:
        raise MapError(f"{n} classes, {len(bias_C)} biases, {len(names)} names", where=str(path), fix=_FIX)
    return Head(weight_DC, bias_C, names)


def _read(path: Path) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...]]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, tuple(str(name) for name in arrays.pop("names", np.array([])).tolist())
    with safe_open(path, framework="np") as file:
        names = json.loads((file.metadata() or {}).get("names", "[]"))
        return {name: file.get_tensor(name) for name in file.keys()}, tuple(map(str, names))  # noqa: SIM118

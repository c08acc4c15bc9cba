"""Embeddings of chosen tiles: the teacher's from the cache, a student's by running it as a user would.

Shapes: N tiles, H = W input side, T patch tokens of the teacher, D the teacher's width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from pipeline.base.errors import EvaluationError
from pipeline.base.progress import Advance
from pipeline.evaluate.selection import Sample
from pipeline.student.exported import Dense, Encoder, architecture, batches
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import FILTER, fit_square
from pipeline.tokens.item.reader import TokenReader


def teacher_features(samples: Sequence[Sample]) -> NDArray[np.float32]:
    """The cached CLS of the tiles as they are (view 0), (N, D) float32."""
    parts = [TokenReader(sample.tokens).cls(sample.rows)[:, 0] for sample in samples]
    return np.concatenate(parts).astype(np.float32)


def student_features(
    models: Sequence[nn.Module], samples: Sequence[Sample], batch_size: int, advance: Advance
) -> Iterator[list[NDArray[np.float32]]]:
    """Sample after sample each model's answers to its tiles, [(n, D) float32]; every tile is decoded once.

    The models take the same input. A batch may hold tiles of several samples, and the last is filled up with zeros, so
    that an answer does not depend on what else is asked. Raises `EvaluationError` where an answer is not finite.
    """
    encoders, left = [Encoder(model) for model in models], list(samples)
    waiting: list[list[NDArray[np.float32]]] = [[] for _ in models]
    for image_NHWC in _batches(samples, encoders[0].side_px, batch_size):
        n = len(image_NHWC)
        image_NCHW = encoders[0].normalise(np.pad(image_NHWC, ((0, batch_size - n), (0, 0), (0, 0), (0, 0))))
        for model, encoder, parts in zip(models, encoders, waiting, strict=True):
            parts.append(encoder.embed(image_NCHW)[:n])
            _check_finite(model, parts[-1])
        while left and len(left[0].rows) <= sum(map(len, waiting[0])):
            size = len(left.pop(0).rows)
            whole = [np.concatenate(parts) for parts in waiting]
            waiting = [[answer_ND[size:]] for answer_ND in whole]
            yield [answer_ND[:size] for answer_ND in whole]
        advance(n)


def _check_finite(model: nn.Module, answers: NDArray[np.float32]) -> None:
    if not np.isfinite(answers).all():
        where, fix = architecture(model), "look at the training curve; train again with a lower student.lr"
        raise EvaluationError("its answers are not all finite numbers", where=where, fix=fix)


def dense_features(
    models: Mapping[str, Dense], samples: Sequence[Sample], batch_size: int, advance: Advance
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Batch after batch of patch tokens, {`teacher` and each model: (n, T, D) float32}; no batch crosses a sample.

    All are standardised by the frozen statistics of the cache, z = (x - mu) / sigma. Raises `CorruptItem` where the
    cache has no patch tokens, `EvaluationError` where an answer is not finite.
    """
    encoders = {name: Encoder(model.backbone, model) for name, model in models.items()}
    first = next(iter(encoders.values()))
    for sample in samples:
        reader, done = TokenReader(sample.tokens), 0
        for image_NHWC in _batches([sample], first.side_px, batch_size):
            rows = sample.rows[done : done + len(image_NHWC)]
            done += len(rows)
            image_NCHW = first.normalise(image_NHWC)
            answers = {name: encoder.embed_dense(image_NCHW)[1] for name, encoder in encoders.items()}
            for name, x_nTD in answers.items():
                _check_finite(models[name].backbone, x_nTD)
            tokens = {name: (x_nTD - reader.mu) / reader.sigma for name, x_nTD in answers.items()}
            yield {"teacher": reader.dequantised(rows), **tokens}
            advance(len(rows))


def answering(
    model: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    side_px: int,
    batch_size: int,
    resample: Image.Resampling = FILTER,
) -> Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]:
    """Images of any size to (N, D): the middle square, resized as tiles are when they are read."""

    def answer(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(images), batch_size):
            batch = [fit_square(rgb_HWC, side_px, resample) for rgb_HWC in images[start : start + batch_size]]
            parts.append(model(np.stack(batch)))
        return np.concatenate(parts)

    return answer


def answering_student(
    model: nn.Module, batch_size: int
) -> Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]:
    """The same for an exported student."""
    encoder = Encoder(model)
    return answering(encoder, encoder.side_px, batch_size)


def _batches(samples: Sequence[Sample], side_px: int, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Decoded tiles, (n, H, W, 3) uint8."""
    readers = [TileReader(sample.tiles) for sample in samples]
    wanted = [(reader, int(row)) for reader, s in zip(readers, samples, strict=True) for row in s.rows]

    def read(i: int) -> NDArray[np.uint8]:
        reader, row = wanted[i]
        return reader.image(row, side_px)

    return batches(read, len(wanted), batch_size)

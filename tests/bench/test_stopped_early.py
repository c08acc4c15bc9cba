"""What `bench.study.held_out` stops a training by, the training has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made.cache import make_cache

from bench.study.held_out import open_subject
from pipeline.corpus.order import Order


def test_the_part_held_out_is_the_rest_of_what_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path, patch="none")
    cache.tiles.save(tmp_path / "artifacts" / "tiles.json")
    cache.tokens.save(tmp_path / "artifacts" / "tokens.json")
    monkeypatch.chdir(tmp_path)
    subject = open_subject(32, cache.store, held_out=0.25)
    corpus = subject.corpus
    order = Order(corpus.rows, block_rows=4, buffer_rows=16, fraction=corpus.fraction)
    epoch = order.epoch(0).take(0, order.total)
    trained = {corpus.image(int(s), int(r), 0, 32).tobytes() for s, r in zip(epoch.slide, epoch.row, strict=True)}
    part = {image.tobytes() for image in subject.part.image_NHWC}
    everything = {image.tobytes() for image in subject.train.image_NHWC}
    assert len(everything) == corpus.total == len(subject.train.labels)
    assert trained | part == everything and not trained & part
    assert len(subject.part.labels) == pytest.approx(0.25 * corpus.total, abs=len(corpus.rows))
    at = [int(np.flatnonzero((subject.train.teacher_ND == row).all(1))[0]) for row in subject.part.teacher_ND]
    assert {subject.train.image_NHWC[i].tobytes() for i in at} == part

"""Tokens of hundreds of slides in one run, with few descriptors: each slide in the making holds one."""

from __future__ import annotations

import numpy as np
from made.many import few_descriptors, repeated
from made.tiles import tiles_json

from pipeline.base.limits import open_files
from pipeline.base.store import Ref, Store
from pipeline.params.tokens import TokensParams
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.stage import make_tokens

SLIDES = 300


def test_three_hundred_slides_are_answered_with_256_descriptors(tiny_params: TokensParams, store: Store) -> None:
    params = tiny_params.model_copy(update={"patch": "none", "batch_size": 256})
    one = tiles_json(store, {"a": 2})
    many = one.model_copy(update={"items": repeated(store, Ref.of(one, one.items[0]), one.items[0], SLIDES)})
    before = open_files()
    with few_descriptors():
        made = make_tokens(many, params, store, 512)
    assert open_files() == before
    assert len(made.items) == SLIDES and not made.refused
    answers = [TokenReader(store.path(Ref.of(made, made.items[i]))).cls(np.arange(2)) for i in (0, SLIDES // 2, -1)]
    assert np.array_equal(answers[0], answers[1]) and np.array_equal(answers[0], answers[2])

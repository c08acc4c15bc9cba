"""The engine is chosen by the work that there is: none is built for a slide that eager answers sooner."""

from __future__ import annotations

import pytest
import torch

from pipeline.base.store import Store
from pipeline.params.tokens import TokensParams
from pipeline.teachers.engines import Setting, _soonest
from pipeline.teachers.engines.worth import BUILD_S, soonest
from pipeline.teachers.loading import load_teacher

ORDER = ("eager", "compile", "tensorrt")


@pytest.mark.parametrize("best", ["compile", "tensorrt"])
def test_more_tiles_take_an_engine_that_is_longer_in_building(best: str) -> None:
    taken = [soonest(best, 10**power, 0.01, built=False).engine for power in range(9)]
    assert taken == sorted(taken, key=ORDER.index)
    assert taken[0] == "eager" and taken[-1] == best


def test_what_is_saved_is_more_than_what_the_build_costs() -> None:
    found = soonest("tensorrt", 40_000, 0.01, built=False)
    assert found.engine != "eager"
    assert found.seconds["eager"] - found.seconds[found.engine] > 0
    assert found.seconds[found.engine] > BUILD_S[found.engine]
    assert "40,000 tiles: eager 400 s" in found.why(40_000)


def test_a_built_engine_costs_no_build() -> None:
    assert soonest("tensorrt", 64, 0.01, built=False).engine == "eager"
    assert soonest("tensorrt", 64, 0.01, built=True).engine == "tensorrt"


def test_what_eager_takes_is_measured_on_the_device(tiny_params: TokensParams, store: Store) -> None:
    teacher, best = load_teacher(tiny_params, store, 512), Setting("compile", "fp32", torch.device("cpu"), 4)
    chosen, why = _soonest(teacher, best, store, 8)
    assert chosen == "eager" and "about 8 tiles: eager" in why
    assert _soonest(teacher, best, store, 10**9)[0] == "compile"

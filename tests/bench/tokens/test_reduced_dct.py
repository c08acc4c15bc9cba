"""The command that prints what reduced decoding does to a teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.tokens.reduced_dct import main, measure
from pipeline.base.errors import SlideRefused
from pipeline.demo.slides import make_demo_slide
from pipeline.params.tokens import TokensParams


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo_slide(1, 800, folder)
    return folder / "slide.tif"


def test_reduced_tiles_are_nearer_to_the_default_than_their_neighbours(
    slide: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kwargs = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    arguments = ["--teacher", "vit_tiny_patch16_224", "--weights", str(tiny_weights), "--tiles", "40"]
    main([str(slide), *arguments, "--model-kwargs", json.dumps(kwargs)])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["dct_scale"] == 2 and found["tiles"] == 40
    for kind in ("raw", "standardised", "patch"):
        means = {name: found["rows"][name][kind]["mean"] for name in ("reduced", "pillow", "neighbour")}
        assert means["neighbour"] < means["reduced"] < 1 and means["pillow"] > means["neighbour"]


def test_a_target_that_needs_all_pixels_says_so(slide: Path, tiny_params: TokensParams) -> None:
    with pytest.raises(SlideRefused, match="nothing to reduce"):
        measure(slide, tiny_params, 0.7, None, 10)

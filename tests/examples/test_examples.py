"""The examples run as their first lines say, on what `histill embed` wrote."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from imports import ROOT
from PIL import Image

EXAMPLES = ROOT / "examples"


def run(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    runpy.run_path(str(EXAMPLES / name))["main"](words)
    said: dict[str, float] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return said


def test_abmil_learns_a_difference_between_slides(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run("abmil.py", [str(embedded / "clam"), str(embedded / "slides.csv")], capsys)
    assert said == {"trained_on": 6, "held_out": 2, "right": 2}


def test_side_by_side_sets_one_slides_answers_beside_one_another(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (str(next((embedded / name).glob("*/features_x/s0.h5"))) for name in ("first", "second"))
    same = run("side_by_side.py", [first, first, "--out", str(tmp_path / "same.png")], capsys)
    assert same["cosine"] == pytest.approx(1) and same["tiles"] > 8
    map_HWC = np.asarray(Image.open(tmp_path / "same.png"))
    width = (map_HWC.shape[1] - 16) // 3
    assert np.array_equal(map_HWC[:, :width], map_HWC[:, width + 8 : 2 * width + 8])
    other = run("side_by_side.py", [first, second, "--out", str(tmp_path / "other.png")], capsys)
    assert other["cosine"] < 0.9


def test_every_example_is_named_where_people_look() -> None:
    page = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f"examples/{path.name}" not in page] == []

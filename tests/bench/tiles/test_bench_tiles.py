"""The bench of tiles runs on a slide of one's own, and its last line is the JSON object that is promised."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from made.python_server import loaded_python
from made.slides import make_slide, tissue_picture

from bench.tiles import speed


def test_the_last_line_is_one_json_object_with_the_four_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = make_slide(tmp_path / "a.tif", tissue_picture(900, 700), (0.4, 0.4), kind="jpeg-rgb")
    monkeypatch.setattr(sys, "executable", loaded_python())
    monkeypatch.setattr(sys, "argv", ["bench", str(slide), "--target-mpp", "0.45", "--repeats", "1"])
    speed.main()
    lines = capsys.readouterr().out.splitlines()
    table = "\n".join(lines[:-1])
    assert "aligned, 0.400 um/px, 128 px, direct" in table and "rescaled, 0.450 um/px, 224 px" in table
    figures = json.loads(lines[-1])
    ratios = ["aligned_ratio", "aligned_ratio_cpu", "rescaled_ratio", "rescaled_ratio_cpu", "two_process_scaling"]
    assert list(figures) == [*ratios, "cores", "peak_rss_mb"]
    assert all(isinstance(figure, (int, float)) and figure > 0 for figure in figures.values())
    assert speed.SIDE_PX >= 12_000 and speed.MIN_DENSITY >= 0.3

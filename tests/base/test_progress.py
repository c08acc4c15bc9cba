from __future__ import annotations

import re
import time

import pytest

from pipeline.base.progress import _Log, track


def test_what_an_earlier_run_did_is_no_speed_of_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    with track("student", 1000, "tiles", done=990) as advance:
        time.sleep(0.1)
        advance(10)
    found = re.fullmatch(r"student: 1000/1000 tiles, ([\d.]+)/s, \d+ s\n", capsys.readouterr().err)
    assert found and float(found[1]) <= 10 / 0.1


def test_a_line_says_how_long_it_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    log = _Log("student", 100, "tiles", done=50, every_s=0)
    time.sleep(0.1)
    log(1, "loss 2")
    found = re.fullmatch(r"student: 51/100 tiles, [\d.]+/s, \d+ s, (\d+) s left loss 2\n", capsys.readouterr().err)
    assert found and int(found[1]) >= 49 * 0.1

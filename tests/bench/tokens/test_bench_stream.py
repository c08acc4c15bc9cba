"""The bench runs to its end on a tiny teacher and reports what was asked for; no speed is asserted."""

import json

from bench.tokens.stream import main


def test_the_last_line_is_the_report_as_json(capsys):
    main(["--teacher", "test_vit", "--tiles", "7", "--batch", "4", "--rounds", "1"])
    printed = capsys.readouterr().out
    report = json.loads(printed.splitlines()[-1])
    assert report["teacher"] == "test_vit" and report["batch"] == 4
    for figure in ("forward_tiles_per_s", "stream_tiles_per_s", "ratio", "plain_loop_tiles_per_s"):
        assert report[figure] > 0
    assert "8 tiles of" in printed, "batches are full: 7 tiles are rounded up"
    assert all(phase in printed for phase in ("forward", "decode", "epilogue", "write", "waiting"))

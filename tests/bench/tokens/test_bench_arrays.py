import json
import sys

from bench.tokens import arrays

WIDTH = 64


def test_the_last_line_is_the_ratios_of_this_run(tmp_path, monkeypatch, capsys):
    # Narrow tokens: the program takes whole batches of rows, and no figure is looked at but for being one.
    monkeypatch.setattr(arrays, "WIDTH", WIDTH)
    monkeypatch.setattr(arrays, "ROW_NBYTES", arrays.TOKENS * WIDTH)
    words = ["--rows", "256", "--repeats", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["arrays", *words])
    arrays.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["rows"] == 256
    assert all(told[name] > 0 for name in ("write_ratio", "read_ratio", "random_read_ratio", "over_oindex"))
    assert not any(tmp_path.iterdir())

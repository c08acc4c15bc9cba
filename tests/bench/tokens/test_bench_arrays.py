import json
import sys

from bench.tokens.arrays import main


def test_the_last_line_is_the_ratios_of_this_run(tmp_path, monkeypatch, capsys):
    words = ["--rows", "256", "--repeats", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["arrays", *words])
    main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["rows"] == 256
    assert all(told[name] > 0 for name in ("write_ratio", "read_ratio", "random_read_ratio", "over_oindex"))
    assert not any(tmp_path.iterdir())

import json
import subprocess
import sys

from project import ROOT


def test_the_last_line_is_the_ratios_of_this_run(tmp_path):
    words = ["--rows", "256", "--repeats", "1", "--folder", str(tmp_path)]
    command = [sys.executable, "-m", "bench.tokens.arrays", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["rows"] == 256
    assert all(told[name] > 0 for name in ("write_ratio", "read_ratio", "random_read_ratio", "over_oindex"))
    assert not any(tmp_path.iterdir())

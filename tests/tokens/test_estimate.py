"""What a run says of its cost: from its first batches, and afterwards; energy from the driver's own files."""

import importlib
import sys
import time

import pytest
from made.tiles import tiles_json

from pipeline.base import energy
from pipeline.base.energy import Energy
from pipeline.tokens.estimate import Estimate, conclude
from pipeline.tokens.job import Outcome
from pipeline.tokens.stage import make_tokens


def test_the_first_batches_tell_once_how_long_the_rest_takes(capsys):
    seen = []
    estimate = Estimate(1000, lambda n, note: seen.append((n, note)))
    for _ in range(8):
        estimate(10, "a", False)
    printed = capsys.readouterr().err
    assert printed.count("tiles/s in the first batches, so about") == 1
    assert seen == [(10, "a")] * 8


def test_tiles_that_were_cached_are_done_but_do_not_count_as_speed(capsys):
    done = []
    estimate = Estimate(100_000, lambda n, note: done.append(n))
    for _ in range(9):
        estimate(10_000, "a", True)
    assert capsys.readouterr().err == "" and sum(done) == 90_000
    for _ in range(5):
        time.sleep(0.01)
        estimate(10, "a", False)
    # Some ten thousand tiles are left, at less than a thousand a second.
    speed = float(capsys.readouterr().err.split()[1])
    assert speed < 1_000


def test_a_run_ends_with_its_speed_bytes_and_phases_in_the_metrics(tiny_params, store, capsys):
    timings = make_tokens(tiles_json(store, {"a": 20}), tiny_params, store, 512).timings
    assert timings["tiles_per_s"] > 0 and timings["gb_written"] >= 0
    assert {"forward_s", "decode_s", "write_s", "commit_s", "waiting_s"} <= timings.keys()
    assert "tiles/s, " in capsys.readouterr().err


def test_a_run_that_computed_nothing_has_no_speed():
    assert conclude(Outcome(), 0, 1.0, None) == {}


RANGE_UJ = 10**12
"""Of a counter that surely starts again once at most while a test runs."""


def zone(folder, name, micro_joules, range_uj=RANGE_UJ):
    folder.mkdir()
    for file, value in (("name", name), ("energy_uj", micro_joules), ("max_energy_range_uj", range_uj)):
        (folder / file).write_text(f"{value}\n")


def test_energy_is_the_packages_counters_over_their_range_cores_not_twice(tmp_path):
    zone(tmp_path / "intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    zone(tmp_path / "intel-rapl:1", "package-1", 1_000_000)
    zone(tmp_path / "intel-rapl:0:0", "core", 0)
    energy = Energy(tmp_path)
    for number, now in ((0, 500_000), (1, 3_000_000)):
        (tmp_path / f"intel-rapl:{number}" / "energy_uj").write_text(f"{now}\n")
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("7000000\n")
    joules = energy.joules()
    assert joules is not None and joules >= 1.5 + 2.0 - 1e-9


def test_the_platforms_counter_that_holds_the_packages_is_not_added_to_them(tmp_path):
    zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    zone(tmp_path / "intel-rapl:1", "psys", 2_000_000)
    energy = Energy(tmp_path, device="cpu")
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2500000\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("7000000\n")
    assert energy.joules() == 1.5


def test_a_counter_that_may_have_started_again_more_than_once_tells_nothing(tmp_path):
    zone(tmp_path / "intel-rapl:0", "package-0", 0, range_uj=10_000_000)
    energy = Energy(tmp_path, device="cpu")
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("900000\n")
    # Ten joules are over in a fiftieth of a second at 500 W.
    time.sleep(0.03)
    assert energy.joules() is None


DRIVER = """
class NVMLError(Exception): pass
spent = {"GPU-mine": 5000, "GPU-others": 70000}
nvmlInit = lambda: None
nvmlDeviceGetCount = lambda: len(spent)
nvmlDeviceGetHandleByIndex = lambda i: list(spent)[i]
nvmlDeviceGetTotalEnergyConsumption = lambda handle: spent[handle]
def nvmlDeviceGetHandleByUUID(uuid):
    if uuid not in spent:
        raise NVMLError
    return uuid
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A stand-in for NVIDIA's driver, which this machine may lack; two GPUs."""
    (tmp_path / "pynvml.py").write_text(DRIVER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    yield importlib.import_module("pynvml")
    sys.modules.pop("pynvml", None)


def test_of_several_gpus_the_one_that_computes_is_counted_and_none_for_the_cpu(tmp_path, driver, monkeypatch):
    monkeypatch.setattr(energy, "_GPU_LEAST_S", 3600.0)
    mine, everything = Energy(tmp_path, device="cuda", gpu="GPU-mine"), Energy(tmp_path)
    unknown, cpu = Energy(tmp_path, device="cuda", gpu="GPU-gone"), Energy(tmp_path, device="cpu")
    driver.spent.update({"GPU-mine": 7000, "GPU-others": 170000})
    assert mine.joules() is None, "a counter renewed every tenth of a second says nothing of so short a time"
    monkeypatch.setattr(energy, "_GPU_LEAST_S", 0.0)
    assert (mine.joules(), everything.joules()) == (2.0, 102.0)
    assert unknown.joules() is None and cpu.joules() is None


def test_energy_that_no_driver_tells_is_not_made_up(tmp_path):
    import importlib.util

    if importlib.util.find_spec("pynvml") is None:
        assert Energy(tmp_path).joules() is None
    else:
        pytest.skip("pynvml is installed: its GPUs may be counted")

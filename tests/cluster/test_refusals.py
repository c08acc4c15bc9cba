"""Whatever a slide makes somebody raise is an error about that slide: a result, or a cause that may pass."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from PIL import Image

from pipeline.base.errors import CorruptItem, SlideRefused, SlideUnavailable, StoreFull, WorkerLost
from pipeline.base.manifest import Refusal
from pipeline.cluster.refusals import Tracebacks, about_slide, of_slide


def held_by_another(path: Path) -> None:
    import fcntl

    h5py.File(path, "w").close()
    with open(path, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        h5py.File(path, "r")


PASSING: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.read_bytes(),
    "below a file": lambda path: (path.parent / "file" / "slide.svs").read_bytes(),
    "a failing disk": lambda path: Path("/proc/self/mem").read_bytes(),
    "a missing h5": lambda path: h5py.File(path, "r"),
    "a locked h5": held_by_another,
    "no memory": lambda path: bytearray(1 << 62),
}
STAYING: dict[str, Callable[[Path], object]] = {
    "no image": lambda path: Image.open(path.parent / "file"),
    "no h5": lambda path: h5py.File(path.parent / "file", "r"),
    "no JSON": lambda path: json.loads((path.parent / "file").read_text()),
    "a bug": lambda path: [][0],
}


def raised(folder: Path, read: Callable[[Path], object]) -> SlideRefused:
    (folder / "file").write_bytes(b"nothing that anyone reads")
    try:
        read(folder / "nowhere.svs")
    except Exception as error:
        found = about_slide(error, "slide-1")
        assert isinstance(found, SlideRefused)
        return found
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("cause", PASSING)
def test_what_the_system_refuses_may_pass(cause: str, tmp_path: Path) -> None:
    refused = raised(tmp_path, PASSING[cause])
    assert isinstance(refused, SlideUnavailable) and refused.fix and not refused.trace
    assert Refusal.of("slide-1", refused).passing


@pytest.mark.parametrize("cause", STAYING)
def test_what_is_in_a_file_stays_with_its_traceback(cause: str, tmp_path: Path) -> None:
    refused = raised(tmp_path, STAYING[cause])
    assert not refused.passing and "Traceback" in refused.trace and "\n" not in refused.what
    assert pickle.loads(pickle.dumps(refused)).trace == refused.trace


@pytest.mark.parametrize("error", [StoreFull("no room left"), WorkerLost("gone"), CorruptItem("differs")])
def test_our_own_errors_stay_as_they_are(error: Exception) -> None:
    assert about_slide(error) is error


def test_a_refusal_that_stays_is_written_as_ever() -> None:
    kept, passing = SlideRefused("no tissue", fix="leave it out"), SlideUnavailable("file not found", fix="mount it")
    assert Refusal.of("a", kept).model_dump() == {"id": "a", "reason": "no tissue", "fix": "leave it out"}
    told = Refusal.of("b", passing).model_dump_json()
    assert Refusal.model_validate_json(told) == Refusal.of("b", passing) and '"passing":true' in told


def test_tracebacks_go_to_one_file_that_a_run_without_any_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = [raised(tmp_path, STAYING[cause]) for cause in ("a bug", "no JSON")]
    traces = Tracebacks("tiles")
    told = [traces.keep(f"slide-{i}", error) for i, error in enumerate(refused)]
    text = (tmp_path / "reports/errors/tiles.txt").read_text()
    assert all("reports/errors/tiles.txt" in error.fix for error in told)
    assert text.count("Traceback") == 2 and "slide slide-0" in text and "JSONDecodeError" in text
    Tracebacks("tiles")
    assert not (tmp_path / "reports/errors/tiles.txt").exists()


def test_what_the_making_of_items_raises_is_the_slides_and_what_is_done_with_them_is_not() -> None:
    with pytest.raises(SlideRefused, match="ZeroDivisionError"):
        list(of_slide(1 // n for n in (1, 0)))
    with pytest.raises(ZeroDivisionError):
        for n in of_slide(iter([0])):
            1 // n

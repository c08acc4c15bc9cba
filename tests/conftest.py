"""Fixtures that every room's tests share."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from made import python_server

from pipeline.base import syncing
from pipeline.base.store import Store

ROOT = Path(__file__).parents[1]

# The same cases in every run, so that a failure is the change's; `pytest --hypothesis-profile explore` seeks new ones.
settings.register_profile("explore", deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("histill", settings.get_profile("explore"), max_examples=40, derandomize=True)
settings.load_profile("histill")
LONGEST = (
    "stages/test_sharing.py",
    "cluster/test_slurm.py",
    "cluster/test_student_nodes.py",
    "tiles/test_faults.py",
    "student/test_distributed.py",
    "benchmark/test_speed.py",
    "student/test_start.py",
    "kernels/test_kernels.py",
    "stages/test_real_data.py",
    "cluster/test_outside.py",
    "student/test_export.py",
    "test_dvc_yaml.py",
    "student/test_train.py",
    "teachers/engines/test_engine_export.py",
    "measures/uni/test_uni.py",
    "measures/probes/test_mil.py",
    "evaluate/test_bad_input.py",
    "evaluate/labels/test_from_labels.py",
    "embed/test_slides.py",
    "tokens/test_tokens_scale_out.py",
)
"""Files of tests that take longest or wait most, which begin first: one that began last would leave cores idle."""
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Some forty processes are started, each of which would compile every module that it imports, as would the next run.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# No test cuts the power, and the thousands of small files that the store syncs would wait for the disk. A descriptor
# that is closed is an error all the same; child processes sync.
os.fsync = lambda descriptor: os.fstat(descriptor) and None
syncing.sync_file_system = lambda folder: None


SERVER = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """One server for all processes of a run, pytest's workers among them; it does nothing before it is asked."""
    if not hasattr(config, "workerinput"):
        config.stash[SERVER] = python_server.start(Path(tempfile.mkdtemp(prefix="python-")))
        loaded = f"popen//python={python_server.loaded_python()}"
        config.option.tx = [loaded if spec == "popen" else spec for spec in getattr(config.option, "tx", ())]


def pytest_unconfigure(config: pytest.Config) -> None:
    server = config.stash.get(SERVER, None)
    if server is not None:
        server.communicate()
        shutil.rmtree(Path(os.environ[python_server.SOCKET]).parent)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; within a file, and among all others, the order stays."""
    place = {ROOT / "tests" / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_collection_finish() -> None:
    """Thousands of tests and all modules stay to the end: no collection of garbage has to go through them again."""
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Collect what a cluster leaves unclosed while its tests say that this is no error, and not in another's time."""
    if _leaves_sockets(item) and not (nextitem and nextitem.path == item.path and _leaves_sockets(nextitem)):
        gc.collect()


def _leaves_sockets(item: pytest.Item) -> bool:
    return any("ignore::ResourceWarning" in mark.args for mark in item.iter_markers("filterwarnings"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of its own for each test."""
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real slides, labelled tiles and a teacher, beside the checkout; not part of the project."""
    folder = Path(os.environ.get("HISTILL_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "slides").is_dir():
        pytest.skip(f"no real data at {folder.name}/ beside the checkout (see HISTILL_REAL_DATA)")
    return folder

"""Two worker processes, one of them killed, and one of an outside scheduler: the same bytes as one process makes."""

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from dask.distributed import LocalCluster
from hypothesis import given
from hypothesis import strategies as st
from made.held import HeldFile, held
from made.items import tiles_item
from made.processes import until
from made.tiles import file_bytes, tiles_json

from pipeline.base.errors import SlideRefused
from pipeline.base.limits import usable_cores
from pipeline.base.living.owners import OWNER_SUFFIX, Process
from pipeline.base.living.unfinished import PARTIALS
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.tiles.item.meta import OFFSETS_ARRAY
from pipeline.tokens.run.on_the_way import OnTheWay
from pipeline.tokens.run.scale_out import local_workers, split
from pipeline.tokens.stage import make_tokens

SLIDES = {f"s{i}": n for i, n in enumerate((130, 70, 60, 40, 30, 3))}
"""Of batches of 8 the lists (130), (70, 60) and (40, 30, 3); the last slide holds no tile of the calibration."""


def kill_whom_the_file_holds(at_work: Path, done: Path, held_file: HeldFile) -> int:
    """kill -9 the process that waits for the file, while it is at work on an item and when another of its is done."""
    until(lambda: held_file.is_read() and done.exists())
    (owner,) = at_work.glob(f"*{OWNER_SUFFIX}")
    pid = Process.model_validate_json(owner.read_bytes()).pid
    held_file.put_back()
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_lost_workers_slides_are_redone_and_the_bytes_are_one_processs(tiny_params, tmp_path):
    params = tiny_params.model_copy(update={"views": 2})
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    tiles = tiles_json(one, SLIDES)
    tiles_json(two, SLIDES)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, usable_cores() // 2))
    expected = make_tokens(tiles, params, one, 512)
    torch.set_num_threads(threads)
    done, at_work = (two.own_path(Ref.of(expected, expected.item(name))) for name in ("s3", "s4"))
    offsets = two.path(Ref.of(tiles, tiles.item("s5"))) / OFFSETS_ARRAY / "zarr.json"
    with ThreadPoolExecutor(1) as pool, held(offsets) as held_file:
        partials = at_work.parent / PARTIALS / at_work.name
        killed = pool.submit(kill_whom_the_file_holds, partials, done, held_file)
        manifest = make_tokens(tiles, params, two, 512, ClusterParams(workers=2))
        assert killed.result() != os.getpid()
    assert manifest.model_dump() == expected.model_dump()
    assert all(file_bytes(two, manifest, slide) == file_bytes(one, expected, slide) for slide in SLIDES)
    assert manifest.timings["tiles_per_s"] > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_outside_schedulers_worker_makes_the_same_and_is_told_of_the_next_runs_params(tiny_params, tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    tiles, bad = tiles_json(here, {"a": 21, "b": 3}), tiles_json(here, {"bad": 4}, bad_row=2)
    both = tiles.model_copy(update={"items": (*tiles.items, *bad.items)})
    shutil.copytree(here.root, there.root)
    expected = make_tokens(both, tiny_params, here, 512)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as outside:
        cluster = ClusterParams(scheduler=outside.scheduler_address)
        manifest = make_tokens(both, tiny_params, there, 512, cluster)
        # The worker keeps the teacher; what the next run asks for counts all the same.
        with pytest.raises(SlideRefused, match="bad: the tile does not decode"):
            make_tokens(both, tiny_params.model_copy(update={"on_error": "fail"}), there, 512, cluster)
    assert [refusal.id for refusal in manifest.refused] == ["bad"]
    assert manifest.model_dump() == expected.model_dump()
    assert all(file_bytes(there, manifest, slide) == file_bytes(here, expected, slide) for slide in ("a", "b"))


def test_what_lists_say_on_their_way_moves_each_tile_once():
    moved = []
    shown = OnTheWay(lambda tiles, slide_id, cached: moved.append((tiles, cached)))
    # The second word of list `a` comes late, and its worker is lost: another begins it anew.
    for said in (("a", 3, 5), ("b", 0, 2), ("a", 3, 9), ("a", 3, 7), ("a", 0, 4), ("a", 3, 20), ("b", 0, 6)):
        shown.heard(said)
    assert moved == [(3, True), (5, False), (2, False), (4, False), (11, False), (4, False)]


def test_lists_are_bounded_so_that_late_workers_find_some():
    items = [tiles_item(f"s{i}", 10_000, key=f"k{i}") for i in range(100)]
    assert [sum(item.n for item in some) for some in split(items, 256, 1)] == [50_000] * 20


def test_without_a_word_a_cpu_has_one_process():
    if not torch.cuda.is_available():
        assert local_workers(ClusterParams()) == 1 and local_workers(ClusterParams(workers=3)) == 3


@given(sizes=st.lists(st.integers(1, 5000), max_size=30), batch=st.integers(1, 64), workers=st.integers(1, 4))
def test_lists_hold_each_slide_once_the_largest_first(sizes, batch, workers):
    items = [tiles_item(f"s{i}", n, key=f"k{i}") for i, n in enumerate(sizes)]
    lists = split(items, batch, workers)
    assert sorted(item.id for some in lists for item in some) == sorted(item.id for item in items)
    flat = [item.n for some in lists for item in some]
    assert flat == sorted(flat, reverse=True) and all(lists)
    if len(items) >= workers and len(set(sizes)) == 1:
        assert len(lists) >= min(workers, len(items))


@pytest.mark.parametrize("finishes", [True, False])
def test_a_slide_that_another_run_is_at_is_left_to_it_or_made_once_it_lets_go(finishes, tiny_params, tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    tiles = tiles_json(here, {"a": 9, "b": 5, "c": 4})
    shutil.copytree(here.root, there.root)
    expected = make_tokens(tiles, tiny_params, here, 512)
    refs = {item.id: Ref.of(expected, item) for item in expected.items}
    with ThreadPoolExecutor(1) as pool:
        try:
            with there.write(refs["a"], here.recipe(refs["a"])) as folder:
                run = pool.submit(make_tokens, tiles, tiny_params, there, 512)
                deadline = time.monotonic() + 600
                while not (there.has(refs["b"]) and there.has(refs["c"])):
                    assert time.monotonic() < deadline and not run.done()
                    time.sleep(0.02)
                assert not there.has(refs["a"])
                if not finishes:
                    raise KeyboardInterrupt
                shutil.copytree(here.path(refs["a"]), folder, dirs_exist_ok=True)
                (folder / "item.json").unlink()
        except KeyboardInterrupt:
            pass
        manifest = run.result(timeout=600)
    assert manifest.model_dump() == expected.model_dump()
    assert all(file_bytes(there, manifest, slide) == file_bytes(here, expected, slide) for slide in "abc")

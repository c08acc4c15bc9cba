"""What a stage commits is sent while it goes on; what of it fails or is cut off changes nothing of the stage."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made.bucket import Fault, Proxy
from made.checkout import KEY, RECIPE, put
from made.python_server import loaded_python

from pipeline.base.living.runs import announced, held_here
from pipeline.base.store import Ref, Store
from pipeline.remote import background, objects
from pipeline.remote.background import sending
from pipeline.remote.bucket import Bucket
from pipeline.remote.moves import push

RECIPES = (f"tiles/{KEY}",)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAUSES_S", ())
    monkeypatch.setattr(background, "PAUSE_S", 0.02)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_item_is_there_before_its_stage_ends(store: Store, tmp_path: Path) -> None:
    put(store, "earlier")
    os.utime(store.root / "tiles" / KEY / "earlier" / "item.json", ns=(0, 0))
    bucket = Bucket.at(f"file://{tmp_path}/bucket")
    with announced(store.root, "tiles", tmp_path), sending(store, bucket, lambda: held_here(store.root)) as going:
        put(store, "a")
        until(lambda: list(bucket.refs()) == [Ref("tiles", KEY, "a")])
        put(store, "b")
        until(lambda: going.items == 2)
    assert going.nbytes == 2 and [ref.item for ref in bucket.refs()] == ["a", "b"]


def test_a_bucket_that_refuses_stops_nothing(store: Store, url: str, proxy: Proxy) -> None:
    proxy.faults.append(Fault("denied", "PUT", times=999))
    with sending(store, Bucket.at(url), lambda: RECIPES) as going:
        for i in range(8):
            put(store, f"item{i}")
        until(lambda: proxy.times_seen("PUT") >= 3)
    assert going.items == 0 and proxy.times_seen("PUT") <= 3
    proxy.faults.clear()
    assert push(store, Bucket.at(url), list(store.own_refs())).items == 8


def test_a_stage_that_fails_does_not_wait_for_what_is_sent(store: Store, url: str, proxy: Proxy) -> None:
    proxy.faults.append(Fault("slow", "", times=999))
    with pytest.raises(ValueError, match="the stage's own"), sending(store, Bucket.at(url), lambda: RECIPES):
        put(store, "a")
        until(lambda: proxy.seen)
        raise ValueError("the stage's own")


def test_a_run_killed_while_it_sends_is_gone_on_with(store: Store, url: str, proxy: Proxy) -> None:
    content = os.urandom(1000)
    ref = Ref("tiles", KEY, "a")
    code = f"""
import time, pathlib
from pipeline.base.store import Ref, Store
from pipeline.remote import background
from pipeline.remote.bucket import Bucket
background.PAUSE_S = 0.02
store = Store({str(store.root)!r})
with background.sending(store, Bucket.at({url!r}), lambda: {RECIPES!r}):
    with store.write(Ref("tiles", {KEY!r}, "a"), {RECIPE!r}) as folder:
        for name in "xyz":
            (folder / name).write_bytes({content!r})
    time.sleep(600)
"""
    proxy.faults.append(Fault("slow", "PUT .*/y", times=999))
    child = subprocess.Popen([loaded_python(), "-c", code])
    try:
        until(lambda: proxy.times_seen("PUT .*/y"))
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    bucket = Bucket.at(url)
    assert not bucket.has(ref), "half an item is seen"
    proxy.faults.clear()
    proxy.seen.clear()
    assert push(store, bucket, [ref]).items == 1
    assert not proxy.times_seen("PUT .*/x"), "what was sent is sent again"
    other = Store(store.root.parent / "other", remote=Bucket.at(url))
    assert all((other.path(ref) / name).read_bytes() == content for name in "xyz")

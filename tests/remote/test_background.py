"""What a stage commits is sent while it goes on; what of it fails or is cut off changes nothing of the stage."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from made.bucket import Fault, Proxy
from made.checkout import KEY, RECIPE, put
from made.processes import until
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


def test_an_item_is_there_before_its_stage_ends(store: Store, tmp_path: Path) -> None:
    put(store, "earlier")
    os.utime(store.root / "tiles" / KEY / "earlier" / "item.json", ns=(0, 0))
    bucket = Bucket.at(f"file://{tmp_path}/bucket")
    with announced(store.root, "tiles", tmp_path), sending(store, bucket, lambda: held_here(store.root)) as going:
        put(store, "a")
        until(lambda: list(bucket.refs()) == [Ref("tiles", KEY, "a")], 0.01)
        put(store, "b")
        until(lambda: going.items == 2, 0.01)
    assert going.nbytes == 2 and [ref.item for ref in bucket.refs()] == ["a", "b"]


def test_a_bucket_that_refuses_stops_nothing(store: Store, url: str, proxy: Proxy) -> None:
    proxy.faults.append(Fault("denied", "PUT", times=999))
    with sending(store, Bucket.at(url), lambda: RECIPES) as going:
        for i in range(8):
            put(store, f"item{i}")
        until(lambda: proxy.times_seen("PUT") >= 3, 0.01)
    assert going.items == 0 and proxy.times_seen("PUT") <= 3
    proxy.faults.clear()
    assert push(store, Bucket.at(url), list(store.own_refs())).items == 8


def test_a_stage_that_fails_does_not_wait_for_what_is_sent(store: Store, url: str, proxy: Proxy) -> None:
    proxy.faults.append(Fault("slow", "", times=999))
    with pytest.raises(ValueError, match="the stage's own"), sending(store, Bucket.at(url), lambda: RECIPES):
        put(store, "a")
        until(lambda: proxy.seen, 0.01)
        raise ValueError("the stage's own")


def test_a_run_killed_while_it_sends_is_gone_on_with(store: Store, url: str, proxy: Proxy) -> None:
    content = os.urandom(1000)
    ref = Ref("tiles", KEY, "a")
    code = f"""
import os, time
from pipeline.base.store import Ref, Store
from pipeline.remote import background
from pipeline.remote.bucket import Bucket
background.PAUSE_S = 0.02
print(os.getpid(), flush=True)
store = Store({str(store.root)!r})
with background.sending(store, Bucket.at({url!r}), lambda: {RECIPES!r}):
    with store.write(Ref("tiles", {KEY!r}, "a"), {RECIPE!r}) as folder:
        for name in "xyz":
            (folder / name).write_bytes({content!r})
    time.sleep(3600)
"""
    proxy.faults.append(Fault("held", "PUT .*/y", times=999))
    with subprocess.Popen([loaded_python(), "-c", code], stdout=subprocess.PIPE) as child:
        pid = int(child.stdout.readline())
        try:
            until(lambda: proxy.times_seen("PUT .*/y"), 0.01)
        finally:
            os.kill(pid, signal.SIGKILL)
    bucket = Bucket.at(url)
    assert not bucket.has(ref), "half an item is seen"
    proxy.faults.clear()
    proxy.seen.clear()
    assert push(store, bucket, [ref]).items == 1
    assert not proxy.times_seen("PUT .*/x"), "what was sent is sent again"
    other = Store(store.root.parent / "other", remote=Bucket.at(url))
    assert all((other.path(ref) / name).read_bytes() == content for name in "xyz")

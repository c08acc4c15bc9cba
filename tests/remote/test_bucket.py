"""Items sent to a bucket and fetched from it: what comes over is what was committed, and only when it is whole."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made.bucket import Fault, Proxy
from made.checkout import KEY, RECIPE, put

from pipeline.base.errors import CorruptItem, MissingItem, ParamsError, RemoteError
from pipeline.base.partials import ITEM_FILE
from pipeline.base.store import Ref, Store
from pipeline.remote import bucket as bucket_module
from pipeline.remote import objects, transfers
from pipeline.remote.address import redacted
from pipeline.remote.bucket import Bucket
from pipeline.remote.moves import pull, push
from pipeline.remote.objects import Objects


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between attempts, and files of a few bytes have several blocks."""
    monkeypatch.setattr(objects, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(transfers, "BLOCK", 4)


def item_of(store: Store, name: str = "a", content: bytes = b"0123456789") -> Ref:
    """An item of two files, one of them in a folder of its own."""
    ref = Ref("tiles", KEY, name)
    with store.write(ref, RECIPE) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "data").write_bytes(content)
        (folder / "meta").write_bytes(b"m")
    return ref


def behind(folder: Path, url: str) -> Store:
    """Another machine's store, with the bucket behind it."""
    return Store(folder, remote=Bucket.at(url))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_sent_is_fetched_where_it_is_needed(store: Store, tmp_path: Path, url: str, proxy: Proxy) -> None:
    ref = item_of(store)
    moved = push(store, Bucket.at(url), [ref])
    assert (moved.items, moved.nbytes, moved.failed) == (1, 11, {})
    other = pickle.loads(pickle.dumps(behind(tmp_path / "other", url)))
    assert other.has(ref) and not other.is_here(ref)
    proxy.seen.clear()
    assert other.digest(ref) == store.digest(ref) and other.nbytes(ref) == 11
    assert not proxy.times_seen("/files/"), "the item came over to be described"
    assert files(other.open(ref, remedy="none")) == files(store.path(ref))
    assert other.recipe(ref) == RECIPE
    proxy.seen.clear()
    assert other.path(ref).is_dir() and not proxy.seen, "an item that is here needs no bucket"


def test_any_fsspec_url_is_a_bucket(store: Store, tmp_path: Path) -> None:
    ref, url = item_of(store), f"file://{tmp_path}/shared/of us"
    push(store, Bucket.at(url), [ref])
    other = behind(tmp_path / "other", url)
    assert files(other.open(ref, remedy="none")) == files(store.path(ref))
    assert list(Bucket.at(url).refs()) == [ref]


def test_what_neither_has_is_missing(tmp_path: Path, url: str) -> None:
    other = behind(tmp_path / "other", url)
    with pytest.raises(MissingItem):
        other.open(Ref("tiles", KEY, "a"), remedy="make it")


def test_a_half_sent_item_is_never_seen(store: Store, tmp_path: Path, url: str, proxy: Proxy) -> None:
    ref = item_of(store)
    proxy.faults.append(Fault("denied", "PUT .*/items/", times=99))
    moved = push(store, Bucket.at(url), [ref])
    assert list(moved.failed) == [ref] and moved.left == 1
    assert not behind(tmp_path / "other", url).has(ref)
    proxy.faults.clear()
    proxy.seen.clear()
    assert push(store, Bucket.at(url), [ref]).nbytes == 0, "what was sent is not sent again"
    assert not proxy.times_seen("PUT .*/files/") and behind(tmp_path / "other", url).has(ref)


@pytest.mark.parametrize("kind", ["cut", "503", "slow", "truncated"])
def test_fetching_outlasts_what_passes(kind: str, store: Store, tmp_path: Path, url: str, proxy: Proxy) -> None:
    ref = item_of(store)
    push(store, Bucket.at(url), [ref])
    proxy.faults += [Fault(kind, "GET .*inner/data"), Fault(kind, "GET .*/items/a.json")]  # type: ignore[arg-type]
    other = behind(tmp_path / "other", url)
    assert files(other.path(ref)) == files(store.path(ref))
    assert not [fault for fault in proxy.faults if fault.times], "each fault was met"


@pytest.mark.parametrize("kind", ["cut", "503", "slow", "truncated"])
def test_sending_outlasts_what_passes(kind: str, store: Store, tmp_path: Path, url: str, proxy: Proxy) -> None:
    ref = item_of(store)
    proxy.faults += [Fault(kind, "PUT .*inner/data"), Fault(kind, "PUT .*/items/")]  # type: ignore[arg-type]
    assert not push(store, Bucket.at(url), [ref]).failed
    assert files(behind(tmp_path / "other", url).path(ref)) == files(store.path(ref))
    assert not [fault for fault in proxy.faults if fault.times], "each fault was met"


def test_a_cut_fetch_goes_on_at_its_byte(store: Store, tmp_path: Path, url: str, proxy: Proxy) -> None:
    ref = item_of(store)
    push(store, Bucket.at(url), [ref])
    proxy.faults.append(Fault("denied", "GET .*inner/data bytes=8-", times=99))
    other = behind(tmp_path / "other", url)
    with pytest.raises(RemoteError, match="refuses"):
        other.path(ref)
    assert not other.is_here(ref)
    proxy.faults.clear()
    proxy.seen.clear()
    assert files(other.path(ref)) == files(store.path(ref))
    assert proxy.times_seen("GET .*inner/data bytes=8-") and not proxy.times_seen("GET .*inner/data bytes=[04]-")


def test_a_maker_does_not_go_on_in_half_a_fetch(store: Store, tmp_path: Path, url: str, proxy: Proxy) -> None:
    ref = item_of(store)
    push(store, Bucket.at(url), [ref])
    proxy.faults.append(Fault("denied", "GET .*inner/data bytes=8-", times=99))
    other = behind(tmp_path / "other", url)
    with pytest.raises(RemoteError):
        other.path(ref)
    with other.write(ref, RECIPE, resume=True) as folder:
        assert files(folder) == {}


def test_other_bytes_are_refused(store: Store, tmp_path: Path, url: str) -> None:
    ref = item_of(store)
    push(store, Bucket.at(url), [ref])
    (name,) = Objects(url).names(f"tiles/{KEY}/files/a")
    Objects(url).write(f"tiles/{KEY}/files/a/{name}/inner/data", b"9876543210")
    other = behind(tmp_path / "other", url)
    with pytest.raises(RemoteError, match="not those that were sent"):
        other.path(ref)
    assert not other.is_here(ref)
    # The remedy that it names.
    assert push(store, Bucket.at(url), [ref], again=True).nbytes == 10
    assert files(other.path(ref)) == files(store.path(ref))


def test_a_stale_object_is_asked_for_again(store: Store, tmp_path: Path, url: str, proxy: Proxy) -> None:
    ref = item_of(store)
    push(store, Bucket.at(url), [ref])
    (name,) = Objects(url).names(f"tiles/{KEY}/files/a")
    data = f"tiles/{KEY}/files/a/{name}/meta"
    Objects(url).write(data, b"x")
    Objects(url).read(data, 0, 1)
    proxy.first.clear()
    Objects(url).read(data, 0, 1)
    Objects(url).write(data, b"m")
    proxy.faults.append(Fault("stale", f"GET .*{name}/meta", times=1))
    assert files(behind(tmp_path / "other", url).path(ref)) == files(store.path(ref))
    assert proxy.faults[0].times == 0


def test_a_damaged_item_is_not_sent(store: Store, url: str) -> None:
    ref, whole = item_of(store), item_of(store, "b")
    (store.path(ref) / "meta").write_bytes(b"x")
    moved = push(store, Bucket.at(url), [ref, whole])
    assert moved.items == 1 and isinstance(moved.failed[ref], CorruptItem)


def test_two_who_send_one_item_of_other_bytes_leave_one_that_is_whole(tmp_path: Path, url: str) -> None:
    stores = [Store(tmp_path / name) for name in "xy"]
    refs = [
        item_of(store, content=content) for store, content in zip(stores, (b"0123456789", b"abcdefghij"), strict=True)
    ]
    with ThreadPoolExecutor(2) as pool:
        moved = list(pool.map(lambda i: push(stores[i], Bucket.at(url), [refs[i]], again=True), range(2)))
    assert not any(one.failed for one in moved)
    got = behind(tmp_path / "other", url)
    assert files(got.path(refs[0])) in [files(store.path(refs[0])) for store in stores]
    got.verify(refs[0])


def test_many_who_need_one_item_fetch_it_once(store: Store, tmp_path: Path, url: str, proxy: Proxy) -> None:
    ref = item_of(store)
    push(store, Bucket.at(url), [ref])
    proxy.seen.clear()
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: behind(tmp_path / "other", url).path(ref), range(4)))
    assert len(set(paths)) == 1 and proxy.times_seen("GET .*inner/data bytes=0-") == 1


def test_a_bucket_that_refuses_is_asked_a_few_times_and_names_no_secret(
    store: Store, url: str, proxy: Proxy, capfd: pytest.CaptureFixture[str]
) -> None:
    refs = [put(store, f"item{i}") for i in range(40)]
    proxy.faults.append(Fault("denied", "PUT", times=999))
    moved = push(store, Bucket.at(url), refs)
    assert moved.left == 40 and len(moved.failed) < 20
    said = " ".join(map(str, moved.failed.values())) + "".join(capfd.readouterr())
    assert "refuses" in said and "the-secret-of-the-tests" not in said and "AKIAOFTHETESTS" not in said


def test_no_secret_is_taken_or_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("s3://KEYKEY:SECRETSECRET@bucket/x", "s3://KEYKEY@bucket", "https://h/b?sig=SECRETSECRET"):
        with pytest.raises(ParamsError) as caught:
            Bucket.at(url)
        assert "SECRETSECRET" not in str(caught.value) and "KEYKEY" not in str(caught.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")
    said = redacted("GET http://u:pw@h/x?X-Amz-Signature=abc&y=1 of-the-environment")
    assert said == "GET http://<redacted>@h/x?X-Amz-Signature=<redacted>&y=1 <AWS_SECRET_ACCESS_KEY>"


@pytest.mark.parametrize("url", ["memory://x", "/folder", "simplecache::s3://b/x", "nosuch://b"])
def test_a_place_that_others_cannot_reach_is_refused(url: str) -> None:
    with pytest.raises(ParamsError):
        Bucket.at(url)


def test_a_bucket_that_is_not_there_says_so(store: Store, proxy: Proxy) -> None:
    ref = item_of(store)
    (error,) = push(store, Bucket.at("s3://no-such-bucket/x"), [ref]).failed.values()
    assert "no such bucket" in str(error)


def test_half_an_item_file_is_no_item(store: Store, tmp_path: Path, url: str) -> None:
    ref = item_of(store)
    push(store, Bucket.at(url), [ref])
    Objects(url).write(f"tiles/{KEY}/items/a.json", (store.path(ref) / ITEM_FILE).read_bytes()[:40])
    with pytest.raises(RemoteError, match="half an item"):
        behind(tmp_path / "other", url).path(ref)
    assert not push(store, Bucket.at(url), [ref], again=True).failed
    assert behind(tmp_path / "other", url).path(ref).is_dir()


def test_names_from_the_bucket_do_not_leave_the_item(store: Store, tmp_path: Path, url: str) -> None:
    ref = item_of(store)
    push(store, Bucket.at(url), [ref])
    item = json.loads((store.path(ref) / ITEM_FILE).read_bytes())
    item["../../../evil"] = item.pop("meta")
    Objects(url).write(f"tiles/{KEY}/items/a.json", json.dumps(item).encode())
    with pytest.raises(RemoteError, match="no file of an item"):
        behind(tmp_path / "other", url).path(ref)


def test_built_engines_stay_where_they_were_built(store: Store, url: str) -> None:
    ref = Ref("engines", KEY, "a")
    with store.write(ref, RECIPE) as folder:
        (folder / "engine").write_bytes(b"code")
    assert push(store, Bucket.at(url), [ref]).items == 0
    assert not Bucket.at(url).has(ref) and "engines" in bucket_module.LOCAL_KINDS


def test_recipes_of_the_bucket_are_known_here(store: Store, tmp_path: Path, url: str) -> None:
    push(store, Bucket.at(url), [item_of(store)])
    (folder,) = behind(tmp_path / "other", url).recipes("tiles")
    assert folder.name == KEY and json.loads((folder / "recipe.json").read_bytes()) == RECIPE


def test_pull_counts_what_came_and_what_is_nowhere(store: Store, tmp_path: Path, url: str) -> None:
    refs = [put(store, name) for name in "abc"]
    push(store, Bucket.at(url), refs[:2])
    other = behind(tmp_path / "other", url)
    moved = pull(other, Bucket.at(url), refs)
    assert (moved.items, moved.nbytes, moved.absent) == (2, 2, (refs[2],))
    assert pull(other, Bucket.at(url), refs).already == 2

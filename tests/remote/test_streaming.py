"""Tiles and tokens read where they lie in the bucket: the same as from a copy here, whatever the network does."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from made.bucket import Fault, Proxy, reach
from made.cache import Cache, make_cache
from made.corpus import tiny

from pipeline.base.arrays import far as base_far
from pipeline.base.arrays.far import attach, attached_of
from pipeline.base.errors import MissingItem, RemoteError
from pipeline.base.living.runs import announced, hold
from pipeline.base.store import Ref, Store
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.loader import Batch, BatchShape, Loader, Share
from pipeline.corpus.order import Order
from pipeline.remote import far, objects
from pipeline.remote.bucket import Bucket
from pipeline.remote.kept_heads import KeptHeads
from pipeline.remote.moves import pull, push
from pipeline.remote.pages import Pages
from pipeline.student.ranks.number import order_of
from pipeline.student.train import train_student
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.item.reader import TokenReader

PLENTY = 1 << 30


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_cache(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def folder_url(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder as the bucket, which has all of the corpus."""
    url = f"file://{tmp_path_factory.mktemp('bucket')}"
    assert not push(cache.store, Bucket.at(url), list(cache.store.refs())).failed
    return url


@pytest.fixture(scope="module")
def pushed(cache: Cache, proxy_of_session: Proxy) -> str:
    """A bucket of the S3 server that has all of the corpus."""
    import s3fs

    with pytest.MonkeyPatch.context() as patch:
        reach(proxy_of_session, patch)
        s3fs.S3FileSystem().mkdir("streamed")
        assert not push(cache.store, Bucket.at("s3://streamed/of/us"), list(cache.store.refs())).failed
    return "s3://streamed/of/us"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files of a few KB are large, so that they come in pages; nobody waits between attempts."""
    monkeypatch.setattr(objects, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(far, "WHOLE", 1 << 10)
    monkeypatch.setattr(far, "PAGE", 1 << 9)
    yield
    base_far._attached.clear()


def streamed(folder: Path, url: str, nbytes: int = PLENTY) -> Store:
    """Another machine's store, that reads where things lie."""
    return Store(folder, remote=Bucket.at(url, nbytes))


def batches(corpus: Corpus, stop: int = 12) -> list[Batch]:
    order = Order(corpus.rows, block_rows=4, buffer_rows=12, views=corpus.views, seed=3)
    return list(Loader(corpus, order, BatchShape(8, 32, dense=(0,)), workers=2).batches(0, stop))


@pytest.mark.parametrize(("shards", "world"), [(2, 2), (2, 4), (4, 2)])
def test_parts_are_read_ahead_like_the_whole(
    shards: int, world: int, cache: Cache, folder_url: str, tmp_path: Path
) -> None:
    near = open_corpus(cache.tiles, cache.tokens, cache.store)
    for rank in (0, world - 1):
        # A machine for each process: what another has brought is not there.
        there = open_corpus(cache.tiles, cache.tokens, streamed(tmp_path / str(rank), folder_url))
        read = [
            list(
                Loader(
                    corpus,
                    order_of(corpus, tiny(), shards),
                    BatchShape(8, 32, dense=(0,)),
                    share=Share(rank, world),
                    workers=2,
                ).batches(0, 12)
            )
            for corpus in (near, there)
        ]
        assert same(*read)


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in pairs
        for name in ("image_NHWC", "cls_ND", "patch_NTD", "scale_NT", "slide_N")
    )


def data_requests(proxy: Proxy) -> int:
    return proxy.times_seen(r"GET .*/files/.*/c[/.]")


def test_a_student_of_the_bucket_is_that_of_a_copy(cache: Cache, folder_url: str, tmp_path: Path) -> None:
    there = streamed(tmp_path / "bare", folder_url)
    weights = []
    for store, out in ((cache.store, tmp_path / "here"), (there, tmp_path / "there")):
        params = tiny(epochs=1, augment={"stain_transfer": 0.5})
        manifest, _ = train_student(cache.tiles, cache.tokens, params, store, out=out, curve=out / "curve.csv")
        weights.append(((out / "model.safetensors").read_bytes(), (out / "curve.csv").read_bytes(), manifest))
    assert weights[0] == weights[1]
    assert {ref.kind for ref in there.own_refs()}.isdisjoint({"tiles", "tokens"}), "an item was brought here whole"


@pytest.mark.parametrize("nbytes", [PLENTY, 40_000, 1000])
def test_batches_are_the_same_however_little_is_kept(
    nbytes: int, cache: Cache, folder_url: str, tmp_path: Path
) -> None:
    local = open_corpus(cache.tiles, cache.tokens, cache.store)
    there = open_corpus(cache.tiles, cache.tokens, streamed(tmp_path, folder_url, nbytes))
    assert there.is_far and not local.is_far
    assert same(batches(local), batches(there))
    kept = sum(file.stat().st_size for file in (tmp_path / ".streamed" / "pages").iterdir())
    # A part larger than the bound is kept alone.
    assert kept <= max(nbytes, far.WHOLE + 4)


def test_one_request_opens_an_item_and_each_part_comes_once(
    cache: Cache, tmp_path: Path, pushed: str, proxy: Proxy
) -> None:
    proxy.seen.clear()
    corpus = open_corpus(cache.tiles, cache.tokens, streamed(tmp_path, pushed))
    assert proxy.times_seen("GET .*/heads/") == 2 * len(corpus.items)
    assert not proxy.times_seen("/files/") and not proxy.times_seen("GET .*/items/")
    proxy.seen.clear()
    local = open_corpus(cache.tiles, cache.tokens, cache.store)
    assert same(batches(local), batches(corpus))
    asked = [request for request in proxy.seen if "/files/" in request]
    assert asked and len(asked) == len(set(asked)), "a part came twice"
    proxy.seen.clear()
    base_far._attached.clear()
    again = open_corpus(cache.tiles, cache.tokens, streamed(tmp_path, pushed))
    assert same(batches(local), batches(again))
    assert not proxy.times_seen("/files/") and not proxy.times_seen("/heads/"), "what is kept here is asked for again"


def test_another_process_is_told_what_one_has_opened(cache: Cache, tmp_path: Path, pushed: str, proxy: Proxy) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, streamed(tmp_path, pushed))
    rows = corpus.tokens[0].patch([0, 5])
    data = pickle.dumps((corpus, attached_of(corpus.folders)))
    base_far._attached.clear()
    proxy.seen.clear()
    other, attached = pickle.loads(data)
    for folder, files in attached:
        attach(folder, files)
    assert other.is_far and np.array_equal(other.tokens[0].patch([0, 5]), rows) and not proxy.seen
    assert len(other.tokens[1].patch([1])) == 1 and all("/files/" in request for request in proxy.seen)


def test_reading_outlasts_what_passes(cache: Cache, tmp_path: Path, pushed: str, proxy: Proxy) -> None:
    kinds: tuple[Any, ...] = ("cut", "503", "slow", "truncated")
    proxy.faults += [Fault(kind, f"GET .*/{at}") for kind in kinds for at in ("heads/", r".*/jpeg/c/", r".*/patch/c/")]
    corpus = open_corpus(cache.tiles, cache.tokens, streamed(tmp_path, pushed))
    assert same(batches(open_corpus(cache.tiles, cache.tokens, cache.store), 4), batches(corpus, 4))
    assert not [fault for fault in proxy.faults if fault.times], "each fault was met"


def test_a_bucket_that_refuses_ends_the_reading_with_a_word(
    cache: Cache, tmp_path: Path, pushed: str, proxy: Proxy
) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, streamed(tmp_path, pushed))
    proxy.faults.append(Fault("denied", "GET .*/patch/c/", times=9999))
    with pytest.raises(RemoteError, match="refuses"):
        batches(corpus)


def test_other_bytes_of_a_whole_file_are_refused(
    cache: Cache, folder_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "WHOLE", 8 << 20)
    item = cache.tiles.items[0]
    ref = Ref.of(cache.tiles, item)
    bucket = Path(folder_url.removeprefix("file://"))
    (file,) = bucket.glob(f"tiles/{ref.recipe}/files/{ref.item}/*/jpeg/c/0")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    try:
        reader = TileReader(streamed(tmp_path, folder_url).open(ref, remedy="none"))
        with pytest.raises(RemoteError, match="not those that were sent"):
            reader.image(0)
    finally:
        file.write_bytes(whole)
    assert np.array_equal(reader.image(0), TileReader(cache.store.path(ref)).image(0))


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_without_a_whole_head_an_item_is_opened_by_its_files(
    damage: bytes | None, cache: Cache, folder_url: str, tmp_path: Path
) -> None:
    ref = Ref.of(cache.tokens, cache.tokens.items[0])
    head = Path(folder_url.removeprefix("file://")) / f"tokens/{ref.recipe}/heads/{ref.item}.zip"
    whole = head.read_bytes()
    head.unlink() if damage is None else head.write_bytes(damage)
    try:
        folder = streamed(tmp_path, folder_url).open(ref, remedy="none")
    finally:
        head.write_bytes(whole)
    assert np.array_equal(TokenReader(folder).cls([0, 1]), TokenReader(cache.store.path(ref)).cls([0, 1]))


def test_what_a_power_cut_left_here_is_brought_anew(cache: Cache, folder_url: str, tmp_path: Path) -> None:
    ref = Ref.of(cache.tokens, cache.tokens.items[0])
    folder = streamed(tmp_path, folder_url).open(ref, remedy="none")
    own = TokenReader(cache.store.path(ref)).patch([0, 5])
    assert np.array_equal(TokenReader(folder).patch([0, 5]), own)
    (folder / "cls" / "zarr.json").write_bytes(b"")
    for page in (tmp_path / ".streamed" / "pages").iterdir():
        page.write_bytes(b"\0" * page.stat().st_size)
    base_far._attached.clear()
    far_store = Store(tmp_path, remote=Bucket.at(folder_url, PLENTY + 1))
    assert np.array_equal(TokenReader(far_store.open(ref, remedy="none")).patch([0, 5]), own)


def test_zarr_itself_reads_the_bucket(cache: Cache, tmp_path: Path, pushed: str, proxy: Proxy) -> None:
    """The law of the fast path, where it reads from a bucket: no other answer than zarr's."""
    ref = Ref.of(cache.tokens, cache.tokens.items[1])
    digest = hashlib.sha256((cache.store.path(ref) / "item.json").read_bytes()).hexdigest()[:32]
    where = f"{pushed}/tokens/{ref.recipe}/files/{ref.item}/{digest}"
    reader = TokenReader(streamed(tmp_path, pushed).open(ref, remedy="none"))
    rows = np.array([7, 1, 2, 19])
    for name, read in (("patch", reader.patch(rows)), ("scale", reader.scale(rows))):
        array = zarr.open_array(f"{where}/{name}", mode="r", storage_options={"asynchronous": True})
        assert np.array_equal(np.asarray(array[:])[rows, 0], read)


def test_what_is_pulled_is_whole_and_other_kinds_are_fetched(cache: Cache, folder_url: str, tmp_path: Path) -> None:
    there, ref = streamed(tmp_path, folder_url), Ref.of(cache.tiles, cache.tiles.items[0])
    assert not there.is_here(ref) and there.open(ref, remedy="none") != there.own_path(ref)
    assert there.recipe(ref) == cache.store.recipe(ref) and there.digest(ref) == cache.store.digest(ref)
    assert pull(there, Bucket.at(folder_url, PLENTY), [ref]).items == 1
    assert there.open(ref, remedy="none") == there.own_path(ref)
    there.verify(ref)


def test_what_is_gone_is_said(cache: Cache, folder_url: str, tmp_path: Path) -> None:
    there, ref = streamed(tmp_path, folder_url), Ref("tiles", cache.tiles.recipe_key, "gone")
    assert isinstance(there.remote, Bucket)
    with pytest.raises(MissingItem):
        there.remote.bring(ref, there)


def test_heads_that_nobody_uses_make_room(cache: Cache, folder_url: str, tmp_path: Path) -> None:
    store = streamed(tmp_path, folder_url)
    refs = [Ref.of(made, item) for made in (cache.tiles, cache.tokens) for item in made.items]
    folders = {ref: store.open(ref, remedy="none") for ref in refs}
    kept = KeptHeads(tmp_path, 1)

    def left() -> set[Ref]:
        kept.make_room()
        return {ref for ref, folder in folders.items() if (folder / "item.json").is_file()}

    assert left() == set(refs), "this process reads them"
    base_far._attached.clear()
    assert left() == set(refs), "they were just opened"
    for age, folder in enumerate(folders.values(), start=1):
        os.utime(folder / "item.json", ns=(0, 10**9 * age))
    with announced(tmp_path, "student", tmp_path):
        hold(tmp_path, f"tiles/{cache.tiles.recipe_key}")
        assert left() == {ref for ref in refs if ref.kind == "tiles"}, "a run reads those"
    first, *others = (ref for ref in refs if ref.kind == "tiles")
    nbytes = sum(path.stat().st_size for ref in others for path in folders[ref].rglob("*") if path.is_file())
    kept.limit = nbytes * 16 // 15 + 16
    assert left() == set(others), "the one opened longest ago"
    assert store.open(first, remedy="none") == folders[first]
    assert first in left() and others[0] not in left(), "what came again is in the place of the next one"
    assert not list((tmp_path / ".streamed" / "items").glob("*/*/.*"))


def test_the_least_recently_used_part_is_dropped(tmp_path: Path) -> None:
    pages = Pages(tmp_path / "pages", 16_000)
    for i in range(10):
        pages.put(f"a-{i}", bytes([i]) * 1000)
        os.utime(tmp_path / "pages" / f"a-{i}", ns=(0, i))
    assert pages.at("a-0") is not None
    os.utime(tmp_path / "pages" / "a-0")
    for i in range(6):
        pages.put(f"b-{i}", b"x" * 1000)
    assert pages.at("a-0") is not None and pages.at("a-1") is None and pages.at("b-5") is not None


def test_many_threads_stay_within_the_bound(tmp_path: Path) -> None:
    pages = Pages(tmp_path / "pages", 64_000)

    def one(i: int) -> bool:
        return bytes(pages.put(f"p-{i}", bytes([i % 251]) * 1000)) == bytes([i % 251]) * 1000

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(500)))
    names = [path for path in (tmp_path / "pages").iterdir() if not path.name.startswith(".")]
    assert sum(path.stat().st_size for path in names) <= 64_000 and len(names) > 40

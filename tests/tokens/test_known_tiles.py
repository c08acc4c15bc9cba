"""A folder of images in which one thing changes: what the teacher is asked, and that the bytes are its own answers."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made.slides import tissue_picture
from made.tiles import SIDE_PX, tiles_json
from torch.nn.modules.module import register_module_forward_hook

from pipeline.base.items import TokensManifest
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.sets.listing import Picture
from pipeline.sets.tiles import write_set
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.teachers.teacher import Trunk
from pipeline.tiles.pixels import encode_jpeg
from pipeline.tiles.stage import make_tiles
from pipeline.tokens.run import answered
from pipeline.tokens.stage import make_tokens

TRAIN, TEST = 11, 5


def put(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(tissue_picture(SIDE_PX, SIDE_PX, seed), 90))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two folders of classes, 11 images to train on and 5 held out, and the table that names them."""
    for i in range(TRAIN):
        put(tmp_path / "train" / ("tumour" if i % 2 else "stroma") / f"{i}.jpg", i)
    for i in range(TEST):
        put(tmp_path / "test" / ("tumour" if i % 2 else "stroma") / f"{i}.jpg", 100 + i)
    table = tmp_path / "slides.csv"
    table.write_text("path,split\ntrain,train\ntest,test\n")
    return table


def run(table: Path, store: Store, params: TokensParams) -> TokensManifest:
    slides_params, cluster = SlidesParams(table=str(table)), ClusterParams(workers=1)
    slides = catalogue(slides_params, store, cluster)
    tiles = make_tiles(
        slides, sources(table, store, slides_params), TilesParams(tile_px=SIDE_PX, target_mpp=0.5), store, cluster
    )
    return make_tokens(tiles, params, store, 512)


@contextlib.contextmanager
def batches_asked() -> Iterator[list[int]]:
    """Images of each forward pass of the teacher."""
    asked: list[int] = []

    def count(module: object, images: tuple[object, ...], _: object) -> None:
        if isinstance(module, Trunk):
            asked.append(len(images[0]))  # type: ignore[arg-type]

    handle = register_module_forward_hook(count)
    try:
        yield asked
    finally:
        handle.remove()


def stored(store: Store, manifest: TokensManifest) -> dict[str, bytes]:
    """Every file of every item."""
    found = {}
    for item in manifest.items:
        folder = store.path(Ref.of(manifest, item))
        files = {f"{item.id}/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}
        found |= {name: path.read_bytes() for name, path in files.items()}
    return found


def anew(table: Path, store: Store, manifest: TokensManifest, params: TokensParams, root: Path) -> dict[str, bytes]:
    """What a store answers that has nothing but the frozen calibration."""
    other = Store(root)
    for name in manifest.uses:
        shutil.copytree(store.path(Ref.parse(name)), other.path(Ref.parse(name)))
    return stored(other, run(table, other, params))


def add(folder: Path) -> None:
    put(folder / "tumour" / "a new one.jpg", 77)


def move(folder: Path) -> None:
    shutil.move(folder / "stroma" / "4.jpg", folder / "tumour" / "4.jpg")


def rename(folder: Path) -> None:
    (folder / "stroma" / "4.jpg").rename(folder / "stroma" / "zz.jpg")


def replace(folder: Path) -> None:
    put(folder / "stroma" / "4.jpg", 78)


def take_away(folder: Path) -> None:
    (folder / "stroma" / "4.jpg").unlink()


def rename_class(folder: Path) -> None:
    (folder / "stroma").rename(folder / "zstroma")


CHANGES: list[tuple[Callable[[Path], None], int]] = [
    (add, 1),
    (move, 0),
    (rename, 0),
    (replace, 1),
    (take_away, 0),
    (rename_class, 0),
]


@pytest.mark.parametrize(("change", "asked"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
@pytest.mark.parametrize("views", [{}, {"views": 2, "augment": {"views": 1}}], ids=["plain", "random views"])
def test_the_teacher_is_asked_about_new_images_alone(
    change: Callable[[Path], None],
    asked: int,
    views: dict[str, object],
    table: Path,
    store: Store,
    tiny_params: TokensParams,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answered, "SHOWN_NBYTES", 0)
    params = TokensParams.model_validate(tiny_params.model_dump() | views)
    before = run(table, store, params)
    change(tmp_path / "train")
    capsys.readouterr()
    with batches_asked() as batches:
        after = run(table, store, params)
    assert len(batches) == asked * params.n_views
    n = after.item("train").n
    assert f"{asked} tiles of 1 slides to compute" in (told := capsys.readouterr().err)
    assert f"{n - asked} of them as images of other folders" in told and "bytes compared" in told
    assert after.item("train").key != before.item("train").key and after.item("test") == before.item("test")
    assert stored(store, after) == anew(table, store, after, params, tmp_path / "other")


def test_an_image_that_goes_to_another_split_is_found_where_both_have_the_tile_as_it_is(
    table: Path, store: Store, tiny_params: TokensParams, tmp_path: Path
) -> None:
    run(table, store, tiny_params)
    shutil.move(tmp_path / "train" / "tumour" / "3.jpg", tmp_path / "test" / "tumour" / "from train.jpg")
    with batches_asked() as batches:
        manifest = run(table, store, tiny_params)
    assert not batches and manifest.item("test").n == TEST + 1
    assert stored(store, manifest) == anew(table, store, manifest, tiny_params, tmp_path / "other")


def test_an_image_more_in_a_labelled_set_is_one_image_to_ask(
    store: Store, tiny_params: TokensParams, tmp_path: Path
) -> None:
    """A split of a data set is an item as well; the slides' own images, held out or trained on, are known to it."""
    tiles = tiles_json(store, {"a": 9})
    for i in range(7):
        put(tmp_path / f"{i}.jpg", i)
    pictures = [Picture(f"{i}", tmp_path / f"{i}.jpg", "x") for i in range(7)]
    make_tokens(tiles, tiny_params, store, 512)
    asked = []
    for some in (pictures[:6], pictures, pictures[3:]):
        with batches_asked() as batches:
            item = write_set("set", "train", some, tiles, store)
            manifest = make_tokens(tiles.model_copy(update={"items": (item,)}), tiny_params, store, 512)
        asked.append(len(batches))
        assert manifest.items[0].n == len(some)
    assert asked == [1, 1, 0]


def test_nothing_is_copied_from_a_damaged_item(
    table: Path, store: Store, tiny_params: TokensParams, tmp_path: Path
) -> None:
    before = run(table, store, tiny_params)
    folder = store.path(Ref.of(before, before.item("train")))
    chunk = max(
        (path for path in (folder / "patch").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    data = bytearray(chunk.read_bytes())
    data[0] ^= 1
    chunk.write_bytes(data)
    add(tmp_path / "train")
    with batches_asked() as batches:
        after = run(table, store, tiny_params)
    assert len(batches) == 2
    assert stored(store, after) == anew(table, store, after, tiny_params, tmp_path / "other")


def test_an_item_whose_tiles_have_no_digests_is_copied_from_as_well(
    table: Path, store: Store, tiny_params: TokensParams, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    run(table, store, tiny_params)
    for file in store.root.glob("tiles/*/*/tiles.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["digest"]), file)
    move(tmp_path / "train")
    with batches_asked() as batches:
        run(table, store, tiny_params)
    assert not batches


def test_an_image_that_is_there_twice_has_the_same_answer_twice(
    table: Path, store: Store, tiny_params: TokensParams, tmp_path: Path
) -> None:
    run(table, store, tiny_params)
    shutil.copy(tmp_path / "train" / "stroma" / "4.jpg", tmp_path / "train" / "tumour" / "again.jpg")
    with batches_asked() as batches:
        manifest = run(table, store, tiny_params)
    assert not batches and manifest.item("train").n == TRAIN + 1
    assert stored(store, manifest) == anew(table, store, manifest, tiny_params, tmp_path / "other")


def test_chunks_of_copied_and_of_answered_rows_mix(
    table: Path, store: Store, tiny_params: TokensParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows a chunk: chunks of copies alone, of new rows alone and of both, in batches that cut through them."""
    monkeypatch.setattr("pipeline.tokens.item.writer.CHUNK_ROWS_MAX", 3)
    params = tiny_params.model_copy(update={"batch_size": 4})
    run(table, store, params)
    for i in range(7):
        put(tmp_path / "train" / "tumour" / f"1-{i}.jpg", 200 + i)
    put(tmp_path / "train" / "stroma" / "4-a.jpg", 300)
    with batches_asked() as batches:
        manifest = run(table, store, params)
    assert batches == [4, 4]
    assert stored(store, manifest) == anew(table, store, manifest, params, tmp_path / "other")


def test_a_run_that_is_interrupted_goes_on_at_the_chunk(
    table: Path, store: Store, tiny_params: TokensParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tokens.item.writer.CHUNK_ROWS_MAX", 3)
    params = tiny_params.model_copy(update={"batch_size": 4})
    run(table, store, params)
    for i in range(28):
        put(tmp_path / "train" / "tumour" / f"1-{i}.jpg", 200 + i)
    passes = []

    def interrupt(module: object, *_: object) -> None:
        if isinstance(module, Trunk):
            passes.append(module)
            if len(passes) == 6:
                raise KeyboardInterrupt

    handle = register_module_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(table, store, params)
    handle.remove()
    with batches_asked() as batches:
        manifest = run(table, store, params)
    assert 0 < len(batches) < 7
    assert stored(store, manifest) == anew(table, store, manifest, params, tmp_path / "other")


def test_images_that_only_a_base_has_are_copied_from_there(
    table: Path, tiny_params: TokensParams, tmp_path: Path
) -> None:
    """A colleague's store is read; one's own gets the folder in which an image has moved."""
    base, own = Store(tmp_path / "base"), Store(tmp_path / "own", [tmp_path / "base"])
    before = run(table, base, tiny_params)
    move(tmp_path / "train")
    with batches_asked() as batches:
        after = run(table, own, tiny_params)
    assert not batches and own.holder(Ref.of(after, after.item("train"))) == own.root
    assert own.holder(Ref.of(after, after.item("test"))) == base.root and before.item("test") == after.item("test")

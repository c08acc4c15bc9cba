"""Slides' features are kept alike by threads and by worker processes, which start where there is enough for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made.feature_jobs import MPP, SLIDE_PX, trident
from made.items import TEACHER, tiles_item
from made.many import repeated

from pipeline.base.errors import CorruptItem, SlideRefused, SlideUnavailable
from pipeline.base.items import TilesItem, TilesManifest
from pipeline.base.partials import file_sha256
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Recipe
from pipeline.imports.formats.opening import open_features
from pipeline.imports.keeping import Given, Origin, Taking, keep
from pipeline.imports.room import Room
from pipeline.imports.sharing_out import ENOUGH_S, GB_S, keep_all, processes_for
from pipeline.params.site import ClusterParams
from pipeline.slides.looked import mark
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.writer import TileWriter

SIDE, WIDTH, SLIDES, BAD = 64, 24, 9, 4
CORNERS = np.array([(x, y) for y in range(0, 256, SIDE) for x in range(0, 256, SIDE)])
TILES: Recipe = {"tile_px": SIDE}
TOKENS: Recipe = {"teacher": TEACHER}


class Job:
    """Slides that are tiled, the features of one of which are no numbers."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, Store(root / "store")
        ref = Ref("tiles", recipe_key(TILES), "made")
        meta = SlideMeta(
            kind="file", tile_px=SIDE, mpp=(MPP, MPP), mpp_from="slide", size_l0_px=(SIDE, SIDE), read_level=0,
            slide_l0_px=(SLIDE_PX, SLIDE_PX), read_downsample=1.0, dct_scale=1, reader="test", as_scanned=0,
            mask_mpp=(8.0, 8.0), tissue_threshold=0.0,
        )  # fmt: skip
        with self.store.write(ref, TILES) as folder:
            writer = TileWriter(folder)
            for row, (x, y) in enumerate(CORNERS.tolist()):
                writer.append(b"not looked at", x_l0=x, y_l0=y, source=str(row))
            writer.close(meta)
        slides = repeated(self.store, ref, tiles_item("made", len(CORNERS)), SLIDES)
        self.todo = [self.given(slide, number) for number, slide in enumerate(slides)]
        tiles = TilesManifest(recipe_key=ref.recipe, recipe=TILES, items=tuple(given.item for given in self.todo))
        origin = Origin.of(open_features(self.todo[0].path, self.todo[0].item.id))
        self.taking = Taking(tiles, TOKENS, recipe_key(TOKENS), "made", WIDTH, (7, 7), origin)

    def given(self, slide: TilesItem, number: int) -> Given:
        values = np.random.default_rng(number).normal(size=(len(CORNERS), WIDTH)).astype(np.float32)
        values[3, 5] = np.nan if number == BAD else 1
        path = trident(self.root / "job", slide.id, values, CORNERS, SIDE, encoder="made")
        return Given(slide.model_copy(update={"features": file_sha256(path)[:32]}), path)

    def kept(self, processes: int, store: Store) -> tuple[dict[str, str], dict[str, SlideRefused], list[str]]:
        """Digests of what was kept, who was refused, and what the bar was told."""
        told = list[str]()
        refused = keep_all(self.todo, self.taking, store, processes, lambda n=1, note="": told.append(f"{n} {note}"))
        refs = {given.item.id: self.taking.ref(given.item) for given in self.todo}
        return {slide: store.digest(ref) for slide, ref in refs.items() if store.is_here(ref)}, refused, told


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_processes_keep_what_threads_keep_and_refuse_what_they_refuse(job: Job, tmp_path: Path) -> None:
    by_threads, by_processes = (
        job.kept(processes, Store(tmp_path / str(processes), [job.store.root])) for processes in (1, 2)
    )
    (bad,) = by_threads[1].items()
    assert bad[0] == job.todo[BAD].item.id and "a value of row 3 is nan" in bad[1].what
    assert len(by_threads[0]) == SLIDES - 1 and by_processes[0] == by_threads[0]
    assert {slide: str(error) for slide, error in by_processes[1].items()} == {bad[0]: str(bad[1])}
    assert sorted(by_processes[2]) == by_threads[2] == [f"{len(CORNERS)} {given.item.id}" for given in job.todo]


def test_what_is_no_slides_own_ends_it(job: Job, tmp_path: Path) -> None:
    # Of a store above, in which the table of one slide's tiles is damaged.
    item, store = job.todo[2].item, Store(tmp_path / "store", [job.store.root])
    broken = store.own_path(Ref.of(job.taking.tiles, item))
    broken.mkdir(parents=True)
    for file in store.path(Ref.of(job.taking.tiles, item)).rglob("*"):
        here = broken / file.relative_to(job.store.path(Ref.of(job.taking.tiles, item)))
        here.mkdir() if file.is_dir() else here.write_bytes(b"" if file.suffix == ".parquet" else file.read_bytes())
    with pytest.raises(CorruptItem, match="cannot be read"):
        job.kept(1, store)


def test_a_file_that_is_as_it_was_is_summed_no_second_time(job: Job, tmp_path: Path) -> None:
    store, path = Store(tmp_path / "store", [job.store.root]), tmp_path / "one.h5"
    path.write_bytes(job.todo[0].path.read_bytes())
    # By a digest that it never had it shows whether anybody asks for it.
    item = job.todo[0].item.model_copy(update={"features": "0" * 32})
    given = Given(item, path, mark(str(path)))
    keep(given, job.taking, store, Room())
    assert store.is_here(job.taking.ref(item))
    os.utime(path, (1, 1))
    for doubtful in (given, Given(item, path)):
        with pytest.raises(SlideUnavailable, match="changed since the slides stage"):
            keep(doubtful, job.taking, store, Room())


def test_processes_are_started_for_those_that_have_enough_to_do(job: Job, tmp_path: Path) -> None:
    assert processes_for(job.todo, ClusterParams(workers=8)) == 1
    large = tmp_path / "large.h5"
    with open(large, "wb") as file:
        # Of no bytes on disk.
        file.truncate(int(2.5 * ENOUGH_S / GB_S * 1e9))
    todo = [Given(job.todo[0].item, large)]
    assert [processes_for(todo, ClusterParams(workers=workers)) for workers in (1, 2, 8)] == [1, 2, 2]
    assert processes_for([Given(job.todo[0].item, tmp_path / "gone.h5")], ClusterParams()) == 1

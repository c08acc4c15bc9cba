"""What models answer to tiles is kept: their own answers, found by content, the same alone and together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from made.exported import SIDE_PX, export

from pipeline.base.kept import Kept
from pipeline.base.store import Ref, Store
from pipeline.evaluate.answers.embeddings import KIND, Net, embeddings
from pipeline.evaluate.selection import Sample
from pipeline.student.exported import Encoder, load_student, untrained_twin
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg

WIDTH, BATCH = 12, 8


class Made(NamedTuple):
    folder: Path
    store: Store
    nets: list[Net]
    samples: list[Sample]


def nothing(n: int = 1, note: str = "") -> None:
    """Nobody watches."""


def write(store: Store, key: str, seed: int, n: int, kind: str = "file", without: int | None = None) -> Sample:
    random = np.random.default_rng(seed)
    ref = Ref("tiles", "t", key)
    with store.write(ref, {}) as folder:
        writer = TileWriter(folder)
        for i in range(n):
            image = random.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
            if i != without:
                writer.append(encode_jpeg(image, 90))
        writer.close(Meta.model_validate({"kind": kind, "tile_px": SIDE_PX}))
        n = len(writer)
    return Sample(key, store.path(ref), store.path(ref), np.arange(n), (None,) * n)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A student and its twin, and two slides of 11 and 3 tiles, of which a batch is no divisor."""
    folder, store = tmp_path / "student", Store(tmp_path / "store")
    export(folder, WIDTH, seed=0)
    nets = [Net.of(folder, load_student(folder)), Net.of(folder, untrained_twin(folder, 1))]
    return Made(folder, store, nets, [write(store, "a", 1, 11), write(store, "b", 2, 3)])


def asked(made: Made, nets: list[Net], samples: list[Sample], store: Store | None = None) -> list[np.ndarray]:
    return embeddings(nets, samples, BATCH, Kept(store or made.store, "evaluate"), nothing)


def kept(made: Made) -> dict[str, int]:
    """When each item was written, ns."""
    return {str(ref): made.store.path(ref).stat().st_mtime_ns for ref in made.store.refs() if ref.kind == KIND}


def test_they_are_the_models_own_answers(made: Made) -> None:
    found = asked(made, made.nets, made.samples)
    images = np.stack([TileReader(s.tiles).image(row, SIDE_PX) for s in made.samples for row in s.rows.tolist()])
    for net, answer_ND in zip(made.nets, found, strict=True):
        assert answer_ND.dtype == np.float32
        np.testing.assert_allclose(answer_ND, Encoder(net.model)(images), rtol=0, atol=1e-5)


def test_asked_again_no_tile_is_looked_at(made: Made) -> None:
    first, written = asked(made, made.nets, made.samples), kept(made)
    for sample in made.samples:
        shutil.rmtree(sample.tiles / "jpeg")
    again = asked(made, made.nets, made.samples)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert kept(made) == written and len(written) == 4


def test_an_answer_does_not_depend_on_what_else_is_asked(made: Made, tmp_path: Path) -> None:
    """Bit for bit: slide b alone, and in a batch with the last tiles of slide a."""
    together = asked(made, made.nets, made.samples)
    other = Store(tmp_path / "other")
    shutil.copytree(made.store.root / "tiles", other.root / "tiles")
    alone = asked(made, made.nets, made.samples[1:], other)
    for one, both in zip(alone, together, strict=True):
        assert np.array_equal(one, both[11:])


def test_a_changed_student_is_another_and_its_twin_is_the_same(made: Made) -> None:
    asked(made, made.nets, made.samples)
    before = kept(made)
    changed = load_student(made.folder)
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-3
    nets = [Net.of(made.folder, changed), Net.of(made.folder, untrained_twin(made.folder, 1))]
    found = asked(made, nets, made.samples)
    assert not np.array_equal(found[0], asked(made, made.nets, made.samples)[0])
    assert before.items() <= kept(made).items() and len(kept(made)) == len(before) + 2
    np.testing.assert_allclose(found[0][:8], Encoder(changed)(_images(made.samples[0], 8)), rtol=0, atol=1e-5)


def test_other_rows_and_other_tiles_of_that_key_are_other_items(made: Made) -> None:
    whole = asked(made, made.nets, made.samples[:1])
    some = asked(made, made.nets, [made.samples[0].take(np.array([7, 2]))])
    np.testing.assert_allclose(some[0], whole[0][[7, 2]], rtol=0, atol=1e-6)
    made.store.delete(Ref("tiles", "t", "a"))
    again = asked(made, made.nets, [write(made.store, "a", 5, 11)])
    assert np.abs(again[0] - whole[0]).max() > 1e-3
    assert len(kept(made)) == 6


def test_a_slide_more_computes_one_slide(made: Made) -> None:
    asked(made, made.nets, made.samples[:1])
    before = kept(made)
    asked(made, made.nets, made.samples)
    assert before.items() <= kept(made).items() and len(kept(made)) == len(before) + 2


def test_all_that_was_asked_for_is_named(made: Made) -> None:
    asked_for = Kept(made.store, "evaluate")
    embeddings(made.nets, made.samples, BATCH, asked_for, nothing)
    assert set(asked_for.uses) == set(kept(made))


def _images(sample: Sample, n: int) -> np.ndarray:
    return np.stack([TileReader(sample.tiles).image(row, SIDE_PX) for row in range(n)])


def test_of_a_folder_in_which_an_image_is_another_that_image_alone_is_looked_at(made: Made, tmp_path: Path) -> None:
    """The images before and after it are another item's, at other rows; bit for bit as computed anew."""
    before = write(made.store, "before", 7, 13, "images", without=4)
    after = write(made.store, "after", 7, 13, "folder", without=9)
    asked(made, made.nets, [before])
    looked_at: list[int] = []
    hooks = [net.model.register_forward_hook(lambda _, x, __: looked_at.append(len(x[0]))) for net in made.nets]
    found = asked(made, made.nets, [made.samples[1], after])
    assert looked_at == [BATCH, BATCH], "one batch of each model: three tiles of a slide and the fourth image"
    for hook in hooks:
        hook.remove()
    other = Store(tmp_path / "other")
    shutil.copytree(made.store.root / "tiles", other.root / "tiles")
    anew = asked(made, made.nets, [made.samples[1], after], other)
    assert all(np.array_equal(one, two) for one, two in zip(found, anew, strict=True))


def test_an_answer_is_not_taken_from_a_damaged_item(made: Made) -> None:
    before, after = (write(made.store, key, 7, 9, "folder", without=i) for key, i in (("before", 4), ("after", 5)))
    (whole,) = asked(made, made.nets[:1], [after])
    for ref in [ref for ref in made.store.refs() if ref.kind == KIND]:
        made.store.delete(ref)
    asked(made, made.nets[:1], [before])
    files = [path for path in made.store.root.glob(f"{KIND}/*/*/embedding/**/*") if path.is_file()]
    file = next(path for path in files if path.name != "zarr.json")
    file.write_bytes(bytes(len(file.read_bytes())))
    (found,) = asked(made, made.nets[:1], [after])
    assert np.array_equal(found, whole)

"""Patch tokens as colours: the same projection for both, the same picture every time."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from made.run import Made
from PIL import Image
from sklearn.decomposition import PCA

from pipeline.evaluate import selection
from pipeline.evaluate.pca_maps import MOST_TILES, draw_maps, pictures
from pipeline.measures.pca import Projection
from pipeline.student.exported import load_dense, load_student
from pipeline.tokens.item.reader import TokenReader


def tokens(n: int = 400) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal(0, [5, 3, 2, 0.1, 0.1], (n, 5)) @ np.linalg.qr(random.normal(size=(5, 5)))[0] + 7


@pytest.fixture(scope="module")
def made(fresh: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run that nothing was evaluated in."""
    return fresh.copied(tmp_path_factory.mktemp("made"))


def test_the_components_are_those_of_scikit_learn():
    project, theirs = Projection.of(tokens()), PCA(3).fit(tokens())
    assert np.allclose(np.abs(project.axes_D3), np.abs(theirs.components_.T), atol=1e-9)
    assert np.allclose(project.explained, theirs.explained_variance_ratio_)


def test_a_component_may_come_with_either_sign_and_the_picture_stays():
    at = np.abs(Projection.of(tokens()).axes_D3).argmax(axis=0)
    assert (Projection.of(tokens()).axes_D3[at, np.arange(3)] > 0).all()


def test_colours_span_what_the_teacher_spans_and_stop_there():
    project = Projection.of(tokens())
    colour_N3 = project(tokens())
    assert colour_N3.min() == 0 and colour_N3.max() == 255
    assert (project(100 * tokens()) == project(100 * tokens())).all() and project(100 * tokens()).dtype == np.uint8


def test_pictures_of_a_run_are_the_same_every_time_and_lie_on_the_token_grid(made: Made):
    chosen = selection.spread(selection.splits(made.tiles, made.tokens, made.store)["test"], MOST_TILES)
    dense = load_dense(made.folder, load_student(made.folder))
    found, drawn = draw_maps(dense, chosen, 4)
    assert draw_maps(dense, chosen, 4) == (found, drawn)
    assert len(found.tiles) == MOST_TILES and found.grid == (4, 4)
    assert {tile.slide for tile in found.tiles} == {"c", "d"}
    assert list(drawn) == pictures(MOST_TILES)
    picture = np.asarray(Image.open(io.BytesIO(drawn["0-teacher.png"])))
    side = picture.shape[0] // 4
    corner_44C = picture[::side, ::side]
    assert (corner_44C.repeat(side, axis=0).repeat(side, axis=1) == picture).all()
    token_nTD = np.concatenate([TokenReader(s.tokens).dequantised(s.rows) for s in chosen])
    colours = Projection.of(token_nTD.reshape(-1, token_nTD.shape[-1]))(token_nTD[0])
    assert (corner_44C.reshape(16, 3) == colours).all()


@pytest.mark.parametrize("time", ["first", "again"])
def test_an_evaluation_leaves_them_beside_its_plots(made: Made, tmp_path: Path, time: str):
    folder = tmp_path / "plots" / "maps"
    folder.mkdir(parents=True)
    (folder / "7-tile.jpg").write_bytes(b"of an earlier run")
    found = made.evaluate(tmp_path / "plots").summary.maps
    assert len(found.tiles) == MOST_TILES and all(-1 <= tile.cosine <= 1 for tile in found.tiles)
    assert {path.name for path in folder.iterdir()} == set(pictures(MOST_TILES))


def test_without_an_adapter_there_is_an_empty_folder(made: Made, tmp_path: Path):
    student, folder = tmp_path / "student", tmp_path / "plots" / "maps"
    shutil.copytree(made.folder, student, ignore=shutil.ignore_patterns("adapter.*"))
    folder.mkdir(parents=True)
    (folder / "0-tile.jpg").write_bytes(b"of an earlier run")
    assert made._replace(folder=student).evaluate(tmp_path / "plots").summary.maps is None
    assert list(folder.iterdir()) == []

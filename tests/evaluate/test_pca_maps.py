"""Patch tokens as colours: the same projection for both, the same picture every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made.run import Made
from PIL import Image
from sklearn.decomposition import PCA

from pipeline.evaluate import selection
from pipeline.evaluate.pca_maps import MOST_TILES, Projection, write_maps
from pipeline.student.exported import load_dense, load_student
from pipeline.tokens.item.reader import TokenReader


def tokens(n: int = 400) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal(0, [5, 3, 2, 0.1, 0.1], (n, 5)) @ np.linalg.qr(random.normal(size=(5, 5)))[0] + 7


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


def test_pictures_of_a_run_are_the_same_every_time_and_lie_on_the_token_grid(made: Made, tmp_path: Path):
    held = selection.splits(made.tiles, made.tokens, made.store)["test"]
    backbone = load_student(made.folder)
    dense = load_dense(made.folder, backbone)
    found = [write_maps(dense, held, 4, tmp_path / name) for name in "ab"]
    assert found[0] == found[1] and found[0] is not None
    assert len(found[0]["tiles"]) == MOST_TILES and found[0]["grid"] == [4, 4]
    assert {tile["slide"] for tile in found[0]["tiles"]} == {"c", "d"}
    pictures = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(pictures) == 3 * MOST_TILES
    for name in pictures:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    picture = np.asarray(Image.open(tmp_path / "a" / "0-teacher.png"))
    side = picture.shape[0] // 4
    corner_44C = picture[::side, ::side]
    assert (corner_44C.repeat(side, axis=0).repeat(side, axis=1) == picture).all()
    chosen = selection.spread(held, MOST_TILES)
    token_nTD = np.concatenate([TokenReader(s.tokens).dequantised(s.rows) for s in chosen])
    colours = Projection.of(token_nTD.reshape(-1, token_nTD.shape[-1]))(token_nTD[0])
    assert (corner_44C.reshape(16, 3) == colours).all()


def test_an_evaluation_leaves_them_beside_its_plots(made: Made, tmp_path: Path):
    found = made.evaluate(tmp_path / "plots").summary["maps"]
    assert len(found["tiles"]) == MOST_TILES and all(-1 <= tile["cosine"] <= 1 for tile in found["tiles"])
    assert len(list((tmp_path / "plots" / "maps").iterdir())) == 3 * MOST_TILES


def test_without_an_adapter_there_is_an_empty_folder(made: Made, tmp_path: Path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "0-tile.jpg").write_bytes(b"of an earlier run")
    assert write_maps(None, [], 4, tmp_path / "maps") is None
    assert list((tmp_path / "maps").iterdir()) == []

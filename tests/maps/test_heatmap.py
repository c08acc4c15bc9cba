"""`histill heatmap`: files that lie over the slide, pixel for pixel, in colours that mean what the numbers say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openslide
import pytest
from made.command import histill
from made.embedded import SIZE, embeddings, write_embedded
from made.shipped import PARAMS, ship
from made.slides import make_scn, make_slide, tissue_picture
from PIL import Image
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from pipeline.base.errors import MapError
from pipeline.maps.features import read_features
from pipeline.maps.heads import read_head

N, WIDTH = 48, 6


def objects(path: Path) -> list[dict]:
    return json.loads(path.read_text())["features"]


def drawn(folder: Path, slide: Path, parquet: Path, *words: str) -> list[dict]:
    done = histill(folder, "heatmap", str(slide), *words, "--features", str(parquet), "--out", "maps")
    assert done.returncode == 0, done.stderr
    return objects(next((folder / "maps").glob("*.geojson")))


def test_openslide_lays_the_map_over_the_slide(slide: Path, parquet: Path, tmp_path: Path) -> None:
    found = drawn(tmp_path, slide, parquet)
    with openslide.OpenSlide(tmp_path / "maps" / "one.pca.tiff") as over, openslide.OpenSlide(slide) as under:
        step = round(float(over.properties["openslide.mpp-x"]) / float(under.properties["openslide.mpp-x"]))
        assert float(over.properties["openslide.mpp-y"]) == pytest.approx(0.5 * step, rel=1e-6)
        assert over.dimensions == tuple(-(-side // step) for side in SIZE)
        colours = np.asarray(over.read_region((0, 0), 0, over.dimensions))[..., :3]
    for tile in found:
        (x, y), *_, (x1, y1), _, _ = (tile["geometry"]["coordinates"][0][i] for i in (0, 1, 2, 3, 4))
        assert (x1 - x, y1 - y) == (64, 64) and tile["properties"]["objectType"] == "tile"
        inside_HWC = colours[y // step : (y + 64) // step, x // step : (x + 64) // step]
        assert (inside_HWC == tile["properties"]["color"]).all()
    assert len(found) == N and (colours[:, 512 // step :] == 255).all()


def test_a_large_map_has_levels(tmp_path: Path) -> None:
    size = 12_000, 256
    blank = np.full((size[1], size[0], 3), 200, np.uint8)
    slide = make_slide(tmp_path / "wide.tif", blank, tile_px=256)
    drawn(tmp_path, slide, write_embedded(tmp_path, "parquet", slide, size))
    with openslide.OpenSlide(tmp_path / "maps" / "wide.pca.tiff") as over:
        assert over.level_dimensions == ((3000, 64), (1500, 32), (750, 16), (375, 8))
        assert over.level_downsamples[1:] == pytest.approx((2, 4, 8), rel=0.02)
        assert float(over.properties["openslide.mpp-x"]) == pytest.approx(0.5 * 4)


def test_it_counts_from_the_corner_of_what_was_scanned(tmp_path: Path) -> None:
    slide = make_scn(tmp_path / "leica.scn", tissue_picture(256, 256), (900, 800), at=(200, 120))
    found = drawn(tmp_path, slide, write_embedded(tmp_path, "parquet", slide, (900, 800)))
    corners = [tuple(tile["geometry"]["coordinates"][0][0]) for tile in found]
    assert min(corners) == (-200, -120) and (64 * 4 - 200, 64 * 2 - 120) in corners
    with openslide.OpenSlide(tmp_path / "maps" / "leica.pca.tiff") as over:
        assert over.dimensions == (64, 64)
        pixel = over.read_region((0, 0), 0, (64, 64)).getpixel(((64 * 4 - 200) // 4 + 3, (64 * 2 - 120) // 4 + 3))
    assert list(pixel[:3]) == found[corners.index((64 * 4 - 200, 64 * 2 - 120))]["properties"]["color"]


def test_similarity_is_the_cosine_with_the_tile_there(slide: Path, parquet: Path, tmp_path: Path) -> None:
    found = drawn(tmp_path, slide, parquet, "130,70", "--by", "similarity")
    embedding_ND = embeddings(N, WIDTH).astype(np.float64)
    unit_ND = embedding_ND / np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    (row,) = (i for i, tile in enumerate(found) if tile["geometry"]["coordinates"][0][0] == [128, 64])
    told = [tile["properties"]["measurements"]["cosine"] for tile in found]
    np.testing.assert_allclose(told, unit_ND @ unit_ND[row], atol=6e-5)
    assert found[row]["properties"]["color"] == [253, 231, 37], "the end of viridis"
    away = histill(tmp_path, "heatmap", str(slide), "--by", "similarity", "525,5", "--features", str(parquet))
    assert away.returncode == 1 and "the nearest tile is 480,32" in away.stderr


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_head_says_what_scikit_learn_says(slide: Path, parquet: Path, tmp_path: Path, suffix: str) -> None:
    embedding_ND = embeddings(N, WIDTH)
    model = LogisticRegression().fit(embedding_ND, np.arange(N) % 3)
    names, file = ["stroma", "tumour", "other"], tmp_path / f"head{suffix}"
    # safetensors writes an array's memory as it lies.
    weight = np.ascontiguousarray(model.coef_, np.float32)
    arrays = {"weight": weight, "bias": model.intercept_.astype(np.float32)}
    if suffix == ".npz":
        np.savez(file, weight=arrays["weight"].T, bias=arrays["bias"], names=names)
    else:
        save_file(arrays, file, metadata={"names": json.dumps(names)})
    found = drawn(tmp_path, slide, parquet, str(file), "--by", "head", "--class", "tumour")
    told_NC = [[tile["properties"]["measurements"][f"probability of {name}"] for name in names] for tile in found]
    np.testing.assert_allclose(told_NC, model.predict_proba(embedding_ND), atol=1e-4)
    best = int(np.argmax(np.asarray(told_NC)[:, 1]))
    assert sum(found[best]["properties"]["color"]) == max(sum(tile["properties"]["color"]) for tile in found)
    with pytest.raises(MapError, match="embeddings have 7 channels"):
        read_head(file, 7)


def test_one_column_is_a_probability_by_the_logistic_function(tmp_path: Path) -> None:
    model = LogisticRegression().fit(embeddings(N, 2), np.arange(N) % 2)
    names = np.array(["stroma", "tumour"])
    np.savez(tmp_path / "head.npz", weight=model.coef_, bias=model.intercept_, names=names)
    head = read_head(tmp_path / "head.npz", 2)
    assert head.names == ("tumour",)
    np.testing.assert_allclose(head(embeddings(N, 2))[:, 0], model.predict_proba(embeddings(N, 2))[:, 1], atol=1e-6)


@pytest.mark.parametrize("form", ["trident", "clam", "stamp"])
def test_files_of_every_kind_say_the_same(slide: Path, parquet: Path, tmp_path: Path, form: str) -> None:
    ours = read_features(parquet, (0.5, 0.5))
    theirs = read_features(write_embedded(tmp_path, form, slide, SIZE), (0.5, 0.5))
    assert theirs.size_l0 == ours.size_l0 == (64, 64) and np.array_equal(theirs.corner_N2, ours.corner_N2)
    np.testing.assert_allclose(theirs.embedding_ND, ours.embedding_ND, atol=2e-3)


def test_what_is_no_file_of_features_is_refused(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no")
    for name in ("a.h5", "b.parquet", "c.csv"):
        done = histill(tmp_path, "heatmap", str(slide), "--features", name)
        assert done.returncode == 1 and name in done.stderr and "->" in done.stderr


def test_the_picture_shows_slide_and_map(slide: Path, parquet: Path, tmp_path: Path) -> None:
    drawn(tmp_path, slide, parquet)
    picture_HWC = np.asarray(Image.open(tmp_path / "maps" / "one.pca.png").convert("RGB"))
    thumb_HWC = np.asarray(Image.open(slide).convert("RGB"))
    assert np.array_equal(picture_HWC[68 : 68 + SIZE[1], 24 : 24 + SIZE[0]], thumb_HWC)
    over_HWC = picture_HWC[68 : 68 + SIZE[1], 48 + SIZE[0] : 48 + 2 * SIZE[0]]
    assert np.array_equal(over_HWC[:, 513:], thumb_HWC[:, 513:]), "no tile lies there"
    assert (over_HWC[:384, :512] != thumb_HWC[:384, :512]).any(2).mean() > 0.99


def test_a_slide_is_embedded_once_for_all_its_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ship(tmp_path / "student")
    make_slide(tmp_path / "one.tif", tissue_picture(512, 512), mpp=None)
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "slides.csv").write_text("path,mpp\none.tif,0.5\n")
    words = ["heatmap", "slides.csv", "--student", "student", "--engine", "onnxruntime"]
    first = histill(tmp_path, *words)
    assert first.returncode == 0 and len(first.stdout.split()) == 3
    kept = (tmp_path / "maps" / "features" / "one.parquet").stat().st_mtime_ns
    assert histill(tmp_path, *words, "--by", "similarity", "260,260").returncode == 0
    assert (tmp_path / "maps" / "features" / "one.parquet").stat().st_mtime_ns == kept
    n = len(objects(tmp_path / "maps" / "one.similarity.geojson"))
    assert n == len(objects(tmp_path / "maps" / "one.pca.geojson")) > 8
    alone = histill(tmp_path, "heatmap", "one.tif", *words[2:])
    assert alone.returncode == 1 and "no mpp" in alone.stderr

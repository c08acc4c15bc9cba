"""`histill similar`: the most alike tiles in their order, with their places and their pixels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from made.command import histill
from made.embedded import SIZE, embeddings, write_embedded
from made.slides import make_slide, tissue_picture
from PIL import Image

N, WIDTH = 48, 6


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "maps" / "similar.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_order_is_that_of_the_cosine(slide: Path, parquet: Path, tmp_path: Path) -> None:
    done = histill(tmp_path, "similar", str(slide), "200,100", "--features", str(parquet), "-n", "10")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path)
    embedding_ND = embeddings(N, WIDTH).astype(np.float64)
    unit_ND = embedding_ND / np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    query = 8 + 3
    cosine_N = unit_ND @ unit_ND[query]
    best = [int(row) for row in np.argsort(-cosine_N) if row != query][:10]
    assert [(int(row["x"]) // 64, int(row["y"]) // 64) for row in rows] == [(r % 8, r // 8) for r in [query, *best]]
    np.testing.assert_allclose([float(row["cosine"]) for row in rows], cosine_N[[query, *best]], atol=6e-5)


def test_the_first_picture_is_the_tile_itself(slide: Path, parquet: Path, tmp_path: Path) -> None:
    histill(tmp_path, "similar", str(slide), "200,100", "--features", str(parquet), "-n", "3")
    sheet = Image.open(tmp_path / "maps" / "similar.png")
    for rank, row in enumerate(table(tmp_path)):
        x, y = int(row["x"]), int(row["y"])
        tile = (
            Image.open(slide).convert("RGB").crop((x, y, x + 64, y + 64)).resize((208, 208), Image.Resampling.BICUBIC)
        )
        left = 24 + rank * 220
        cell = sheet.crop((left, 24, left + 208, 24 + 208))
        # But for the frame.
        assert np.array_equal(np.asarray(cell)[8:-8, 8:-8], np.asarray(tile)[8:-8, 8:-8])


def test_other_slides_are_searched_too(slide: Path, parquet: Path, tmp_path: Path) -> None:
    other = make_slide(tmp_path / "a=b.tif", tissue_picture(*SIZE, 3), kind="plain")
    pair = f"{other}={write_embedded(tmp_path, 'parquet', other, SIZE)}"
    done = histill(tmp_path, "similar", str(slide), "200,100", pair, "--features", str(parquet), "-n", "4")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path)
    # It has the same embeddings, so that each place comes twice, the query's own first.
    assert (rows[1]["slide"], rows[1]["x"], rows[1]["cosine"]) == ("a=b", rows[0]["x"], "1.0000")
    assert {row["slide"] for row in rows[2:4]} == {"one", "a=b"} and rows[2]["x"] == rows[3]["x"]


def test_a_place_is_two_numbers(slide: Path, tmp_path: Path) -> None:
    assert histill(tmp_path, "similar", str(slide), "here").returncode == 2

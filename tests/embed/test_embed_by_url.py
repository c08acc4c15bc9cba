"""Slides that are named by URL, or found below one, where a command takes slides: as their copies here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.base.store import Store
from pipeline.embed.slides import Wanted, embed_slides, project_params
from pipeline.embed.stamps import read_stamp
from pipeline.export.tissue import export_tissue
from pipeline.machine.plan.looks import look_at
from pipeline.maps.source import embedded
from pipeline.slides.scan import scan
from pipeline.slides.table import parse_table
from stages.cli.maps import with_features


@pytest.fixture
def url(slide: Path) -> str:
    """Above that slide, a slide of several files and a picture, in a folder that stands for a bucket."""
    bucket = slide.parent.parent / "bucket"
    for name in ("a/one.tif", "a/two.mrxs", "a/two/Data0001.tif", ".hidden.tif", "picture.png"):
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(slide, bucket / name)
    return f"file://{bucket}"


def test_a_table_of_a_bucket_names_its_slides_of_one_file(url: str) -> None:
    text = scan(Path(url))
    (row,) = parse_table(text, Path("slides.csv")).rows
    assert (row.path, row.slide_id) == (f"{url}/a/one.tif", "one")
    assert "two.mrxs" in text and "alone: 1 .png" in text and "Data0001" not in text


def test_every_command_takes_them_and_says_what_it_says_of_a_copy(
    here: Path, slide: Path, url: str, shipped: Path
) -> None:
    made = {}
    for name, asked in (("copy", str(slide)), ("far", url)):
        wanted = Wanted(here / name, form="parquet", student=shipped, engine="eager", threads=2)
        outcome = embed_slides([Path(asked)], wanted)
        assert (outcome.made, outcome.left_out) == (1, [])
        file = here / name / "one.parquet"
        told = read_stamp(file)
        assert told is not None
        made[name] = told["digest"], np.stack(pq.read_table(file)["embedding"].to_numpy())
    assert made["far"][0] == made["copy"][0] and np.array_equal(made["far"][1], made["copy"][1])
    assert embed_slides([Path(f"{url}/a/one.tif")], wanted).there == 1

    far = f"{url}/a/one.tif"
    params = project_params()
    assert [path.name for path in export_tissue([Path(far)], params, here / "tissue").written] == ["one.geojson"]
    (of,) = embedded([Path(far)], wanted, here / "far" / "one.parquet")
    with of.open() as reader:
        assert reader.width_px == 1024
    assert of.asked.source.where == far
    assert with_features([f"{far}={here / 'far' / 'one.parquet'}"]) == ([(Path(far), here / "far" / "one.parquet")], [])
    (here / "slides.csv").write_text(f"path\n{far}\n")
    rows = parse_table((here / "slides.csv").read_text(), here / "slides.csv").rows
    looks = look_at(rows, here / "slides.csv", Store(here / ".store"), params.slides, params.tiles, 5.0)
    assert not looks.refused and looks.slides[0].kept

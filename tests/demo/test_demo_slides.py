"""Demo slides: slides like any other, the same bytes every time, with a label for every pixel."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.base.store import Store
from pipeline.demo.regions import CLASSES, has_tumour, regions
from pipeline.demo.slides import CORRUPT, LABELS_FILE, LEGEND_FILE, SLIDE_FILE, ensure_demo_slide, make_demo_slide
from pipeline.slides.read.reader import SlideReader


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_openslide_opens_it_with_levels_and_mpp(demo_folder: Path) -> None:
    with SlideReader(demo_folder / SLIDE_FILE) as slide:
        assert slide.level_dimensions == [(1000, 1000), (500, 500), (250, 250), (125, 125)]
        assert slide.mpp_xy == pytest.approx((0.5, 0.5)) and slide.mpp_from == "slide"
        assert slide.quickhash and slide.vendor == "generic-tiff"


def test_the_label_map_has_the_slides_pixels_and_glass_is_bright(demo_folder: Path) -> None:
    label_HW = np.asarray(Image.open(demo_folder / LABELS_FILE))
    with SlideReader(demo_folder / SLIDE_FILE) as slide:
        rgb_HWC = slide.read(0, 0, 0, slide.width_px, slide.height_px)
    assert label_HW.shape == rgb_HWC.shape[:2] and label_HW.dtype == np.uint8
    assert label_HW.max() < len(CLASSES)
    assert np.median(rgb_HWC[label_HW == 0]) > 235 > 220 > np.median(rgb_HWC[label_HW == 2])
    legend = json.loads((demo_folder / LEGEND_FILE).read_text())
    assert legend == {"classes": list(CLASSES), "level": 0, "mpp": 0.5}


def test_the_same_number_gives_the_same_bytes_and_another_another(demo_folder: Path, tmp_path: Path) -> None:
    make_demo_slide(1, 1000, tmp_path)
    assert digests(tmp_path) == digests(demo_folder)
    (tmp_path / "2").mkdir()
    make_demo_slide(2, 1000, tmp_path / "2")
    assert digests(tmp_path / "2")[SLIDE_FILE] != digests(demo_folder)[SLIDE_FILE]


@pytest.mark.parametrize("number", range(1, 8))
def test_tissues_cover_about_half_and_normal_slides_hold_no_tumour(number: int) -> None:
    label_HW = regions(number, 2560)
    share = np.bincount(label_HW.ravel(), minlength=len(CLASSES)) / label_HW.size
    assert 0.3 < share[0] < 0.65
    shown = {name for name, part in zip(CLASSES, share, strict=True) if part > 0.005}
    tumour = {"tumour", "necrosis"}
    assert shown >= set(CLASSES) - tumour and (shown >= tumour if has_tumour(number) else not shown & tumour)


@pytest.mark.parametrize("side_px", [512, 777])
def test_small_and_odd_sides_work(tmp_path: Path, side_px: int) -> None:
    make_demo_slide(4, side_px, tmp_path)
    with SlideReader(tmp_path / SLIDE_FILE) as slide:
        assert (slide.width_px, slide.height_px) == (side_px, side_px)
        assert slide.mpp_xy == pytest.approx((0.4, 0.4))


def test_the_corrupt_one_is_refused(store: Store) -> None:
    folder = ensure_demo_slide(CORRUPT, 512, store)
    with pytest.raises(SlideRefused, match="does not open"):
        SlideReader(folder / SLIDE_FILE)


def test_a_slide_in_the_store_is_not_made_again(store: Store) -> None:
    folder = ensure_demo_slide(5, 512, store)
    before = (folder / SLIDE_FILE).stat().st_mtime_ns
    assert ensure_demo_slide(5, 512, store) == folder
    assert (folder / SLIDE_FILE).stat().st_mtime_ns == before

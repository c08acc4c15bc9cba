"""A slide without tiles is refused for its own reason, and what is printed helps: each remedy is followed here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made.slides import make_slide, tissue_picture
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.base.store import Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import Source, sources
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.stage import make_tiles
from pipeline.tiles.whole_slide import write_slide_tiles

SIDE = 640
PARAMS = {"tile_px": 128, "tissue": {"mask_mpp": 4, "min_area_mm2": 0.001}}


def disc(colour: tuple[int, int, int], glass: int = 243, side: int = SIDE, radius: float = 0.42) -> NDArray[np.uint8]:
    """A grainy disc of one colour on even glass."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    inside = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (radius * side) ** 2
    picture = np.where(inside[..., None], np.array(colour) + rng.integers(-4, 5, (side, side, 1)), glass)
    return np.clip(picture, 0, 255).astype(np.uint8)


CASES: dict[str, tuple[NDArray[np.uint8], dict[str, Any], str]] = {
    "smaller than a tile": (tissue_picture(160, 150), {"tile_px": 224}, "smaller than a tile: 80 x 75 um"),
    "smaller, and in small pieces": (tissue_picture(160, 150), {"tile_px": 224, "min_area_mm2": 0.01}, "smaller than"),
    "small pieces": (tissue_picture(SIDE, SIDE), {"min_area_mm2": 2.0}, "no piece of tissue on it has 2 mm2"),
    "little of a tile": (disc((180, 80, 150), radius=0.07), {"tile_px": 256}, "no tile has enough tissue"),
    "one small piece": (
        disc((180, 80, 150), radius=0.06),
        {"min_area_mm2": 0.01},
        "no piece of .*; no tile has enough",
    ),
    "blank": (tissue_picture(SIDE, SIDE), {"min_stain": 3.0}, "tiles with tissue are blank"),
    "all ink": (disc((20, 40, 170)), {}, "has the colour of ink"),
    "faded": (disc((238, 229, 237)), {}, "too faint"),
    "grey": (disc((150, 150, 150)), {}, "no colour"),
    "dark field": (disc((40, 150, 70), glass=12), {}, "background is dark"),
    "empty": (disc((243, 243, 243)), {"tissue_method": "hsv"}, "no tissue found"),
}


def params(**changes: Any) -> TilesParams:
    tissue = {key: value for key, value in changes.items() if key in ("min_area_mm2", "min_coverage", "exclude_pen")}
    if "tissue_method" in changes:
        tissue["method"] = changes.pop("tissue_method")
    rest = {key: value for key, value in changes.items() if key not in tissue}
    return TilesParams.model_validate({**PARAMS, **rest, "tissue": {**PARAMS["tissue"], **tissue}})


def followed(fix: str, mask: Path, size: tuple[int, int]) -> tuple[dict[str, Any], Path | None]:
    """What the printed words tell to change, and the mask they ask for."""
    changes = {key: float(value) for key, value in re.findall(r"tiles\.(?:tissue\.)?(\w+) to ([0-9.]+)", fix)}
    changes |= {"exclude_pen": False} if "exclude_pen to false" in fix else {}
    for key in ("tile_px", "overlap_px"):
        if key in changes:
            changes[key] = int(changes[key])
    if "as a mask" not in fix:
        return changes, None
    Image.new("L", size, 255).save(mask)
    return changes, mask


@pytest.mark.parametrize("case", CASES)
def test_the_cause_is_named_and_the_remedy_helps(case: str, tmp_path: Path) -> None:
    picture, given, cause = CASES[case]
    slide = make_slide(tmp_path / "s.tif", picture)
    with pytest.raises(SlideRefused, match=cause) as refused:
        write_slide_tiles(Source("s", "file", slide), tmp_path, params(**given))
    changes, mask = followed(refused.value.fix, tmp_path / "m.png", picture.shape[1::-1])
    assert changes or mask
    out = tmp_path / "out"
    out.mkdir()
    write_slide_tiles(Source("s", "file", slide, mask=mask), out, params(**{**given, "min_sharpness": 0.0, **changes}))
    assert len(TileReader(out)) > 0


def test_a_slide_wholly_out_of_focus_is_kept_as_its_remedy_says(tmp_path: Path) -> None:
    blurred = np.asarray(Image.fromarray(tissue_picture(SIDE, SIDE)).resize((40, 40)).resize((SIDE, SIDE)))
    slide = make_slide(tmp_path / "s.tif", blurred)
    with pytest.raises(SlideRefused, match="out of focus") as refused:
        write_slide_tiles(Source("s", "file", slide), tmp_path, params())
    changes, _ = followed(refused.value.fix, tmp_path / "m.png", (1, 1))
    out = tmp_path / "out"
    out.mkdir()
    write_slide_tiles(Source("s", "file", slide), out, params(**changes))
    assert len(TileReader(out)) > 0


def manifest_of(folder: Path, header: str, lines: list[str], **changes: Any) -> Any:
    table, store = folder / "slides.csv", Store(folder / "store")
    table.write_text("\n".join([header, *lines]) + "\n")
    slides_params, one = SlidesParams(table=str(table)), ClusterParams(workers=1)
    slides = catalogue(slides_params, store, one)
    return make_tiles(slides, sources(table, store, slides_params), params(**changes), store, one)


def test_where_every_slide_is_refused_the_stage_fails_with_the_reasons(tmp_path: Path) -> None:
    make_slide(tmp_path / "a.tif", disc((150, 150, 150)))
    make_slide(tmp_path / "b.tif", disc((238, 229, 237)))
    with pytest.raises(
        SlideRefused, match=r"no slide has a tile \(a: it has no colour.*b: its stain is too faint"
    ) as all_refused:
        manifest_of(tmp_path, "path", ["a.tif", "b.tif"])
    assert "a: " in all_refused.value.fix and "b: " in all_refused.value.fix


def test_what_takes_much_of_the_tissue_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inked = tissue_picture(SIDE, SIDE)
    inked[:, :300] = (20, 40, 170)
    make_slide(tmp_path / "inked.tif", inked)
    half = tissue_picture(SIDE, SIDE, 1)
    half[:, 320:] = np.asarray(Image.fromarray(half[:, 320:]).resize((20, 40)).resize((320, SIDE)))
    make_slide(tmp_path / "half.tif", half)
    make_slide(tmp_path / "good.tif", tissue_picture(SIDE, SIDE, 2))
    tiles = manifest_of(tmp_path, "path", ["inked.tif", "half.tif", "good.tif"], tile_px=64, exclude_pen=True)
    remarks = {item.id: " ".join(item.remarks) for item in tiles.items}
    assert "ink took" in remarks["inked"] and "exclude_pen" in remarks["inked"]
    assert "blur took" in remarks["half"] and not remarks["good"]
    (tmp_path / "folder").mkdir()
    Image.fromarray(half).save(tmp_path / "folder" / "1.png")
    (tmp_path / "folder" / "2.png").write_bytes(b"no image")
    (folder,) = manifest_of(tmp_path, "path", ["folder"]).items
    assert folder.remarks == ("50% of its images do not decode: artifacts/left_out.csv names them",)
    said = " ".join(capsys.readouterr().err.split())
    assert "inked: ink took" in said and "half: blur took" in said


def test_a_mask_that_marks_all_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_slide(tmp_path / "s.tif", tissue_picture(SIDE, SIDE))
    Image.new("L", (100, 100), 1).save(tmp_path / "m.png")
    tiles = manifest_of(tmp_path, "path,mask", ["s.tif,m.png"])
    assert "marks next to all of the slide" in tiles.items[0].remarks[0]
    assert "marks next to all of the slide" in " ".join(capsys.readouterr().err.split())

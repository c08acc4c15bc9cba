"""A stain of an ink's colour is tissue, and ink is not, whatever the tissue is stained with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipeline.params.tiles import TissueParams
from pipeline.tiles.tissue import find_tissue

MPP, GLASS, SIDE = (8.0, 8.0), 242.0, 160
PARAMS = TissueParams(min_area_mm2=0.01)
STAINS = {
    "masson": ((95, 120, 215), (215, 85, 95)),
    "masson, dense": ((50, 85, 160), (200, 80, 90)),
    "alcian blue": ((100, 160, 212), (175, 130, 175)),
    "giemsa": ((100, 115, 190), (190, 120, 170)),
    "azan": ((60, 90, 180), (205, 60, 85)),
    "dab, blue counterstain": ((120, 140, 190), (150, 95, 55)),
    "methyl green": ((120, 180, 170), (150, 90, 50)),
    "light green": ((90, 170, 140), (210, 90, 100)),
    "sirius red": ((200, 40, 55), (235, 220, 120)),
}
"""Two colours of a section each: the first is an ink's."""


def even(seed: int, sigma: float) -> NDArray[np.float64]:
    """Smooth noise, (SIDE, SIDE), of deviation one."""
    noise = Image.fromarray(np.random.default_rng(seed).normal(size=(SIDE, SIDE)).astype(np.float32) * 40 + 128)
    smooth = np.asarray(noise.convert("L").filter(ImageFilter.GaussianBlur(sigma)), float)
    return (smooth - smooth.mean()) / smooth.std()


def section(colours: tuple[tuple[int, int, int], ...], share: float, seed: int = 0) -> NDArray[np.uint8]:
    """A round section on glass; `share` of it has the first colour, in patches, both as uneven as tissue is."""
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = (x - SIDE / 2) ** 2 + (y - SIDE / 2) ** 2 < (0.42 * SIDE) ** 2
    patches = even(seed, 10)
    first = patches > np.quantile(patches[inside], 1 - share)
    picture = np.full((SIDE, SIDE, 3), GLASS)
    grain = even(seed + 1, 1)
    for where, colour in ((inside & first, colours[0]), (inside & ~first, colours[1])):
        density = -np.log(np.array(colour) / GLASS)
        picture[where] = GLASS * np.exp(-density * (1 + 0.15 * grain[where])[:, None])
    return np.clip(picture + np.random.default_rng(seed).normal(0, 1, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("stain", STAINS)
def test_a_stain_that_covers_much_of_the_tissue_is_not_ink(stain: str, share: float) -> None:
    mask = find_tissue(section(STAINS[stain], share), MPP, PARAMS)
    assert mask.pen.mean() < 0.02 and mask.tissue.mean() > 0.5


INKS = {"blue": (30, 60, 170), "teal": (0, 120, 130), "black": (25, 24, 28), "red": (205, 25, 40)}


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("stain", ["masson", "giemsa", "dab, blue counterstain", "light green"])
def test_a_stroke_over_such_a_section_is_ink_still(stain: str, ink: str) -> None:
    picture = section(STAINS[stain], 0.5)
    picture[70:84] = INKS[ink]
    mask = find_tissue(picture, MPP, PARAMS)
    assert mask.pen[70:84].mean() > 0.95 and not mask.tissue[71:83].any()
    assert mask.tissue[30:60, 60:100].all()


def test_a_pale_scribble_on_the_glass_is_ink() -> None:
    picture = section(((225, 130, 180), (150, 110, 180)), 0.5)
    picture[2:8, 2:50] = (140, 170, 215)
    assert find_tissue(picture, MPP, PARAMS).pen[2:8, 2:50].all()

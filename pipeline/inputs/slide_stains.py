"""How strongly each slide is stained: mean and deviation of its three stains, kept in the store per slide.

Of up to `SAMPLE` tiles, evenly spread over those that are trained on, every `STRIDE`-th pixel both ways as it is
stored: 64 tiles of 224 px are 0.2 million pixels, whose means stand still. Amounts are those of `tiles.stains`, in
natural optical density.

A tile of slide a becomes one of slide b by (x - mean_a) deviation_b / deviation_a + mean_b in each stain. Source: the
statistics and the formula are Reinhard et al.'s ("Color transfer between images", 2001), in the space of stains as
RandStainNA has it among others (Shen et al., MICCAI 2022), which draws the other slide's statistics from a distribution
fitted to the cohort; here they are another slide's own.

Shapes: L slides, S = 3 stains.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter

from pipeline.base.items import TilesManifest
from pipeline.base.kept import Kept
from pipeline.base.types import Json
from pipeline.corpus.corpus import Corpus
from pipeline.tiles.stains import UNMIX_CS
from pipeline.views.stain import LN_DENSITY

RECIPE_VERSION = 1
SAMPLE, STRIDE = 64, 4
MOST_GAIN = 2.0
"""A stain is never made more than so many times as strong, nor weaker: a slide of little else but glass has hardly any
deviation."""
Three = tuple[float, float, float]


class SlideStain(BaseModel):
    """Mean and deviation of haematoxylin, eosin and the residual over a slide's pixels."""

    model_config = ConfigDict(frozen=True)
    mean: Three
    deviation: Three


def transfer(
    stain_L2S: NDArray[np.float64], from_N: NDArray[np.int64], to_N: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(gain_NS, shift_NS) that make a tile of one slide one of the other; `stain_L2S` of `slide_stains`."""
    (mean_NS, deviation_NS), (target_NS, spread_NS) = (stain_L2S[slide_N].swapaxes(0, 1) for slide_N in (from_N, to_N))
    gain_NS = np.clip(spread_NS / np.maximum(deviation_NS, 1e-6), 1 / MOST_GAIN, MOST_GAIN)
    return gain_NS, target_NS - gain_NS * mean_NS


def measured(corpus: Corpus, slide: int) -> SlideStain:
    """Of one slide, from its tiles' pixels; sums in float64, so that the same tiles give the same bits."""
    kept = corpus.kept(slide)
    rows = kept[np.unique(np.linspace(0, len(kept) - 1, min(SAMPLE, len(kept))).astype(np.int64))]
    count, sum_S, square_S = 0, np.zeros(3), np.zeros(3)
    for row in rows:
        pixel_MC = corpus.tiles[slide].image(int(row))[::STRIDE, ::STRIDE].reshape(-1, 3)
        stain_MS = LN_DENSITY[pixel_MC] @ UNMIX_CS
        count += len(stain_MS)
        sum_S += stain_MS.sum(0)
        square_S += np.square(stain_MS).sum(0)
    mean_S = sum_S / count
    deviation_S = np.sqrt(np.maximum(square_S / count - np.square(mean_S), 0))
    return SlideStain(mean=tuple(mean_S.tolist()), deviation=tuple(deviation_S.tolist()))


def slide_stains(corpus: Corpus, tiles: TilesManifest, kept: Kept) -> NDArray[np.float64]:
    """Mean and deviation of every slide of the corpus, (L, 2, S); what the store has is not measured again."""
    recipe: dict[str, Json] = {"figures": "slide stain", "recipe_version": RECIPE_VERSION, "fraction": corpus.fraction}
    form, found = TypeAdapter(SlideStain), []
    for slide, item in enumerate(corpus.items):
        of = tiles.item(item.id)
        slot = kept.slot(recipe, {"tiles": [of.key, of.digest]}, form)
        found.append(slot.figures(partial(measured, corpus, slide)))
    return np.array([[each.mean, each.deviation] for each in found])

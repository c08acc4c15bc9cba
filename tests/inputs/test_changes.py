"""Changes of the student's tile: each is what its name says, by another's arithmetic, and is drawn by seed and step."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from made.cache import Cache
from made.corpus import ALL_CHANGES, tiny
from made.training import in_float64
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pipeline.base.kept import Kept
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.loader import Batch
from pipeline.inputs import Changes, Draws
from pipeline.inputs.optics import blurred, coloured, compressed, gaussian, jpeg_steps, stained
from pipeline.inputs.slide_stains import SlideStain, measured, slide_stains, transfer
from pipeline.params.student import InputParams
from pipeline.student.recipe import train_recipe
from pipeline.tiles.stains import UNMIX_CS
from pipeline.views.fields import ALPHA, AS_IT_IS, BETA
from pipeline.views.stain import density_map, jitter

SIDE = 40


@pytest.fixture(scope="module", name="image_NHWC")
def made_images() -> NDArray[np.uint8]:
    """Smooth, in H&E's colours, and of a side that is no multiple of 8 in `compressed`'s test."""
    rng = np.random.default_rng(0)
    share = gaussian_filter(rng.normal(size=(6, SIDE, SIDE, 1)), (0, 2, 2, 0))
    share = (share - share.min()) / (share.max() - share.min())
    return (np.array([245, 190, 220]) * share + np.array([90, 50, 130]) * (1 - share)).round().astype(np.uint8)


def planes(image_NHWC: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image_NHWC).permute(3, 0, 1, 2).float()


def images(plane_CNHW: Tensor) -> NDArray[np.float64]:
    return plane_CNHW.permute(1, 2, 3, 0).double().numpy()


def batch_of(image_NHWC: NDArray[np.uint8], part: slice = slice(None)) -> Batch:
    n = len(image_NHWC)
    return Batch(torch.from_numpy(image_NHWC[part]), torch.zeros(n, 4)[part], None, None, (np.arange(n) % 3)[part])


def changes(n: int, first: int = 0, own: int | None = None, seed: int = 0, **params: Any) -> Changes:
    stain_L2S = np.array([[[0.2, 0.3, 0.0], [0.1, 0.2, 0.05]], [[0.4, 0.2, 0.1], [0.2, 0.1, 0.05]],
                          [[0.1, 0.5, -0.1], [0.1, 0.3, 0.02]]])  # fmt: skip
    return Changes(InputParams(**params), Draws(seed, n, first, n if own is None else own), stain_L2S)


def test_stain_is_the_views_own_without_its_rounding(image_NHWC: NDArray[np.uint8]) -> None:
    rng, n = np.random.default_rng(1), len(image_NHWC)
    fields_NP = np.tile(AS_IT_IS, (n, 1))
    fields_NP[:, ALPHA], fields_NP[:, BETA] = rng.uniform(0.8, 1.2, (n, 3)), rng.uniform(-0.1, 0.1, (n, 3))
    maps = density_map(fields_NP[:, ALPHA].astype(np.float64), fields_NP[:, BETA].astype(np.float64))
    found = images(stained(planes(image_NHWC), *(torch.from_numpy(values).float() for values in maps)))
    expected = np.stack([jitter(image, fields) for image, fields in zip(image_NHWC, fields_NP, strict=True)])
    assert np.abs(np.clip(found, 0, 255) - expected).max() < 0.75
    assert np.abs(expected.astype(float) - image_NHWC).mean() > 3


def test_blur_is_a_gaussian_of_each_tiles_own_sigma(image_NHWC: NDArray[np.uint8]) -> None:
    sigma_N = np.array([0.0, 0.4, 0.8, 1.0, 1.5, 2.0])
    found = images(blurred(planes(image_NHWC), torch.from_numpy(gaussian(sigma_N, 2.0)).float()))
    assert np.array_equal(found[0], image_NHWC[0])
    for sigma, image, blurry in list(zip(sigma_N, image_NHWC, found, strict=True))[1:]:
        expected = gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="mirror", radius=6)
        assert np.abs(blurry - expected).max() < 1e-3


def test_colour_is_brightness_contrast_and_saturation_one_after_another(image_NHWC: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(2)
    factors = rng.uniform(0.6, 1.4, (3, len(image_NHWC)))
    found = images(coloured(planes(image_NHWC), *torch.from_numpy(factors).float()))
    for (brightness, contrast, saturation), image, got in zip(factors.T, image_NHWC, found, strict=True):
        x = image * brightness
        mean = (x @ [0.299, 0.587, 0.114]).mean()
        x = (x - mean) * contrast + mean
        x = saturation * x + (1 - saturation) * (x @ [0.299, 0.587, 0.114])[..., None]
        assert np.abs(got - x).max() < 1e-2


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("side", [SIDE, 37])
def test_compression_is_jpegs(quality: int, side: int, image_NHWC: NDArray[np.uint8]) -> None:
    image_NHWC = np.ascontiguousarray(image_NHWC[:, :side, :side])
    steps = torch.from_numpy(jpeg_steps(np.full(len(image_NHWC), float(quality)))).float()
    found = images(compressed(planes(image_NHWC), steps))
    for image, got in zip(image_NHWC, found, strict=True):
        data = io.BytesIO()
        Image.fromarray(image).save(data, "JPEG", quality=quality, subsampling="4:4:4")
        with Image.open(data) as opened:
            tables = [sorted(table) for _, table in sorted(opened.quantization.items())]
            expected = np.asarray(opened.convert("RGB")).astype(float)
        assert [sorted(steps[c, 0].int().tolist()) for c in (0, 1)] == tables
        # libjpeg rounds its answer to bytes, and computes in ints.
        assert np.abs(got - expected).mean() < 0.8
        lost = np.abs(expected - image).mean()
        assert np.abs(got - expected).mean() < 0.5 * lost or lost < 2


def test_a_tile_of_one_slide_gets_anothers_stain(cache: Cache) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    stain_L2S = np.array([[stain.mean, stain.deviation] for stain in (measured(corpus, i) for i in range(3))])
    from_N, to_N = np.array([0, 1, 2]), np.array([1, 2, 2])
    gain_NS, shift_NS = transfer(stain_L2S, from_N, to_N)
    # What is done to a slide's amounts is done to their mean and deviation.
    np.testing.assert_allclose(gain_NS * stain_L2S[from_N, 0] + shift_NS, stain_L2S[to_N, 0], atol=1e-9)
    np.testing.assert_allclose(gain_NS * stain_L2S[from_N, 1], stain_L2S[to_N, 1], atol=1e-9)
    np.testing.assert_allclose(gain_NS[2], 1)


def test_a_transferred_tile_has_the_other_slides_stain_in_its_pixels(image_NHWC: NDArray[np.uint8]) -> None:
    def stain_of(rgb_HWC: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean and deviation (2, 3), by the definition: amounts of natural optical density, level + 1 of 256."""
        amount_PS = -np.log((rgb_HWC.reshape(-1, 3) + 1) / 256) @ UNMIX_CS
        return np.stack([amount_PS.mean(0), amount_PS.std(0)])

    # Three slides of one tile each, stained unlike, far enough from black and white that nothing is cut.
    levels = np.array([[0.8, 0.9, 0.9], [0.9, 0.7, 0.9], [0.7, 0.8, 0.8]])
    slide_LHWC = np.round(image_NHWC[:3] * levels[:, None, None]).astype(np.uint8)
    stain_L2S = np.stack([stain_of(rgb.astype(float)) for rgb in slide_LHWC])
    change = Changes(InputParams(stain_transfer=1), Draws(0, 3, 0, 3), stain_L2S)
    found = change(0, batch_of(slide_LHWC)).image_NHWC.double().numpy()
    for slide, rgb_HWC in enumerate(found):
        off = [np.abs(stain_of(rgb_HWC) - stain_L2S[other]).max() for other in range(3)]
        assert np.argmin(off) != slide and min(off) < 1e-3, off


def test_slide_stains_are_measured_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    kept = Kept(cache.store, "student")
    first = slide_stains(corpus, cache.tiles, kept)
    assert first.shape == (3, 2, 3) and len(kept.uses) == 3
    blind = replace(corpus, tiles=())
    assert np.array_equal(slide_stains(blind, cache.tiles, Kept(cache.store, "student")), first)
    assert first.tolist() == [[list(s.mean), list(s.deviation)] for s in (measured(corpus, i) for i in range(3))]


def test_a_fraction_measures_none_of_the_other_tiles(cache: Cache) -> None:
    few, all_ = (open_corpus(cache.tiles, cache.tokens, cache.store, fraction) for fraction in (0.2, 1.0))
    read: list[int] = []

    class Watched:
        def image(self, row: int) -> NDArray[np.uint8]:
            read.append(row)
            return few.tiles[1].image(row)

    watched = replace(few, tiles=(few.tiles[0], Watched(), few.tiles[2]))  # type: ignore[arg-type]
    assert isinstance(measured(watched, 1), SlideStain) and read == few.kept(1).tolist()
    assert measured(few, 1) != measured(all_, 1)


def test_every_change_changes_and_stays_within_bytes(image_NHWC: NDArray[np.uint8]) -> None:
    batch, n = batch_of(image_NHWC), len(image_NHWC)
    for name, value in ALL_CHANGES.items():
        if name == "share":
            continue
        found = changes(n, **{name: value})(0, batch).image_NHWC
        assert found.shape == batch.image_NHWC.shape and found.is_contiguous()
        moved = (found - batch.image_NHWC).abs().flatten(1).mean(1)
        assert (moved > 0.01).sum() >= 2, name
        assert found.min() >= 0 and found.max() <= 255
    assert torch.equal(changes(n, **ALL_CHANGES)(0, batch).cls_ND, batch.cls_ND)


def test_a_share_of_the_tiles_stays_clean(image_NHWC: NDArray[np.uint8]) -> None:
    batch = batch_of(np.tile(image_NHWC, (20, 1, 1, 1)))
    found = changes(120, share=0.25, brightness=0.3)(0, batch).image_NHWC
    clean = (found == batch.image_NHWC).flatten(1).all(1)
    assert 70 <= int(clean.sum()) <= 105


def test_one_change_moves_no_others_numbers(image_NHWC: NDArray[np.uint8]) -> None:
    batch, n = batch_of(image_NHWC), len(image_NHWC)
    both = changes(n, brightness=0.3, stain_scale=0.2)(0, batch).image_NHWC
    stain = replace(batch, image_NHWC=changes(n, stain_scale=0.2)(0, batch).image_NHWC)
    torch.testing.assert_close(changes(n, brightness=0.3)(0, stain).image_NHWC, both, atol=1e-2, rtol=1e-4)


def test_seed_and_step_decide_and_processes_agree(image_NHWC: NDArray[np.uint8]) -> None:
    n = len(image_NHWC)
    with in_float64():
        whole = changes(n, **ALL_CHANGES)(4, batch_of(image_NHWC)).image_NHWC
        parts = [
            changes(n, first, 3, **ALL_CHANGES)(4, batch_of(image_NHWC, slice(first, first + 3))).image_NHWC
            for first in (0, 3)
        ]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-9, rtol=1e-9)
        again, step, seed = (
            changes(n, seed=seed, **ALL_CHANGES)(step, batch_of(image_NHWC)).image_NHWC
            for step, seed in ((4, 0), (5, 0), (4, 1))
        )
    assert torch.equal(again, whole)
    assert not torch.equal(step, whole) and not torch.equal(seed, whole)


def test_off_is_no_part_of_the_recipe(cache: Cache) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)

    def recipe(**augment: Any) -> dict[str, Any]:
        return train_recipe(cache.tokens, corpus, tiny(augment=augment), 32)

    assert "augment" not in recipe()["student"]
    assert recipe(share=0.5) == recipe(share=0.0, blur_sigma=1) == recipe()
    assert recipe(blur_sigma=1) != recipe()
    assert "slide_stain" in recipe(stain_transfer=0.5) and "slide_stain" not in recipe(stain_scale=0.5)

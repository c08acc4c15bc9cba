"""Changes to a tile and how far embeddings move: known answers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from made.run import painted
from PIL import Image, ImageFilter

from pipeline.base.errors import EvaluationError
from pipeline.base.intervals import Resampler, Units
from pipeline.measures.fidelity.embedding import cosine
from pipeline.measures.robustness.perturbations import (
    CHANGES,
    blur,
    jpeg,
    larger,
    smaller,
    stain,
)
from pipeline.measures.robustness.results import Robustness
from pipeline.measures.robustness.robustness import check_same_teacher, robustness
from pipeline.tiles.stains import RUIFROK_SC
from pipeline.views.stain import restain

SIDE_PX = 64


def tile(seed: int = 0) -> np.ndarray:
    return np.kron(painted("gland", seed), np.ones((2, 2, 1), np.uint8))


def pixels(images: list[np.ndarray]) -> np.ndarray:
    """An embedding that sees everything."""
    return np.stack([image[::4, ::4].ravel() for image in images]).astype(np.float32)


def brightness(images: list[np.ndarray]) -> np.ndarray:
    """An embedding that neither a mirror nor a turn can move."""
    return np.stack([[image[..., c].mean() for c in range(3)] for image in images]).astype(np.float32)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_keeps_shape_and_repeats(kind: str):
    for change in CHANGES[kind]:
        changed = change(tile(), 3)
        assert changed.shape == (SIDE_PX, SIDE_PX, 3) and changed.dtype == np.uint8
        assert (changed == change(tile(), 3)).all() and (changed != tile()).any()


def test_restaining_by_nothing_gives_the_image_back():
    same = restain(tile(), np.ones(3), np.zeros(3))
    assert np.abs(same.astype(int) - tile()).max() <= 1


def test_more_haematoxylin_is_more_of_its_colour():
    density = np.array([0.3, 0.0, 0.0]) @ RUIFROK_SC
    blue = np.rint(255 * 10**-density).astype(np.uint8)[None, None]
    expected = 255 * 10 ** -(np.array([0.6, 0.0, 0.0]) @ RUIFROK_SC)
    assert restain(blue, np.array([2.0, 1, 1]), np.zeros(3))[0, 0] == pytest.approx(expected, abs=2)


def test_stains_differ_from_tile_to_tile():
    assert (stain(tile(), 1) != stain(tile(), 2)).any()


def test_scaling_moves_a_border_by_a_tenth():
    step = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    step[:, 52:] = 255
    edge = {name: int((change(step, 0)[32, :, 0] < 128).sum()) for name, change in (("+", larger), ("-", smaller))}
    assert edge["+"] == pytest.approx(32 + 20 * 1.1, abs=1) and edge["-"] == pytest.approx(32 + 20 / 1.1, abs=1)


def test_blur_is_pillows():
    theirs = np.asarray(Image.fromarray(tile()).filter(ImageFilter.GaussianBlur(1)))
    assert np.abs(blur(tile(), 0).astype(int) - theirs)[2:-2, 2:-2].mean() < 4


def test_jpeg_is_stored_at_quality_50():
    out = io.BytesIO()
    Image.fromarray(tile()).save(out, "JPEG", quality=50, subsampling="4:2:0")
    with Image.open(out) as image:
        assert np.abs(jpeg(tile(), 0).astype(int) - np.asarray(image.convert("RGB"))).mean() < 1


def found_of(student, n: int = 12) -> Robustness:
    images = [tile(i) for i in range(n)]
    resampler = Resampler(Units([f"s{i:02}" for i in range(n)], "slide"), 100, 0)
    return robustness(images, {"teacher": pixels, "student": student}, resampler, 0, lambda n=1, note="": None)


def test_a_student_equal_to_the_teacher_is_as_steady():
    found = found_of(pixels)
    assert (found.n, found.any.unit) == (12, "slide")
    for change in found.changes.values():
        assert change.student == change.teacher
        assert (change.difference.value, change.difference.span.low, change.difference.span.high) == (0, 0, 0)


def test_an_embedding_that_sees_no_direction_does_not_move_under_turns():
    found = found_of(brightness).changes["dihedral"]
    assert found.student.value == pytest.approx(1, abs=1e-4)
    assert found.teacher.value < 0.5 and found.difference.span.low > 0


def test_an_embedding_of_noise_agrees_with_nothing():
    random = np.random.default_rng(0)
    found = found_of(lambda images: random.normal(size=(len(images), 64)).astype(np.float32), 40)
    assert abs(found.changes["blur"].student.value) < 0.1


def test_another_teacher_is_found_out():
    x_ND = pixels([tile(i) for i in range(8)])
    check_same_teacher(x_ND, x_ND.astype(np.float16))
    with pytest.raises(EvaluationError, match="otherwise than the cache"):
        check_same_teacher(x_ND, np.random.default_rng(0).normal(size=x_ND.shape))


def test_a_long_mean_vector_hides_no_other_teacher():
    """Two encoders that know nothing of one another, both far from the origin: raw cosine takes them for one."""
    live_ND, cached_ND = (100 + np.random.default_rng(seed).normal(size=(32, 64)) for seed in (0, 1))
    assert cosine(live_ND, cached_ND).mean() > 0.999
    with pytest.raises(EvaluationError, match="otherwise than the cache"):
        check_same_teacher(live_ND[:8], cached_ND)
    check_same_teacher(cached_ND[:8] + 0.01, cached_ND)

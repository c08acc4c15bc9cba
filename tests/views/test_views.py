import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.params.tokens import TokensParams
from pipeline.tiles.pixels import resize
from pipeline.views import N_ELEMENTS, apply_view, apply_views, batch_fields, view_fields, view_of_tile
from pipeline.views.batch import apply_on_device
from pipeline.views.fields import ALPHA, AS_IT_IS, BETA, BOX, dihedral_fields
from pipeline.views.stain import DARKEST, DENSITY, LEVEL, jitter, mixes

RNG = np.random.default_rng(0)
IMAGE_HWC = RNG.integers(0, 256, (6, 6, 3), np.uint8)
PINNED = [4, 0.394702, 0.121683, 0.590283, 1.098186, 0.927945, 1.088374, 0.096066, 0.049477, -0.01966]
SHARES = st.floats(0, 1, width=32)


def fields(**changed) -> np.ndarray:
    made_P = AS_IT_IS.copy()
    for name, (at, value) in changed.items():
        assert name in ("element", "box", "alpha", "beta")
        made_P[at] = value
    return made_P


def test_the_first_element_is_the_tile_as_it_is():
    assert np.array_equal(apply_view(IMAGE_HWC, 0), IMAGE_HWC)


def test_the_eight_elements_differ():
    assert len({apply_view(IMAGE_HWC, element).tobytes() for element in range(N_ELEMENTS)}) == N_ELEMENTS


def test_each_tile_of_a_batch_is_turned_by_its_own_element():
    batch_NHWC = RNG.integers(0, 256, (N_ELEMENTS, 6, 6, 3), np.uint8)
    turned_NHWC = apply_views(torch.from_numpy(batch_NHWC), dihedral_fields(N_ELEMENTS), 6).numpy()
    assert np.array_equal(turned_NHWC, np.stack([apply_view(image, e) for e, image in enumerate(batch_NHWC)]))


def test_an_unknown_element_is_refused():
    with pytest.raises(ValueError, match="view 8"):
        apply_view(IMAGE_HWC, 8)


def test_tiles_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="square"):
        view_of_tile(np.zeros((4, 6, 3), np.uint8), AS_IT_IS, 4)
    with pytest.raises(ValueError, match="square"):
        apply_views(torch.zeros(1, 4, 6, 3, dtype=torch.uint8), AS_IT_IS[None], 4)


@settings(max_examples=60, deadline=None)
@given(
    side=st.integers(8, 40),
    out=st.integers(4, 40),
    views=st.lists(st.tuples(st.integers(0, 7), SHARES, SHARES, st.floats(0.25, 1, width=32)), min_size=1, max_size=3),
    stain=st.tuples(*[st.floats(0.5, 1.5, width=32)] * 3, *[st.floats(-0.5, 0.5, width=32)] * 3) | st.none(),
)
def test_a_batch_on_a_device_has_the_bytes_of_each_tile_alone(side, out, views, stain):
    fields_NP = np.stack([AS_IT_IS] * len(views))
    for fields_P, (element, x, y, width) in zip(fields_NP, views, strict=True):
        fields_P[0], fields_P[BOX] = element, (x * (1 - width), y * (1 - width), width)
    if stain is not None:
        fields_NP[-1, ALPHA.start :] = stain
    image_NHWC = np.random.default_rng(side).integers(0, 256, (len(views), side, side, 3), np.uint8)
    alone_NOOC = np.stack([view_of_tile(image, f, out) for image, f in zip(image_NHWC, fields_NP, strict=True)])
    for apply in (apply_on_device, apply_views):
        assert np.array_equal(apply(torch.from_numpy(image_NHWC), fields_NP, out).numpy(), alone_NOOC)


def test_a_crop_of_whole_pixels_is_cut_out_as_it_is():
    image_HWC = RNG.integers(0, 256, (16, 16, 3), np.uint8)
    cut = view_of_tile(image_HWC, fields(box=(BOX, (0.25, 0.5, 0.5))), 8)
    assert np.array_equal(cut, image_HWC[8:16, 4:12])


def test_a_whole_tile_at_another_side_is_the_tiles_rooms_resize():
    image_HWC = RNG.integers(0, 256, (20, 20, 3), np.uint8)
    assert np.array_equal(view_of_tile(image_HWC, AS_IT_IS, 14), resize(image_HWC, (14, 14)))


def test_a_student_at_another_side_sees_the_same_piece():
    ramp_HW = np.linspace(0, 255, 64)[:, None] * np.ones(64)
    image_HWC = np.stack([ramp_HW, ramp_HW.T, ramp_HW], -1).astype(np.uint8)
    fields_P = fields(box=(BOX, (0.11, 0.37, 0.53)), element=(0, 5))
    large, small = (view_of_tile(image_HWC, fields_P, px).astype(float) for px in (48, 24))
    assert np.abs(large.reshape(24, 2, 24, 2, 3).mean((1, 3)) - small).max() <= 2


def test_a_factor_of_one_and_no_shift_change_no_colour():
    every_HWC = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1)
    every_HWC = np.concatenate([every_HWC, (every_HWC.sum(-1, keepdims=True) * 7) % 256], -1).astype(np.uint8)
    assert np.array_equal(jitter(every_HWC, AS_IT_IS), every_HWC)
    assert np.array_equal(LEVEL[DENSITY], np.arange(256))


def test_stain_jitter_is_the_textbooks_in_float():
    colour_MC = RNG.integers(0, 256, (500, 3), np.uint8)
    fields_P = fields(alpha=(ALPHA, (1.2, 0.8, 1.1)), beta=(BETA, (0.05, -0.04, 0.02)))
    stain_SC = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    stain_SC /= np.linalg.norm(stain_SC, axis=1, keepdims=True)
    stain_MS = -np.log((colour_MC + 1.0) / 256) @ np.linalg.inv(stain_SC)
    density_MC = (stain_MS * fields_P[ALPHA] + fields_P[BETA]) @ stain_SC
    expected_MC = np.clip(256 * np.exp(-density_MC) - 1, 0, 255)
    assert np.abs(jitter(colour_MC[None], fields_P)[0] - expected_MC).max() < 1.0


def test_the_widest_jitter_that_params_allow_stays_within_32_bits():
    fields_NP = np.stack([fields(alpha=(ALPHA, 0.5 + np.array(corner))) for corner in np.ndindex(2, 2, 2)])
    fields_NP[:, BETA] = 0.5
    matrix_NKC, shift_NC = (np.abs(values.astype(np.int64)) for values in mixes(fields_NP))
    assert (matrix_NKC.sum(1) * DARKEST + shift_NC).max() < 2**31


def augmented(**changed) -> TokensParams:
    return TokensParams.model_validate({"views": 2, "augment": {"views": 3, "stain_sigma": 0.1} | changed})


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 90), max_size=5))
def test_fields_do_not_depend_on_how_rows_are_batched(cuts):
    edges = [0, *sorted(cuts), 90]
    parts = [view_fields(augmented(), "key", range(a, b)) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), view_fields(augmented(), "key", range(90)))


def test_a_batch_of_several_slides_has_each_tiles_own_fields():
    places = [("a", 3), ("a", 4), ("a", 6), ("b", 7), ("b", 0)]
    fields_NVP = batch_fields(augmented(), places, 7)
    for (key, row), fields_VP in zip(places, fields_NVP, strict=False):
        assert np.array_equal(fields_VP, view_fields(augmented(), key, range(row, row + 1))[0])
    assert fields_NVP.shape == (7, 5, 10) and (fields_NVP[5:] == AS_IT_IS).all()


def test_fields_are_these_numbers_on_any_machine():
    drawn_P = view_fields(augmented(), "key", range(7, 8))[0, 3]
    assert drawn_P.dtype == np.float32
    assert drawn_P.tolist() == view_fields(augmented(), "key", range(90))[7, 3].tolist()
    np.testing.assert_allclose(drawn_P, PINNED, atol=1e-6)


def test_fields_lie_where_params_say_and_fill_it():
    fields_NVP = view_fields(augmented(crop_side=(0.4, 0.9)), "key", range(2000))
    assert np.array_equal(fields_NVP[5, :2], dihedral_fields(2))
    drawn_MP = fields_NVP[:, 2:].reshape(-1, fields_NVP.shape[2])
    assert set(drawn_MP[:, 0]) == set(range(N_ELEMENTS))
    x0, y0, side = drawn_MP[:, BOX].T
    assert side.min() >= 0.4 and side.max() <= 0.9 and np.ptp(side) > 0.49
    assert min(x0.min(), y0.min()) >= 0 and max((x0 + side).max(), (y0 + side).max()) <= 1 + 1e-6
    assert (np.abs(drawn_MP[:, ALPHA] - 1).max(0) <= 0.1 + 1e-6).all() and (np.ptp(drawn_MP[:, ALPHA], 0) > 0.19).all()
    assert (np.abs(drawn_MP[:, BETA]).max(0) <= 0.1).all() and (np.ptp(drawn_MP[:, BETA], 0) > 0.19).all()
    spread = np.abs(np.corrcoef(drawn_MP.T) - np.eye(drawn_MP.shape[1]))
    assert spread[3:, 3:].max() < 0.06


def test_seed_slide_view_and_row_each_draw_their_own():
    drawn = view_fields(augmented(), "key", range(50))[:, 2:]
    assert len(np.unique(drawn[..., 1])) == 150
    assert not np.intersect1d(drawn, view_fields(augmented(seed=1), "key", range(50))[:, 2:][..., 1:3]).size
    assert not np.intersect1d(drawn, view_fields(augmented(), "other", range(50))[:, 2:][..., 1:3]).size


def test_without_strength_a_further_view_is_an_element_alone():
    drawn = view_fields(augmented(crop_side=(1.0, 1.0), stain_sigma=0.0), "key", range(20))[:, 2:]
    assert np.array_equal(drawn[..., 1:], np.broadcast_to(AS_IT_IS[1:], drawn[..., 1:].shape))

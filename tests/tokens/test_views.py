import numpy as np
import pytest
import torch

from pipeline.tokens.views import N_ELEMENTS, apply_view, apply_view_batch, inverse

IMAGE_HWC = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)


def test_the_first_element_is_the_tile_as_it_is():
    assert np.array_equal(apply_view(IMAGE_HWC, 0), IMAGE_HWC)


def test_the_eight_elements_differ():
    assert len({apply_view(IMAGE_HWC, element).tobytes() for element in range(N_ELEMENTS)}) == N_ELEMENTS


@pytest.mark.parametrize("element", range(N_ELEMENTS))
def test_the_inverse_undoes_an_element(element):
    assert np.array_equal(apply_view(apply_view(IMAGE_HWC, element), inverse(element)), IMAGE_HWC)


@pytest.mark.parametrize("element", range(N_ELEMENTS))
def test_a_batch_is_turned_as_each_image_is(element):
    batch_NHWC = np.stack([IMAGE_HWC, IMAGE_HWC[::-1]])
    turned_NHWC = apply_view_batch(torch.from_numpy(batch_NHWC), element).numpy()
    assert np.array_equal(turned_NHWC, np.stack([apply_view(image, element) for image in batch_NHWC]))


def test_an_unknown_element_is_refused():
    with pytest.raises(ValueError, match="view 8"):
        apply_view(IMAGE_HWC, 8)

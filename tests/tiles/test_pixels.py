"""Tiles as JPEG: what is kept, what is lost, and what is not taken for an image."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.slides import tissue_picture
from PIL import Image

from pipeline.tiles.pixels import decode_jpeg, encode_jpeg, is_plain_jpeg, resize

PICTURE = tissue_picture(97, 64)


def encoded(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


@given(width=st.integers(1, 70), height=st.integers(1, 70), seed=st.integers(0, 9))
def test_a_tile_comes_back_with_its_shape_and_nearly_its_pixels(width: int, height: int, seed: int) -> None:
    picture = tissue_picture(width, height, seed)
    back = decode_jpeg(encode_jpeg(picture, 95))
    assert back.shape == picture.shape and back.dtype == np.uint8
    assert np.abs(back.astype(int) - picture).mean() < 10


def test_colour_is_stored_at_full_resolution() -> None:
    with Image.open(io.BytesIO(encode_jpeg(PICTURE, 95))) as image:
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3
    assert is_plain_jpeg(encode_jpeg(PICTURE, 95))


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"format": "PNG"}),
        ("RGB", {"format": "JPEG", "quality": 95, "progressive": True}),
        ("CMYK", {"format": "JPEG", "quality": 98}),
        ("P", {"format": "PNG"}),
        ("RGBA", {"format": "PNG"}),
    ],
)
def test_other_images_decode_to_rgb(mode: str, options: dict[str, object]) -> None:
    image = Image.fromarray(PICTURE)
    data = encoded(image.quantize(256) if mode == "P" else image.convert(mode), **options)
    assert not is_plain_jpeg(data)
    back = decode_jpeg(data)
    assert back.shape == PICTURE.shape
    assert np.abs(back.astype(int) - PICTURE).mean() < 8


def test_grey_images_decode_to_rgb_and_are_no_plain_jpeg() -> None:
    grey = Image.fromarray(PICTURE).convert("L")
    for options in ({"format": "JPEG", "quality": 95}, {"format": "PNG"}):
        data = encoded(grey, **options)
        assert not is_plain_jpeg(data)
        assert np.abs(decode_jpeg(data).astype(int) - np.asarray(grey)[..., None]).max() < 12


def test_sixteen_bits_are_scaled_and_transparency_is_white() -> None:
    deep = Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))
    assert (decode_jpeg(encoded(deep, format="PNG")) == 0x80).all()
    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    assert (decode_jpeg(encoded(clear, format="PNG")) == 255).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_32_bits_are_refused_and_not_black(dtype: type) -> None:
    out = io.BytesIO()
    Image.fromarray(np.ones((8, 8), dtype)).save(out, "TIFF")
    with pytest.raises(ValueError, match="8 or 16 bits"):
        decode_jpeg(out.getvalue())


@pytest.mark.parametrize("cut", [0, 1, 2, 30, 400, -200])
def test_what_is_cut_short_is_an_error_and_no_grey_tile(cut: int) -> None:
    for data in (encode_jpeg(PICTURE, 95), encoded(Image.fromarray(PICTURE), format="PNG")):
        with pytest.raises(ValueError):
            decode_jpeg(data[:cut])


def test_another_side_is_resized_with_antialiasing_and_the_same_side_is_not() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    data = encode_jpeg(stripes, 100)
    # Sampling every fourth column would give stripes or a flat black; the mean is grey.
    assert np.abs(decode_jpeg(data, 32).astype(int) - 128).max() < 12
    np.testing.assert_array_equal(decode_jpeg(data, 128), decode_jpeg(data))


def test_an_oblong_image_gives_its_middle_square() -> None:
    data = encode_jpeg(PICTURE, 95)
    np.testing.assert_array_equal(decode_jpeg(data, 64), decode_jpeg(data)[:, 16:80])


@given(x=st.integers(0, 40), y=st.integers(0, 20), side=st.integers(1, 40))
def test_a_box_of_whole_pixels_at_its_own_size_is_cut_out_exactly(x: int, y: int, side: int) -> None:
    cut = resize(PICTURE, (side, side), (x, y, x + side, y + side))
    np.testing.assert_array_equal(cut, PICTURE[y : y + side, x : x + side])

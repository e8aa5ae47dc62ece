from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.errors import DataError
from data_tools.hair import remove_hair
from data_tools.hair_fill import fill_hair, touched

METHODS = st.sampled_from(["along", "letter"])


def picture(seed: int, height: int, width: int, coarse: int) -> np.ndarray:
    """Return noise of blocks of `coarse` px: from pepper to patches."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // coarse + 1, width // coarse + 1, 3), np.uint8)
    return blocks.repeat(coarse, axis=0).repeat(coarse, axis=1)[:height, :width]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(1, 90), st.integers(1, 90), st.integers(1, 8), METHODS)
def test_any_picture_keeps_the_contract(seed: int, height: int, width: int, coarse: int, method: str) -> None:
    image = picture(seed, height, width, coarse)
    clean, mask = remove_hair(image, method=method)
    assert (clean.shape, clean.dtype, mask.shape, mask.dtype) == (image.shape, np.uint8, image.shape[:2], bool)
    outside = touched(mask) == 0
    assert np.array_equal(clean[outside], image[outside])
    assert mask.any() or np.array_equal(clean, image)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(2, 60), st.integers(2, 60), st.booleans())
def test_filling_stays_within_the_values_of_the_skin(seed: int, height: int, width: int, letter: bool) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 160, (height, width, 3), np.uint8)
    mask = rng.random((height, width)) < 0.05
    image[mask] = rng.integers(0, 30)
    clean = fill_hair(image, mask, letter=letter)
    if not (touched(mask) != 0).all():
        assert clean.min() >= 90
        assert clean.max() < 160


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), METHODS)
def test_a_view_gives_what_its_copy_gives(seed: int, method: str) -> None:
    image = picture(seed, 70, 90, 3)
    view = image[::-1, ::2]
    for from_view, from_copy in zip(remove_hair(view, method=method), remove_hair(view.copy(), method=method)):
        assert np.array_equal(from_view, from_copy)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=4), st.sampled_from(["uint8", "int8", "uint16", "float32", "bool"]))
def test_other_shapes_and_types_are_refused_in_one_line(shape: list, dtype: str) -> None:
    image = np.zeros(shape, dtype)
    if dtype == "uint8" and len(shape) == 3 and shape[2] == 3 and image.size:
        remove_hair(image)
        return
    with pytest.raises(DataError) as caught:
        remove_hair(image)
    assert "\n" not in str(caught.value)

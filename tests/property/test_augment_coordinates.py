import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from data_tools import augment

# Where the pixel (y, x) of a turned square of side s comes from, written down by hand.
SOURCE = {
    0: lambda y, x, s: (y, x),
    90: lambda y, x, s: (x, s - 1 - y),
    180: lambda y, x, s: (s - 1 - y, s - 1 - x),
    270: lambda y, x, s: (s - 1 - x, y),
}
VARIANTS = augment.variants((0, 90, 180, 270), True, "five")


@given(st.integers(1, 20), st.data())
def test_every_pixel_of_a_patch_comes_from_where_it_should(size, data):
    patch_size = data.draw(st.integers(1, size))
    variant = data.draw(st.sampled_from(VARIANTS))
    y, x = (data.draw(st.integers(0, patch_size - 1)) for _ in "yx")
    image = np.dstack([*np.mgrid[:size, :size], np.full((size, size), 7)]).astype(np.uint8)
    far = size - patch_size
    top, left = {"tl": (0, 0), "tr": (0, far), "bl": (far, 0), "br": (far, far),
                 "centre": (far // 2, far // 2)}[variant.patch]
    at_y, at_x = y + top, x + left
    if variant.flip:
        at_x = size - 1 - at_x
    result = augment.apply(image, variant, patch_size)
    assert result.shape == (patch_size, patch_size, 3)
    assert tuple(result[y, x]) == (*SOURCE[variant.degrees](at_y, at_x, size), 7)


@given(st.integers(2, 12), st.integers(0, 2 ** 32 - 1))
def test_the_eight_whole_variants_are_different_and_hold_the_same_pixels(size, seed):
    image = np.random.RandomState(seed).permutation(size * size * 3).reshape(size, size, 3)
    whole = augment.variants((0, 90, 180, 270), True, "whole")
    results = [augment.apply(image, variant) for variant in whole]
    assert len({result.tobytes() for result in results}) == 8
    assert all((np.sort(result, None) == np.sort(image, None)).all() for result in results)

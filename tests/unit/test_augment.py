import cv2
import numpy as np
import pytest

from data_tools import augment
from data_tools.augment import Variant
from data_tools.errors import DataError

PAPER = augment.variants(augment.ROTATIONS, True, "five")


def square(rows):
    return np.repeat(np.array(rows, np.uint8)[:, :, None], 3, 2)


def plane(image):
    return image[:, :, 0].tolist()


def test_the_papers_counts():
    rotated = augment.variants((0, 90, 180), False, "centre")
    flipped = augment.variants((0, 90, 180), True, "centre")
    assert [2000 * len(some) for some in (rotated, flipped, PAPER)] == [6000, 12000, 60000]
    assert len({variant.name for variant in PAPER}) == 30
    assert augment.variants((0,), False, "centre") == [Variant(0, False, "centre")]


@pytest.mark.parametrize(("variant", "expected"), [
    (Variant(0, False, "whole"), [[1, 2], [3, 4]]),
    (Variant(90, False, "whole"), [[2, 4], [1, 3]]),
    (Variant(180, False, "whole"), [[4, 3], [2, 1]]),
    (Variant(270, False, "whole"), [[3, 1], [4, 2]]),
    (Variant(0, True, "whole"), [[2, 1], [4, 3]]),
    (Variant(90, True, "whole"), [[4, 2], [3, 1]]),
])
def test_turns_are_counter_clockwise_and_come_before_the_flip(variant, expected):
    assert plane(augment.apply(square([[1, 2], [3, 4]]), variant)) == expected


@pytest.mark.parametrize(("patch", "expected"), [
    ("tl", [[1, 2], [5, 6]]), ("tr", [[3, 4], [7, 8]]), ("bl", [[9, 10], [13, 14]]), ("br", [[11, 12], [15, 16]]),
    ("centre", [[6, 7], [10, 11]]),
])
def test_the_five_patches(patch, expected):
    image = square(np.arange(1, 17).reshape(4, 4))
    result = augment.apply(image, Variant(0, False, patch), 2)
    assert plane(result) == expected
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize("patches", augment.PATCHES)
def test_a_patch_of_a_turned_picture_is_what_a_turned_picture_is_cut_to(patches):
    image = np.random.RandomState(0).randint(0, 256, (9, 9, 3)).astype(np.uint8)
    for variant in augment.variants((0, 90, 180, 270), True, patches):
        turned = np.rot90(image, variant.degrees // 90)
        turned = turned[:, ::-1] if variant.flip else turned
        y, x = (0, 0) if patches == "whole" else augment.patch_offset(9, 6, variant.patch)
        side = 9 if patches == "whole" else 6
        np.testing.assert_array_equal(augment.apply(image, variant, 6), turned[y:y + side, x:x + side])


def test_offsets_at_the_papers_sizes():
    assert [augment.patch_offset(256, 224, patch) for patch in augment.PATCHES["five"]] == [
        (0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    assert augment.patch_offset(7, 4, "centre") == (1, 1)  # rounded down, as Caffe does


def test_colour_order_is_kept():
    image = np.zeros((4, 4, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    for variant in PAPER:
        assert (augment.apply(image, variant, 2) == [10, 20, 30]).all()


def test_resize_averages_areas_when_it_shrinks():
    image = square([[0, 10, 20, 30], [20, 30, 40, 50]])
    assert plane(augment.resize_square(image[:, :], 2)) == [[5, 25], [25, 45]]  # pairs side by side
    large = np.random.RandomState(0).randint(0, 256, (300, 500, 3)).astype(np.uint8)
    expected = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(augment.resize_square(large), expected)


def test_resize_interpolates_when_it_grows_and_leaves_the_right_size_alone():
    image = np.random.RandomState(0).randint(0, 256, (100, 200, 3)).astype(np.uint8)
    grown = augment.resize_square(image)
    np.testing.assert_array_equal(grown, cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR))
    assert augment.resize_square(grown) is grown


@pytest.mark.parametrize("rotations", [(45,), (0, 0), (), (0, 360)])
def test_other_rotations_are_refused(rotations):
    with pytest.raises(DataError, match="expected different ones of 0, 90, 180, 270"):
        augment.variants(rotations, True, "five")

import numpy as np
import pytest

from pycam.regions import Box, level, released_boxes, square_up, strongest_component, tight_region


def blob_map(size=(100, 160), **values):
    cam = np.zeros(size)
    cam[20:40, 30:60] = 1.0
    cam[70:90, 100:150] = 0.9  # larger, but does not hold the maximum
    return cam


def test_the_component_with_the_maximum_is_boxed_not_the_largest():
    assert strongest_component(blob_map(), 0.2) == Box(20, 30, 40, 60)


def test_the_threshold_is_a_share_of_the_maximum():
    cam = np.zeros((10, 10))
    cam[4, 2:7] = [0.19, 0.21, 1.0, 0.5, 0.2]
    assert tight_region(cam) == (Box(4, 3, 5, 6), "region")  # 0.2 itself is not above 20 %
    assert tight_region(cam * 700, threshold=0.4).box == Box(4, 4, 5, 6)


def test_diagonal_neighbours_belong_together():
    assert strongest_component(np.eye(4), 0.2) == Box(0, 0, 4, 4)


@pytest.mark.parametrize(("box", "expected"), [
    (Box(40, 40, 70, 50), Box(40, 30, 70, 60)),  # squared about its centre
    (Box(0, 0, 30, 10), Box(0, 0, 30, 30)),  # moved inside
    (Box(90, 190, 100, 200), Box(75, 175, 100, 200)),  # widened to a quarter of the shorter side
    (Box(10, 20, 90, 190), Box(0, 20, 100, 190)),  # the picture is too low for a square of 170
])
def test_square_up(box, expected):
    assert square_up(box, (100, 200), margin=0) == expected


def test_the_margin_is_added_on_each_side():
    assert square_up(Box(40, 80, 60, 100), (100, 200), margin=0.25) == Box(35, 75, 65, 105)


def test_a_square_whose_centre_lies_between_pixels_goes_to_the_later_one():
    assert square_up(Box(40, 20, 61, 40), (80, 60), margin=0) == Box(40, 20, 61, 41)
    assert square_up(Box(40, 20, 60, 41), (80, 60), margin=0) == Box(40, 20, 61, 41)


@pytest.mark.parametrize(("cam", "reason"), [
    (np.full((6, 8), np.nan), "not finite"), (np.full((6, 8), -1.0), "nowhere positive"),
    (np.zeros((6, 8)), "nowhere positive"), (np.full((6, 8), 3.0), "flat"),
    (np.where(np.eye(8) > 0, np.inf, 1.0), "not finite")])
@pytest.mark.parametrize("rule", ["threshold", "released"])
def test_a_degenerate_map_gives_the_whole_picture_and_says_why(cam, reason, rule):
    assert tight_region(cam, rule) == (Box(0, 0, *cam.shape), reason)
    assert level(cam, rule) == np.inf


def test_released_rule_drops_what_overlaps_by_half_of_the_larger():
    grey = np.zeros((120, 200), np.uint8)
    grey[20:100, 20:100] = 60   # above the threshold 20 only
    grey[60:98, 22:98] = 105    # above 20 and 100; less than half of the first
    grey[50:60, 150:160] = 200  # above all three: the same box three times
    # Above 20 the distance reaches 40 pixels, so one pixel is 255 / 40 < 10 and a rim of one goes; above 100 it
    # reaches 19, above 110 it reaches 5, and nothing goes. Of the three small boxes the second is dropped, and the
    # one after it escapes the comparison.
    assert released_boxes(grey) == [
        Box(21, 21, 99, 99), Box(60, 22, 98, 98), Box(50, 150, 60, 160), Box(51, 151, 59, 159)]


def test_released_boxes_keep_five_pixels_from_the_far_edges():
    grey = np.full((50, 60), 255, np.uint8)
    assert released_boxes(grey)[0] == Box(0, 0, 45, 55)


@pytest.mark.parametrize(("rule", "ground", "expected"), [
    ("threshold", "none", 0.25 * 9), ("threshold", "min", 1 + 0.25 * 8), ("threshold", "median", 5 + 0.25 * 4),
    ("released", "none", 1 + 8 * 20 / 255)])
def test_the_level_above_which_a_map_is_region(rule, ground, expected):
    assert level(np.array([[1., 5, 9], [2, 5, 7]]), rule, threshold=0.25, ground=ground) == pytest.approx(expected)


def test_the_level_of_otsu_parts_two_heaps():
    random = np.random.RandomState(0)
    cam = np.concatenate([random.normal(2, 0.3, 700), random.normal(6, 0.3, 300)]).reshape(10, 100)
    assert (cam > level(cam, "otsu")).sum() == 300
    assert level(cam * 50, "otsu") == pytest.approx(50 * level(cam, "otsu"), rel=0.01)


@pytest.mark.parametrize("ground", ["none", "min", "median"])
@pytest.mark.parametrize("rule", ["threshold", "otsu"])
def test_a_region_is_never_empty(rule, ground):
    cam = np.full((9, 9), 3.0)  # the median is the maximum
    cam[:2] = 0.1
    assert tight_region(cam, rule, ground=ground) == (Box(2, 0, 9, 9), "region")

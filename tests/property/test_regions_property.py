import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pycam.cam import PLACEMENTS, place
from pycam.region_rule import RegionRule, find
from pycam.regions import RULES, released_boxes, square_up, tight_region, to_grey

values = st.floats(-4, 4, width=32)
maps = arrays(np.float32, st.tuples(st.integers(8, 30), st.integers(8, 30)), elements=values)
cams = arrays(np.float32, (10, 10), elements=values)
sizes = st.tuples(st.integers(5, 70), st.integers(5, 70))


def region(cam, **rule):
    return find(RegionRule(**rule), cam, "predicted").region


@settings(deadline=None)
@given(maps, st.sampled_from(RULES), st.floats(0, 0.5))
def test_every_box_lies_in_the_picture_and_is_square_where_it_can_be(cam, rule, margin):
    box = region(cam, rule=rule, margin=margin).box
    assert 0 <= box.y0 < box.y1 <= cam.shape[0]
    assert 0 <= box.x0 < box.x1 <= cam.shape[1]
    height, width = box.size
    assert height == width or height == cam.shape[0] or width == cam.shape[1]


@settings(deadline=None)
@given(maps, st.floats(0, 0.5))
def test_the_threshold_box_holds_the_maximum_and_its_component(cam, margin):
    found = region(cam, margin=margin)
    y, x = np.unravel_index(int(cam.argmax()), cam.shape)
    assert found.box.y0 <= y < found.box.y1
    assert found.box.x0 <= x < found.box.x1
    if found.reason == "region":
        tight = tight_region(cam).box
        assert all(a <= b for a, b in zip(found.box[:2], tight[:2]))
        assert all(a >= b for a, b in zip(found.box[2:], tight[2:]))


@settings(deadline=None)
@given(maps, st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_region_does_not_depend_on_the_maps_scale(cam, factor):
    cam = np.where(np.abs(cam) < 1e-30, np.float32(0), cam)  # numbers below 1e-38 lose digits, or become 0
    assert region(cam) == region(cam * np.float32(factor))


@settings(deadline=None)
@example(np.pad(np.float32([[1.1754944e-38]]), (0, 7)))
@given(maps)
def test_released_boxes_come_by_area_and_no_kept_neighbour_covers_the_next(cam):
    if region(cam).reason != "region":
        return
    areas = [box.size[0] * box.size[1] for box in released_boxes(to_grey(cam))]
    assert areas == sorted(areas, reverse=True)


@settings(deadline=None)
@given(cams, sizes, st.sampled_from(PLACEMENTS))
def test_placing_commutes_with_mirroring_and_stays_in_range(cam, size, placement):
    placed = place(cam, size, placement)
    np.testing.assert_allclose(place(cam[:, ::-1], size, placement), placed[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(place(cam.T, size[::-1], placement), placed.T, atol=1e-5)
    assert placed.min() >= min(0, cam.min()) - 1e-5
    assert placed.max() <= max(0, cam.max()) + 1e-5


@given(sizes, st.data())
def test_square_up_never_loses_a_pixel_of_the_box(size, data):
    from pycam.regions import Box
    y0, x0 = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    box = Box(y0, x0, data.draw(st.integers(y0 + 1, size[0])), data.draw(st.integers(x0 + 1, size[1])))
    grown = square_up(box, size)
    assert grown.y0 <= box.y0 < box.y1 <= grown.y1
    assert grown.x0 <= box.x0 < box.x1 <= grown.x1

import pytest

from pycam.regions import Box, Region
from pycam.studies.controls import elsewhere

REGION = Region(Box(10, 20, 40, 60), "region")
SIZE = (100, 200)


@pytest.mark.parametrize(("control", "box"), [("whole", Box(0, 0, 100, 200)), ("centre", Box(35, 80, 65, 120))])
def test_boxes_that_know_nothing_of_the_map(control, box):
    assert elsewhere(REGION, SIZE, control, "a") == (box, control)


def test_random_boxes_keep_the_size_lie_inside_and_depend_on_the_id_alone():
    boxes = [elsewhere(REGION, SIZE, "random", f"ISIC_{number}").box for number in range(200)]
    assert {box.size for box in boxes} == {(30, 40)}
    assert min(box.y0 for box in boxes) < 5
    assert max(box.x1 for box in boxes) > 195
    assert all(box.y0 >= 0 and box.y1 <= 100 and box.x0 >= 0 and box.x1 <= 200 for box in boxes)
    assert boxes[7] == elsewhere(REGION, SIZE, "random", "ISIC_7").box
    moved = Region(Box(0, 0, 30, 40), "region")
    assert boxes[7] == elsewhere(moved, SIZE, "random", "ISIC_7").box


def test_a_region_that_is_the_whole_picture_stays():
    whole = Region(Box(0, 0, *SIZE), "flat")
    assert {elsewhere(whole, SIZE, control, "a").box for control in ("whole", "centre", "random")} == {whole.box}

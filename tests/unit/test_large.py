"""Large pictures: the memory and time that their pixels explain."""

import cv2
import numpy as np
import pytest

from data_tools import hair_fill
from pycam import drawing

from . import limited

FILL = """
import cv2, numpy as np
from data_tools.hair import remove_hair
image = np.full((600, 30000, 3), 190, np.uint8)
for x in range(200, 29000, 700):
    cv2.line(image, (x, 0), (x + 600, 599), (40, 40, 40), 20, cv2.LINE_AA)
assert remove_hair(image)[1].any()
"""
DRAW = """
import numpy as np
from pycam.drawing import overlay
overlay(np.zeros((5000, 8000, 3), np.uint8), np.ones((5000, 8000), np.float32), 1.0)
"""


@pytest.mark.parametrize("program", [FILL, DRAW], ids=["a long strip with hair", "a map over 40 megapixels"])
def test_seconds_and_less_than_a_gigabyte(tmp_path, program):
    code, lines, peak = limited.run(["-c", program], tmp_path, 60)
    assert (code, lines) == (0, [])
    assert peak < 1e9


def test_the_peak_of_a_flat_map_takes_no_gigabyte(tmp_path):
    program = ("import numpy as np\nfrom pycam.studies.localization import peak\n"
               "assert peak(np.zeros((5000, 8000), np.float32)) == (2499, 3999)")
    code, lines, peak = limited.run(["-c", program], tmp_path, 60)
    assert (code, lines) == (0, [])
    assert peak < 1e9


@pytest.mark.slow
def test_the_largest_picture_is_cleaned_below_2_gb(tmp_path):
    image = np.full((5000, 8000, 3), 190, np.uint8)
    for x in range(0, 8000, 200):
        cv2.line(image, (x, 0), (8000 - x, 4999), (40, 40, 40), 20, cv2.LINE_AA)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "p.jpg"), image)
    (tmp_path / "in" / "groundtruth.csv").write_text("image_id,melanoma,seborrheic_keratosis\np,1,0\n")
    code, lines, peak = limited.run(["-m", "data_tools", "clean", "--images", "in", "--out", "out", "--jobs", "1"], tmp_path, 120)
    assert (code, lines) == (0, [])
    assert peak < 2e9


@pytest.mark.slow
def test_the_largest_picture_is_mapped_and_drawn_below_2_gb(tmp_path):
    image, mask, root = np.full((5000, 8000, 3), 190, np.uint8), np.zeros((5000, 8000), np.uint8), limited.ROOT
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "p.jpg"), image)
    cv2.imwrite(str(tmp_path / "in" / "p_segmentation.png"), cv2.circle(mask, (4000, 2500), 900, 255, -1))
    words = ["localize", "--net", root / "prototxt" / "vgg_gap_narrow_deploy.prototxt", "--weights", root / "models" /
             "stage1.caffemodel", "--engine", "torch", "--images", "in", "--masks", "in", "--out", "out", "--draw", "1"]
    code, lines, peak = limited.run(["-m", "pycam", *words], tmp_path, 60)
    assert (code, lines[1:]) == (0, [])  # the first names the engine
    assert (tmp_path / "out" / "pictures" / "p.jpg").is_file()
    assert peak < 2e9


@pytest.mark.parametrize("shape", [(768, 1024), (4459, 6708), (300, 300), (1000, 3999)])
def test_lengths_of_usual_pictures_follow_the_longer_side(shape):
    assert hair_fill._unit(np.zeros(shape, bool)) == max(1.0, max(shape) / hair_fill.REFERENCE)


def test_a_map_is_laid_over_band_by_band(monkeypatch):
    random = np.random.RandomState(0)
    image, cam = random.randint(0, 256, (70, 50, 3)).astype(np.uint8), random.randn(70, 50).astype(np.float32)
    whole = drawing.overlay(image, cam, 1.5)
    monkeypatch.setattr(drawing, "BAND", 8)
    np.testing.assert_array_equal(drawing.overlay(image, cam, 1.5), whole)

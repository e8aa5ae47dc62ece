"""Thresholds, calibration and groups, on cases small enough to count; and where the cells of a map lie."""
import numpy as np
import pytest

from pycam import clinical, metadata
from pycam.cam import place
from pycam.cells import lay
from pycam.drawing import overlay
from pycam.errors import CamError

TRUTH = np.array([True, True, True, False, False, False])
PROB = np.array([.9, .8, .3, .4, .2, .1])


def test_the_confusion_matrix_has_the_true_class_in_its_rows():
    probs = np.array([[.8, .1, .1], [.1, .8, .1], [.1, .1, .8], [.6, .2, .2]])
    np.testing.assert_array_equal(clinical.confusion(np.array([0, 0, 2, 1]), probs), [[1, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_the_threshold_is_where_sensitivity_and_specificity_sum_highest():
    threshold = clinical.choose_threshold(TRUTH, PROB)
    assert threshold == .8  # 2/3 + 1, as at .3: the higher one
    found = clinical.decide(TRUTH, PROB, threshold)
    assert (found.sensitivity[0], found.specificity[0]) == (pytest.approx(2 / 3), 1)
    assert clinical.decide(TRUTH, PROB, .3).specificity[0] == pytest.approx(2 / 3)


def test_a_share_has_wilsons_interval():
    assert clinical.share(8, 10) == pytest.approx((.8, .4901625, .9433178), abs=1e-6)  # Wilson 1927, by R's prop.test(correct=F)
    assert clinical.share(0, 5)[1] == 0
    assert clinical.share(5, 5)[2] == 1


def test_brier_is_the_mean_squared_error_and_known_for_the_share_of_the_class():
    own, constant = clinical.brier(TRUTH, PROB)
    assert own == pytest.approx(((PROB - TRUTH) ** 2).mean())
    assert constant == .25


def test_a_calibration_bin_holds_its_share_of_positives():
    truth, prob = np.tile([True, False, False, False], 10), np.full(40, .25)
    mean, positive = clinical.calibration(truth, prob)
    np.testing.assert_allclose([mean, positive], [[.25], [.25]])


def test_groups_cover_every_picture_once_by_age_and_once_by_sex():
    people = [(39.0, "male"), (40.0, "female"), (60.0, ""), (None, "male")]
    found = clinical.groups(people)
    assert list(found) == ["age under 40", "age 40 to 59", "age 60 and over", "age not known", "sex male", "sex female",
                           "sex not known"]
    for kind in ("age", "sex"):
        np.testing.assert_array_equal(sum(members.astype(int) for name, members in found.items() if name.startswith(kind)), 1)


def test_a_small_group_has_no_auc():
    truth = np.repeat([True, False], [4, 9])
    assert clinical.group_auc(truth, np.linspace(0, 1, 13)) is None
    auc, low, high = clinical.group_auc(np.repeat([True, False], 5), np.linspace(1, 0, 10))
    assert auc == 1
    assert low <= auc <= high


def test_the_table_of_age_and_sex_is_read(tmp_path):
    path = tmp_path / "metadata" / "ISIC-2017_Validation_Data_metadata.csv"
    path.parent.mkdir()
    path.write_text("image_id,age_approximate,sex\na,15,female\nb,unknown,unknown\n")
    assert metadata.find(tmp_path, "val") == path
    assert metadata.find(tmp_path, "test") is None
    assert metadata.read(path) == {"a": (15.0, "female"), "b": (None, "")}
    path.write_text("image_id,age\na,15\n")
    with pytest.raises(CamError, match="the columns are image_id,age; expected image_id,age_approximate,sex"):
        metadata.read(path)
    path.write_text("image_id,age_approximate,sex\na,15\n")
    with pytest.raises(CamError, match="line 2 has another number"):
        metadata.read(path)


# ---------------------------------------------------------------- drawing
def test_cells_lie_where_the_map_is_placed():
    cells = lay((10, 10), (512, 256))
    assert cells.pitch == (32, 16)
    assert cells.first[1] == 16 + 39.5  # the patch's offset, and D16's first centre
    assert cells.box((512, 256)) == (96, 48, 416, 208)
    assert lay((10, 10), (256, 256), views="ten").box((256, 256)) == (32, 32, 224, 224)


def test_a_smooth_map_has_the_cells_values_and_no_corners():
    values = np.random.RandomState(0).rand(10, 10)
    cells, placed = lay((10, 10), (1024, 1024)), place(values, (1024, 1024))
    smooth = cells.smooth(placed)
    centres = [round(cells.first[0] + number * cells.pitch[0]) for number in range(10)]
    np.testing.assert_allclose(smooth[np.ix_(centres, centres)], values, atol=.05)
    row = centres[5]
    bend = [np.abs(np.diff(drawn[row, centres[0]:centres[-1]], 2)).max() for drawn in (placed, cv2_smooth(smooth))]
    assert bend[1] < bend[0] / 2


def cv2_smooth(drawn):
    """Return a map without the steps of OpenCV's coordinates, of a 32nd of a cell."""
    return np.apply_along_axis(lambda line: np.convolve(line, np.ones(9) / 9, "same"), 1, drawn)


def test_a_picture_is_pale_where_the_network_has_no_map():
    image, cells = np.full((256, 256, 3), 100, np.uint8), lay((10, 10), (256, 256))
    drawn = overlay(image, np.ones((256, 256), np.float32), 1.0, cells)
    box = cells.box((256, 256))
    assert (drawn[:box.y0] > 150).all()
    assert len(np.unique(drawn[:box.y0])) == 1  # no colour of the map, though it is repeated to the edge
    assert drawn[128, 128, 2] > drawn[128, 128, 0]

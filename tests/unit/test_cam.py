from pathlib import Path

import cv2
import numpy as np
import pytest

from pycam.cam import VGG_GAP, Grid, cell_centres, class_maps, merge, place, read_grid, select
from pycam.errors import CamError
from pycam.preprocess import views

PROTOTXT = Path(__file__).parents[2] / "prototxt"


def test_maps_are_weighted_sums_of_the_features():
    features = np.array([[[[1, 2]], [[10, 20]]]], np.float32)  # 1 x 2 x 1 x 2
    weights = np.array([[1, 0], [0, 1], [3, -1]], np.float32)
    assert class_maps(features, weights).tolist() == [[[[1, 2]], [[10, 20]], [[-7, -14]]]]


def test_the_mean_of_a_map_plus_the_bias_is_the_score():
    random = np.random.RandomState(0)
    features, weights = random.rand(2, 5, 10, 10), random.randn(3, 5)
    bias = random.randn(3)
    scores = features.mean(axis=(2, 3)) @ weights.T + bias  # what global pooling and the last layer compute
    np.testing.assert_allclose(class_maps(features, weights).mean(axis=(2, 3)) + bias, scores, rtol=1e-12)


def test_cells_of_the_unpadded_map_lie_where_the_padded_grid_has_them():
    assert cell_centres(10).tolist() == [16 * (i + 2) + 7.5 for i in range(10)]


@pytest.mark.parametrize(("name", "first"), [("vgg_gap", 39.5), ("vgg_gap_narrow", 39.5), ("googlenet_gap", 30.0)])
def test_the_grid_is_read_from_the_network(name, first):
    assert read_grid(PROTOTXT / f"{name}_deploy.prototxt") == Grid(first, 16)


LAYER = 'layer {{ name: "{0}" type: "{1}" bottom: "{2}" top: "{0}" {3} }}\n'


def test_the_grid_is_the_middle_of_what_each_cell_sees(tmp_path):
    text = LAYER.format("a", "Convolution", "data", "convolution_param { kernel_size: 7 stride: 2 pad: 3 }")  # middle of -3 ... 3
    text += LAYER.format("b", "Pooling", "a", "pooling_param { kernel_size: 3 stride: 2 }")  # cells 0, 1, 2 below: pixels 0, 2, 4
    text += LAYER.format("CAM_conv", "Convolution", "b", "convolution_param { kernel_size: 3 dilation: 2 }")  # cells 0, 2, 4
    (tmp_path / "net").write_text(text)
    assert read_grid(tmp_path / "net") == Grid(2 + 2 * 4, 4)


def test_branches_that_look_at_different_places_are_refused(tmp_path):
    text = LAYER.format("a", "Convolution", "data", "convolution_param { kernel_size: 3 pad: 1 }")
    text += LAYER.format("b", "Convolution", "data", "convolution_param { kernel_size: 3 }")
    (tmp_path / "net").write_text(text + 'layer { name: "CAM_conv" type: "Concat" bottom: "a" bottom: "b" top: "CAM_conv" }')
    with pytest.raises(CamError, match="CAM_conv joins branches"):
        read_grid(tmp_path / "net")
    (tmp_path / "net").write_text(text)
    with pytest.raises(CamError, match="no blob CAM_conv"):
        read_grid(tmp_path / "net")


def test_windows_that_are_not_square_are_refused(tmp_path):
    tall = "convolution_param { kernel_h: 3 kernel_w: 1 }"
    (tmp_path / "net").write_text(LAYER.format("CAM_conv", "Convolution", "data", tall))
    with pytest.raises(CamError, match="square"):
        read_grid(tmp_path / "net")


CAMS = np.array([[[1, 0]], [[5, -9]], [[2, 3]]], float)  # C x h x w


@pytest.mark.parametrize(("rule", "expected", "name"), [
    ("predicted", [[2, 3]], "nevus"), ("true", [[1, 0]], "melanoma"), ("max", [[5, -9]], "seborrheic_keratosis"),
    ("scored", [[5, -9]], "seborrheic_keratosis"), ("sum", [[8, -6]], "sum"), ("envelope", [[5, 3]], "envelope"),
    ("contrast", [[2 - 3, 3 + 4.5]], "contrast")])
def test_the_map_that_a_rule_takes(rule, expected, name):
    for cams, wanted in ((CAMS, expected), (np.stack([CAMS, CAMS]), [expected, expected])):  # one view, or several
        found, found_name = select(rule, cams, np.array([.1, .3, .6]), label=0)
        np.testing.assert_allclose(found, wanted)
        assert found_name == name


def test_the_true_class_must_be_known():
    with pytest.raises(CamError, match="not known"):
        select("true", CAMS, np.ones(3))


def test_stretching_moves_the_outermost_cells_by_28_8_pixels():
    assert (cell_centres(10) - cell_centres(10, "stretch"))[[0, -1]] == pytest.approx([28.8, -28.8])


@pytest.mark.parametrize("size", [(256, 256), (90, 131), (1022, 767)])
@pytest.mark.parametrize(("grid", "offset"), [(VGG_GAP, 16), (Grid(33, 16, 227), 14), (Grid(7, 11, 100, 100), 0)])
def test_a_ramp_over_the_cells_is_the_pixels_own_coordinate(size, grid, offset):
    centres = cell_centres(10, grid=grid)
    for axis, ramp in ((0, np.tile(centres[:, None], 10)), (1, np.tile(centres, (10, 1)))):
        placed = place(ramp, size, "exact", grid)
        pixel = np.arange(size[axis])
        patch = (pixel + 0.5) / size[axis] * grid.size - 0.5 - offset
        expected = np.clip(patch, centres[0], centres[-1])  # the nearest value beyond the outermost cells
        np.testing.assert_allclose(np.moveaxis(placed, axis, 0)[:, 3], expected, atol=1e-3)


def test_stretch_is_what_resizing_the_map_to_the_patch_gives():
    cam = np.random.RandomState(1).rand(10, 10).astype(np.float32)
    placed = place(cam, (256, 256), "stretch")
    np.testing.assert_allclose(placed[16:-16, 16:-16], cv2.resize(cam, (224, 224)), atol=1e-5)


def test_stretch_follows_the_side_of_the_input():
    cam = np.random.RandomState(1).rand(10, 10).astype(np.float32)
    placed = place(cam, (100, 100), "stretch", Grid(7, 11, 100, 100))
    np.testing.assert_allclose(placed, cv2.resize(cam, (100, 100)), atol=1e-5)


def test_fading_is_exact_between_the_cells_and_nothing_beyond_the_next():
    cam = np.random.RandomState(1).rand(10, 10).astype(np.float32)
    placed, exact = place(cam, (256, 256), "fade"), place(cam, (256, 256), "exact")
    np.testing.assert_array_equal(placed[56:200, 56:200], exact[56:200, 56:200])
    assert placed[:39].max() == placed[:, 217:].max() == 0  # 16 + 39.5 - 16
    np.testing.assert_allclose(placed[47, 56:200], exact[47, 56:200] * 7.5 / 16, rtol=1e-5)


def test_all_classes_are_placed_as_each_alone():
    cams = np.random.RandomState(2).rand(3, 10, 10)
    together = place(cams, (40, 60))
    assert together.shape == (3, 40, 60)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together[1], place(cams[1], (40, 60)))


@pytest.mark.parametrize("grid", [VGG_GAP, Grid(30.0, 16)])
def test_ten_views_of_a_map_that_is_the_same_everywhere_count_the_views(grid):
    placed = merge(np.ones((10, 10, 10)), (256, 256), "exact", grid)
    assert placed[128, 128] == 10
    assert placed[0, 0] == placed[255, 0] == placed[0, 255] == 2  # one corner view and its mirrored twin
    assert placed[20, 20] == 4  # and the centre


@pytest.mark.parametrize(("grid", "count"), [(VGG_GAP, 10), (Grid(30.0, 16), 12), (Grid(20, 15, 180, 200), 10)])
def test_ten_views_of_one_spot_meet_there(grid, count):
    """Views are cut from a picture, a stand-in for the network reads each at its cells; the merged map is the picture."""
    image = np.zeros((256, 256, 3), np.uint8)
    distance = np.hypot(*(np.mgrid[:256, :256] - np.array([90, 150])[:, None, None]))
    image[...] = np.clip(255 - 6 * distance, 0, 255)[..., None]
    cells = cell_centres(count, grid=grid).astype(int)
    ten = views(image, "ten", size=grid.size, patch=grid.patch)
    cams = np.stack([view[np.ix_(cells, cells)][..., 0].astype(float) for view in ten])
    placed = merge(cams, (256, 256), grid=grid)
    y, x = np.unravel_index(placed.argmax(), placed.shape)
    assert abs(y - 90) < 6  # less than half a cell
    assert abs(x - 150) < 6
    assert placed.max() > 0.8 * sum(cam.max() for cam in cams)  # a view mirrored the wrong way would not meet the others


def test_merging_one_view_is_placing_it():
    cams = np.random.RandomState(3).rand(1, 3, 10, 10)
    np.testing.assert_array_equal(merge(cams, (40, 60), "stretch"), place(cams[0], (40, 60), "stretch"))
    together = merge(np.random.RandomState(3).rand(10, 3, 10, 10), (40, 60))
    np.testing.assert_array_equal(together[1], merge(np.random.RandomState(3).rand(10, 3, 10, 10)[:, 1], (40, 60)))

import cv2
import numpy as np
import pytest

from pycam.cam import cell_centres, class_maps, place


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
    assert cell_centres(14).tolist() == [16 * i + 7.5 for i in range(14)]


def test_stretching_moves_the_outermost_cells_by_28_8_pixels():
    assert (cell_centres(10) - cell_centres(10, "stretch"))[[0, -1]] == pytest.approx([28.8, -28.8])


@pytest.mark.parametrize("size", [(256, 256), (90, 131), (1022, 767)])
def test_a_ramp_over_the_cells_is_the_pixels_own_coordinate(size):
    centres = cell_centres(10)
    for axis, ramp in ((0, np.tile(centres[:, None], 10)), (1, np.tile(centres, (10, 1)))):
        placed = place(ramp, size)
        pixel = np.arange(size[axis])
        patch = (pixel + 0.5) / size[axis] * 256 - 0.5 - 16
        expected = np.clip(patch, centres[0], centres[-1])  # the nearest value beyond the outermost cells
        np.testing.assert_allclose(np.moveaxis(placed, axis, 0)[:, 3], expected, atol=1e-3)


def test_stretch_is_what_resizing_the_map_to_the_patch_gives():
    cam = np.random.RandomState(1).rand(10, 10).astype(np.float32)
    placed = place(cam, (256, 256), "stretch")
    np.testing.assert_allclose(placed[16:-16, 16:-16], cv2.resize(cam, (224, 224)), atol=1e-5)


def test_all_classes_are_placed_as_each_alone():
    cams = np.random.RandomState(2).rand(3, 10, 10)
    together = place(cams, (40, 60))
    assert together.shape == (3, 40, 60)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together[1], place(cams[1], (40, 60)))

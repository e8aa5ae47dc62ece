import re
from pathlib import Path

import numpy as np
import pytest

from pycam.preprocess import MEAN_BGR, VIEWS, to_blob, views

PROTOTXT = Path(__file__).parents[2] / "prototxt"


def test_the_mean_is_the_one_of_every_training_net():
    nets = {path.name: path.read_text() for path in PROTOTXT.glob("*train_val.prototxt")}
    assert nets
    for name, text in nets.items():
        means = [float(v) for v in re.findall(r"mean_value:\s*([\d.]+)", text)]
        assert means, name
        assert means == list(MEAN_BGR) * (len(means) // 3), name


def test_blob_is_planar_bgr_less_the_mean():
    patch = np.zeros((4, 5, 3), np.uint8)
    patch[1, 2] = [10, 20, 30]  # blue, green, red
    blob = to_blob([patch, patch])
    assert blob.shape == (2, 3, 4, 5)
    assert blob.dtype == np.float32
    np.testing.assert_allclose(blob[1, :, 1, 2] + np.float32(MEAN_BGR), [10, 20, 30], atol=1e-4)


def coordinates(size=256):
    """A picture whose pixels say where they are: blue the row, green the column."""
    image = np.zeros((size, size, 3), np.uint8)
    image[..., 0] = np.arange(size)[:, None]
    image[..., 1] = np.arange(size)
    return image


def test_centre_view():
    (patch,) = views(coordinates())
    assert patch.shape == (224, 224, 3)
    assert patch[0, 0, :2].tolist() == [16, 16]
    assert patch[-1, -1, :2].tolist() == [239, 239]


def test_ten_views_are_four_corners_and_centre_and_the_mirrored_picture():
    ten = views(coordinates(), "ten")
    starts = {tuple(patch[0, 0, :2].tolist()) for patch in ten[:5]}
    assert starts == {(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)}
    assert all(patch[0, 0, 1] > patch[0, -1, 1] for patch in ten[5:])  # columns run backwards
    assert len({patch.tobytes() for patch in ten}) == VIEWS["ten"] == 10


@pytest.mark.parametrize("size", [(512, 700), (100, 90), (256, 300)])
def test_a_whole_picture_of_any_size_is_squeezed_into_the_view(size):
    image = np.zeros((*size, 3), np.uint8)
    image[:size[0] // 2, :, 0] = 200
    image[:, :size[1] // 2, 2] = 100
    (patch,) = views(image)
    assert patch[56, 168].tolist() == [200, 0, 0]
    assert patch[168, 56].tolist() == [0, 0, 100]

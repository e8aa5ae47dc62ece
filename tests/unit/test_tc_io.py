"""pycaffe's io on today's numpy and scikit-image."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from torchcaffe import io
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2 as pb

RANDOM = np.random.RandomState(0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 4), (1, 2, 3, 4)])
def test_blobs_there_and_back(shape):
    values, diff = (np.asarray(RANDOM.randn(*shape), np.float32) for _ in range(2))
    blob = io.array_to_blobproto(values, diff)
    np.testing.assert_array_equal(io.blobproto_to_array(blob), values)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), diff)
    text = io.arraylist_to_blobprotovector_str([values, np.ones(2)])
    found = io.blobprotovector_str_to_arraylist(text)
    np.testing.assert_array_equal(found[0], values)
    np.testing.assert_array_equal(found[1], [1, 1])


@pytest.mark.parametrize(("kind", "field"), [(np.uint8, "data"), (np.float32, "float_data"), (int, "float_data")])
def test_datums_there_and_back(kind, field):
    picture = RANDOM.randint(0, 256, (3, 4, 5)).astype(kind)
    datum = io.array_to_datum(picture, label=2)
    assert (datum.label, datum.channels, datum.height, datum.width) == (2, 3, 4, 5)
    assert getattr(datum, field)
    found = io.datum_to_array(datum)
    np.testing.assert_array_equal(found, picture)
    found[...] = 0  # a copy of its own
    assert not io.array_to_datum(picture).HasField("label")


REFUSED = [
    lambda: io.array_to_datum(np.zeros((3, 4))),
    lambda: io.array_to_blobproto(np.zeros(3), np.zeros(2)),
    lambda: io.datum_to_array(pb.Datum(channels=1, height=1, width=1, data=b"ab")),
    lambda: io.datum_to_array(pb.Datum(data=b"ab", encoded=True)),
    lambda: io.blobproto_to_array(pb.BlobProto(data=[1, 2])),
    lambda: io.oversample([np.zeros((4, 4, 3))], (5, 2)),
    lambda: io.Transformer({"data": (1, 3, 4, 4)}).set_mean("data", np.zeros(2)),
    lambda: io.Transformer({"data": (1, 3, 4, 4)}).set_mean("data", np.zeros((2, 4, 4))),
]


@pytest.mark.parametrize("action", REFUSED)
def test_shapes_that_do_not_fit(action):
    with pytest.raises(io.ArrayError) as caught:
        action()
    assert isinstance(caught.value, (CaffeError, ValueError))
    assert "\n" not in str(caught.value)


PICTURES = [  # picture as written (BGR), colour?, what load_image gives at (0, 0)
    (np.full((3, 4, 3), (0, 51, 255), np.uint8), True, (1, 0.2, 0)),
    (np.full((3, 4, 3), (51, 51, 51), np.uint8), False, (0.2,)),
    (np.full((3, 4, 4), (0, 51, 255, 9), np.uint8), True, (1, 0.2, 0)),
    (np.full((3, 4), 51, np.uint8), True, (0.2, 0.2, 0.2)),
    (np.full((3, 4), 51, np.uint8), False, (0.2,)),
    (np.full((3, 4), 65535, np.uint16), False, (1,)),
]


@pytest.mark.parametrize(("picture", "color", "expected"), PICTURES)
def test_load_image(tmp_path, picture, color, expected):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    found = io.load_image(str(tmp_path / "a.png"), color)
    assert found.shape == (3, 4, len(expected))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_load_image_names_the_file(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaffeError, match=r"a\.png"):
        io.load_image(str(path))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_resize_image(channels):
    ramp = np.tile(np.linspace(-3, 9, 20)[None, :, None], (10, 1, channels))
    found = io.resize_image(ramp, (5, 40))
    assert found.shape == (5, 40, channels)
    assert found.dtype == np.float32
    inner = found[2, 2:-2, 0]
    np.testing.assert_allclose(np.diff(inner), np.diff(inner).mean(), rtol=1e-3)  # a ramp stays a ramp
    constant = io.resize_image(np.full((4, 4, channels), 2.5), (3, 7))
    np.testing.assert_array_equal(constant, np.full((3, 7, channels), 2.5, np.float32))


def test_oversample():
    rows, columns = np.mgrid[:5, :8]
    picture = np.stack([rows, columns], 2)
    crops = io.oversample([picture, picture + 100], (3, 4))
    assert crops.shape == (20, 3, 4, 2)
    assert crops[:5, 0, 0].tolist() == [[0, 0], [0, 4], [2, 0], [2, 4], [1, 2]]
    np.testing.assert_array_equal(crops[5:10], crops[:5, :, ::-1])
    np.testing.assert_array_equal(crops[10:], crops[:10] + 100)


@pytest.fixture
def transformer():
    transformer = io.Transformer({"data": (10, 3, 6, 7)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 0, 1))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([10.0, 20, 30]))
    transformer.set_input_scale("data", 0.5)
    return transformer


def test_preprocess(transformer):
    picture = RANDOM.rand(6, 7, 3).astype(np.float32)
    before = picture.copy()
    found = transformer.preprocess("data", picture)
    for channel, (source, mean) in enumerate([(2, 10), (0, 20), (1, 30)]):
        np.testing.assert_allclose(found[channel], (before[:, :, source] * 255 - mean) / 2, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_allclose(transformer.deprocess("data", found[None]), picture, atol=1e-6)


def test_preprocess_leaves_its_argument_alone():
    transformer, picture = io.Transformer({"data": (1, 3, 6, 7)}), np.ones((6, 7, 3), np.float32)
    transformer.set_raw_scale("data", 255)
    assert (transformer.preprocess("data", picture) == 255).all()
    assert (picture == 1).all()


def test_preprocess_resizes(transformer):
    found = transformer.preprocess("data", np.full((60, 30, 3), 0.4))
    assert found.shape == (3, 6, 7)
    np.testing.assert_allclose(found[:, 3, 3], (102 - np.array([10, 20, 30])) / 2, rtol=1e-5)


@pytest.mark.parametrize(("mean", "shape"), [
    (np.ones(3), (3, 1, 1)), (np.ones((6, 7)), (1, 6, 7)), (np.ones((3, 6, 7)), (3, 6, 7)),
    (np.arange(27.0).reshape(3, 3, 3), (3, 6, 7)), (np.ones((3, 12, 14)), (3, 6, 7)),
])  # fmt: skip
def test_means(transformer, mean, shape):
    transformer.set_mean("data", mean)
    assert transformer.mean["data"].shape == shape
    assert transformer.preprocess("data", np.zeros((6, 7, 3))).shape == (3, 6, 7)


@pytest.mark.parametrize("action", [
    lambda t: t.preprocess("label", np.zeros((2, 2, 3))), lambda t: t.set_transpose("data", (1, 0)),
    lambda t: t.set_channel_swap("data", (1, 0)), lambda t: t.set_raw_scale("x", 1), lambda t: t.set_input_scale("x", 1),
])  # fmt: skip
def test_wrong_settings(transformer, action):
    with pytest.raises(CaffeError):
        action(transformer)


@pytest.mark.parametrize("module", ["torchcaffe.io", "torchcaffe.net_spec", "torchcaffe.proto", "torchcaffe.netparam"])
def test_needs_no_torch(module):
    program = f"import sys; sys.modules['torch'] = None; import torchcaffe, {module}"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

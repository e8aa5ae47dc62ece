"""What goes into a net: windows of pictures, arrays, datasets, a user's layer; faults of these are one line."""

import sys
import types

import cv2
import h5py
import numpy as np
import pytest

import torchcaffe as caffe

DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
"""
# of real Caffe's Detector.crop, with whole numbers where its Python of today needs them: context_pad, window, sum, values at
# (1, 1) and (3, 4), how many rows of each column show the picture
CROPS = [
    (1, (0, 0, 10, 15), 12.8601, 0.0219, 0.2143, [0, 7, 7, 7, 7, 7, 7, 7]),
    (1, (12, 20, 20, 30), 27.9977, 0.5543, 0.7, [7, 7, 7, 7, 7, 7, 0, 0]),
    (2, (5, 10, 15, 20), 23.3489, 0.1898, 0.4438, [7, 7, 7, 7, 7, 7, 7, 7]),
    (2, (3, 0, 4, 30), 7.2618, 0.0, 0.2799, [0, 0, 8, 8, 8, 8, 0, 0]),
    (3, (0, 0, 10, 15), 6.1146, 0.0, 0.1611, [0, 0, 0, 4, 4, 4, 4, 0]),
    (3, (5, 10, 15, 20), 9.4499, 0.0, 0.38, [0, 4, 4, 4, 4, 4, 4, 0]),
]  # fmt: skip


@pytest.fixture
def deploy(tmp_path):
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    files = str(tmp_path / "deploy.prototxt"), str(tmp_path / "w.caffemodel")
    caffe.Net(files[0], caffe.TEST).save(files[1])
    return files


# ------------------------------------------------------------ pictures
@pytest.mark.parametrize(("pad", "window", "total", "first", "second", "shown"), CROPS)
def test_windows_with_their_surroundings(deploy, pad, window, total, first, second, shown):
    picture = np.float32(0.03) * np.arange(20)[:, None, None] + np.float32(0.01) * np.arange(30)[:, None] + np.zeros(3)
    crop = caffe.Detector(*deploy, context_pad=pad).crop(picture.astype(np.float32), window)[:, :, 0]
    np.testing.assert_allclose([crop.sum(), crop[1, 1], crop[3, 4]], [total, first, second], atol=2e-4)
    assert (crop != 0).sum(0).tolist() == shown


def test_windows_that_show_nothing(deploy):
    detector = caffe.Detector(*deploy, context_pad=1)
    with pytest.raises(caffe.CaffeError, match="lies outside of its picture, 20 x 30"):
        detector.crop(np.zeros((20, 30, 3), np.float32), (40, 0, 60, 10))
    assert detector.detect_windows([]) == []
    with pytest.raises(caffe.CaffeError, match="context_pad 4 leaves nothing of an input of 8 x 8 pixels"):
        caffe.Detector(*deploy, context_pad=4)


def test_pictures_to_classify(deploy):
    picture = np.zeros((20, 20, 3), np.float32)
    with pytest.raises(caffe.CaffeError, match=r"image_dims \[6, 9\] are smaller than the input \[8, 8\]"):
        caffe.Classifier(*deploy, image_dims=(6, 9)).predict([picture], oversample=False)
    with pytest.raises(caffe.CaffeError, match="no pictures to classify"):
        caffe.Classifier(*deploy).predict([])


def test_transparent_pictures_in_grey_lie_on_white(tmp_path):
    path = str(tmp_path / "p.png")
    cv2.imwrite(path, np.array([[[0, 0, 255, 255], [0, 0, 255, 0], [0, 0, 0, 51]]], np.uint8))
    np.testing.assert_allclose(caffe.io.load_image(path, color=False).ravel(), [0.2125, 1, 0.8], atol=1e-5)
    np.testing.assert_allclose(caffe.io.load_image(path)[0], [[1, 0, 0], [1, 0, 0], [0, 0, 0]])


# ------------------------------------------------------------ arrays and datasets
def test_passes_over_arrays_need_some(make_net):
    net = make_net(DEPLOY)
    for run in (net.forward_all, net.forward_backward_all):
        with pytest.raises(caffe.CaffeError, match="no arrays for the net's inputs"):
            run()


def hdf5_net(make_net, tmp_path, shapes, top="data"):
    for i, shape in enumerate(shapes):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["data"] = np.zeros(shape, np.float32)
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{i}.h5\n" for i in range(len(shapes))))
    return make_net(f'layer {{ name: "h" type: "HDF5Data" top: "{top}" '
                    f'hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: 4 }} }}')


def test_rows_of_all_hdf5_files_are_alike(make_net, tmp_path):
    net = hdf5_net(make_net, tmp_path, [(4, 5), (4, 7)])
    net.forward()
    with pytest.raises(caffe.CaffeError, match=r"'h' .*1\.h5: its rows have shapes \[\(7,\)\], those of .*0\.h5 \[\(5,\)\]"):
        net.forward()


def test_a_missing_dataset_names_its_layer(make_net, tmp_path):
    with pytest.raises(caffe.CaffeError, match=r"layer 'h' \(HDF5Data\): .* in HDF5: 'nope' of / is missing$"):
        hdf5_net(make_net, tmp_path, [(4, 5)], top="nope")


@pytest.mark.parametrize(("field", "fault"), [
    ("shape { dim: -1 }", "layer 'x' .*a dim of its shape is below 0"), ("", "shape must be given once"),
    ("num: 2 height: 1 width: 1", "num, channels, height, width: each must be given once")])
def test_shapes_of_dummy_data(make_net, field, fault):
    with pytest.raises(caffe.CaffeError, match=fault):
        make_net(f'layer {{ name: "x" type: "DummyData" top: "x" dummy_data_param {{ {field} }} }}')


# ------------------------------------------------------------ a user's layer
@pytest.mark.parametrize("missing", ["reshape", "forward"])
def test_a_layer_without_its_methods_is_one_line(make_net, monkeypatch, missing):
    methods = {name: lambda self, bottom, top: None for name in ("setup", "reshape", "forward") if name != missing}
    module = types.ModuleType("halves")
    module.Half = type("Half", (caffe.Layer,), methods)
    monkeypatch.setitem(sys.modules, "halves", module)
    with pytest.raises(caffe.CaffeError, match=f"layer 'p' .*its class 'Half' has no method {missing}"):
        make_net('layer { name: "p" type: "Python" top: "y" python_param { module: "halves" layer: "Half" } }')

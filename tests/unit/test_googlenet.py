"""GoogLeNet-GAP (D19): its network, and the way from plain arrays to weights that both engines read."""

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

import torchcaffe
from pycam import __main__ as pycam
from pycam import weight_arrays
from pycam.errors import CamError
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
CAFFE = Path(os.environ.get("SKIN_CAFFE") or ROOT / ".caffe" / "bin" / "python3")
PUBLISHED_PARAMETERS = 6998552  # of BVLC's GoogLeNet without its two auxiliary classifiers
TINY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 5 } } }
layer { name: "a/3x3" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "a" top: "fc" inner_product_param { num_output: 4 } }
"""


def read(name):
    return text_format.Parse((ROOT / "prototxt" / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())


def test_the_whole_network_has_the_published_number_of_parameters():
    net = torchcaffe.Net(str(ROOT / "prototxt" / "googlenet_deploy.prototxt"), torchcaffe.TEST)
    assert sum(blob.count for blobs in net.params.values() for blob in blobs) == PUBLISHED_PARAMETERS
    assert net.blobs["pool5/7x7_s1"].shape[1:] == (1024, 1, 1)


def test_the_head_stands_on_inception_4e():
    net = torchcaffe.Net(str(ROOT / "prototxt" / "googlenet_gap_deploy.prototxt"), torchcaffe.TEST)
    assert net.blobs["inception_4e/output"].shape == (1, 832, 14, 14)
    assert net.blobs["CAM_conv"].shape == (1, 1024, 12, 12)
    assert net.params["CAM_conv"][0].shape == (1024, 416, 3, 3)
    assert net.params["CAM_fc3"][0].shape == (3, 1024)
    whole = {layer.name: layer.convolution_param for layer in read("googlenet_deploy").layer if layer.type == "Convolution"}
    shared = [layer for layer in read("googlenet_gap_deploy").layer if layer.name in whole]
    assert len(shared) == 3 + 6 * 7
    assert all(layer.convolution_param == whole[layer.name] for layer in shared)


def test_fine_tuning_keeps_what_lies_below_inception_4a():
    layers = [layer for layer in read("googlenet_gap_train_val").layer if layer.param]
    rates = {layer.name: layer.param[0].lr_mult for layer in layers}
    kept = ("conv1/", "conv2/", "inception_3a/", "inception_3b/")
    assert {name for name, rate in rates.items() if rate == 0} == {name for name in rates if name.startswith(kept)}
    assert {name for name, rate in rates.items() if rate == 10} == {"CAM_conv", "CAM_fc3"}
    filled = [layer.name for layer in layers if layer.convolution_param.HasField("weight_filler")
              or layer.inner_product_param.HasField("weight_filler")]
    assert filled == ["CAM_conv", "CAM_fc3"]


@pytest.fixture
def tiny(tmp_path):
    """A small net, random arrays for it, and how to import them."""
    (tmp_path / "net.prototxt").write_text(TINY)
    random = np.random.default_rng(0)
    arrays = {"a/3x3_w": random.normal(size=(2, 3, 3, 3)).astype(np.float16), "a/3x3_b": np.ones(2, np.float32),
              "fc_w": random.normal(size=(4, 18)), "fc_b": np.zeros(4), "other_w": np.zeros(1)}

    def run(**changes):
        kept = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
        np.savez(tmp_path / "arrays.npz", **kept)
        return pycam.main(["weights", "import", "--net", str(tmp_path / "net.prototxt"), "--engine", "torch", "--weights",
                           str(tmp_path / "arrays.npz"), "--out", str(tmp_path / "new" / "net.caffemodel")])
    run.folder, run.arrays = tmp_path, arrays
    return run


def test_arrays_become_weights(tiny):
    assert tiny() == 0
    net = torchcaffe.Net(str(tiny.folder / "net.prototxt"), str(tiny.folder / "new" / "net.caffemodel"), torchcaffe.TEST)
    assert np.array_equal(net.params["a/3x3"][0].data, tiny.arrays["a/3x3_w"].astype(np.float32))
    assert np.array_equal(net.params["fc"][0].data, tiny.arrays["fc_w"].astype(np.float32))
    assert [path.name for path in (tiny.folder / "new").iterdir()] == ["net.caffemodel"]


@pytest.mark.caffe
@pytest.mark.skipif(not CAFFE.is_file(), reason=f"no real Caffe: {CAFFE} is missing (SKIN_CAFFE names another)")
def test_real_caffe_reads_them(tiny):
    assert tiny() == 0
    program = ("import caffe, json; net = caffe.Net('net.prototxt', 'new/net.caffemodel', caffe.TEST); "
               "print(json.dumps(net.params['a/3x3'][0].data.ravel().tolist()))")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run([str(CAFFE), "-c", program], cwd=tiny.folder, env=environment, capture_output=True, text=True,
                         check=True)
    assert json.loads(run.stdout) == tiny.arrays["a/3x3_w"].astype(float).ravel().tolist()


@pytest.mark.parametrize(("changes", "words"), [
    ({"fc_b": None}, "arrays.npz: other shapes than the network has in fc;"),
    ({"fc_w": np.zeros((4, 17))}, "arrays.npz: other shapes than the network has in fc;"),
    ({"fc_w": np.zeros((1, 1, 2, 3, 3))}, "arrays.npz: other shapes than the network has in fc;"),
    ({"fc_b": np.full(4, np.nan)}, "arrays.npz: values that are not finite in fc"),
    ({"fc_w": np.array(["text"])}, "arrays.npz: neither an .npz file of plain arrays nor"),
    (dict.fromkeys(("a/3x3_w", "a/3x3_b", "fc_w", "fc_b")), "arrays.npz: fills no layer of the network"),
    (dict.fromkeys(("a/3x3_w", "a/3x3_b", "fc_w", "fc_b", "other_w")), "arrays.npz: no arrays named <layer>_w"),
])
def test_arrays_that_do_not_fit_are_one_line(tiny, capsys, changes, words):
    assert tiny(**changes) == 1
    error = capsys.readouterr().err
    assert words in error.splitlines()[-1]
    assert not (tiny.folder / "new").exists()


def test_layers_that_the_file_lacks_stay_fresh(tiny, capsys):
    assert tiny(fc_w=None, fc_b=None) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 layers; fresh, as the net's fillers make them: fc")
    model = caffe_pb2.NetParameter.FromString((tiny.folder / "new" / "net.caffemodel").read_bytes())
    assert [layer.name for layer in model.layer] == ["a/3x3"]


def write_keras(path, arrays):
    """Write arrays of Caffe's shapes as Keras writes VGG-16: kernels height x width x inputs x outputs."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1", b"block1_pool"]
        file.create_group("block1_pool")
        for name, (kernel, bias) in arrays.items():
            file[f"{name}/{name}_W_1:0"] = kernel.transpose(2, 3, 1, 0)
            file[f"{name}/{name}_b_1:0"] = bias


def test_the_file_of_keras_becomes_weights(tmp_path, capsys):
    random = np.random.default_rng(0)
    wanted = {"block1_conv1": (random.normal(size=(8, 3, 3, 3)).astype(np.float32), np.arange(8, dtype=np.float32)),
              "block1_conv2": (random.normal(size=(8, 8, 3, 3)).astype(np.float32), np.ones(8, np.float32))}
    write_keras(tmp_path / "vgg.h5", wanted)
    words = ["weights", "import", "--net", str(ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"), "--engine", "torch",
             "--weights", str(tmp_path / "vgg.h5"), "--out", str(tmp_path / "vgg.caffemodel")]
    assert pycam.main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown if " copied " in line] == ["conv1_1", "conv1_2"]
    model = caffe_pb2.NetParameter.FromString((tmp_path / "vgg.caffemodel").read_bytes())
    found = {layer.name: [np.array(blob.data, np.float32).reshape(tuple(blob.shape.dim)) for blob in layer.blobs]
             for layer in model.layer}
    for name, arrays in wanted.items():
        assert all(map(np.array_equal, found[name.replace("block", "conv").replace("_conv", "_")], arrays))
    (tmp_path / "vgg.h5").write_bytes((tmp_path / "vgg.h5").read_bytes()[:1000])
    assert pycam.main(words) == 1
    assert "vgg.h5: not Keras' VGG-16" in capsys.readouterr().err.splitlines()[-1]


def test_what_is_no_array_file_is_one_line(tiny, capsys):
    (tiny.folder / "arrays.npz").write_bytes(b"no zip")
    assert pycam.main(["weights", "import", "--net", str(tiny.folder / "net.prototxt"), "--engine", "torch", "--weights",
                       str(tiny.folder / "arrays.npz"), "--out", str(tiny.folder / "x.caffemodel")]) == 1
    assert "neither an .npz file" in capsys.readouterr().err


def npz(path, change=None, **arrays):
    """Write an .npz file; `change` gets and returns its bytes."""
    np.savez_compressed(path, **arrays)
    if change:
        path.write_bytes(change(path.read_bytes()))


def huge(path):
    """Write an .npz file whose one array says that it has 40 GB."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**5, 10**5)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fc_w.npy", head.getvalue())
        archive.writestr("fc_b.npy", b"no array")


ODD = {
    "an .npy file": (lambda path: path.write_bytes(b"\x93NUMPY\x01\0v\0" + bytes(118)), "neither an .npz file"),
    "text": (lambda path: npz(path, fc_w=np.full((2, 3), "a"), fc_b=np.zeros(2)), "holds <U1"),
    "objects": (lambda path: npz(path, fc_w=np.full((2, 3), None), fc_b=np.zeros(2)), "holds object"),
    "complex": (lambda path: npz(path, fc_w=np.zeros((2, 3), complex), fc_b=np.zeros(2)), "holds complex128"),
    "records": (lambda path: npz(path, fc_w=np.zeros((2, 3), [("a", "f4")]), fc_b=np.zeros(2)), "expected numbers"),
    "40 GB": (huge, r"a blob of shape \(100000, 100000\)"),
    "cut off": (lambda path: npz(path, lambda data: data[:-30], fc_w=np.zeros((2, 3)), fc_b=np.zeros(2)), "neither an .npz file"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "a FIFO": (lambda path: os.mkfifo(path), "not a regular file"),
    "bad pixels": (lambda path: npz(path, lambda data: data[:90] + b"\xff" * 20 + data[110:], fc_w=np.zeros((2, 3)),
                                    fc_b=np.zeros(2)), "neither an .npz file|no arrays named"),
}


@pytest.mark.parametrize(("write", "words"), ODD.values(), ids=ODD)
def test_odd_arrays_are_refused_in_one_line(tmp_path, write, words):
    write(tmp_path / "w.npz")
    with pytest.raises(CamError, match=words) as caught:
        weight_arrays.read(tmp_path / "w.npz")
    assert "\n" not in str(caught.value)

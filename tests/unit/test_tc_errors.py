"""What real Caffe aborts on is one line here, and it names the place."""

import os
import subprocess
import sys

import lmdb
import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe.proto import caffe_pb2 as pb

X = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }\n'
IP = X + ('layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param {{ num_output: {0} '
          'weight_filler {{ type: "msra" }} }} }}').replace("{0}", "%d").replace("{{", "{").replace("}}", "}")  # fmt: skip


def layer(fields):
    return X + f'layer {{ name: "it" {fields} }}'


NETS = [
    (layer('type: "Foo" bottom: "x" top: "y"'), "layer 'it': type 'Foo' is not supported; does a fork of Caffe have it"),
    (layer('type: "ReLU" bottom: "z" top: "y"'), "unknown bottom blob 'z'"),
    (layer('type: "ReLU" bottom: "x" top: "y" kernal: 3'),
     'no field named "kernal"; does a fork of Caffe have it. leave it out'),
    (layer('type: "Pooling" pooling_param { kernel_siz: 3 }'), 'no field named "kernel_siz"; did you mean kernel_size.$'),
    (layer('type: "ReLU" bottom: "x" bottom: "x" top: "y"'), "layer 'it' .ReLU.: has 2 bottoms, takes 1"),
    (layer('type: "ReLU" bottom: "x" top: "y" top: "z"'), "has 2 tops, takes 1"),
    (layer('type: "Convolution" bottom: "x" top: "y"'), "kernel_size is missing"),
    (layer('type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4 kernel_size: 9 }'),
     "smaller than the kernel"),
    (layer('type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4 kernel_size: 1 group: 2 }'),
     "group 2 must divide the 3 channels"),
    (layer('type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4 kernel_size: 1 kernel_h: 2 kernel_w: 2 }'),
     "either kernel_size or kernel_h"),
    (layer('type: "Pooling" bottom: "x" top: "y" pooling_param { pool: STOCHASTIC kernel_size: 2 }'),
     "STOCHASTIC is not supported"),
    (layer('type: "Pooling" bottom: "x" top: "y" pooling_param { kernel_size: 2 global_pooling: true }'), "no kernel size"),
    (layer('type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 axis: 7 }'), "axis 7 is outside"),
    (layer('type: "Data" top: "y" data_param { source: "/nowhere" batch_size: 1 backend: LMDB }'),
     "source '/nowhere': no LMDB there"),
    (layer('type: "Data" top: "y" data_param { source: "/nowhere" batch_size: 1 }'), "LEVELDB is not supported"),
    (layer('type: "ImageData" top: "y" top: "l" image_data_param { source: "/nowhere" }'), "source '/nowhere': No such file"),
    (layer('type: "Eltwise" bottom: "x" top: "y"'), "has 1 bottoms, takes at least 2"),
    (layer('type: "Dropout" bottom: "x" top: "y" dropout_param { dropout_ratio: 1 }'), "must be at least 0 and below 1"),
    (layer('type: "Clip" bottom: "x" top: "y" clip_param { min: 1 max: -1 }'), "min is 1, max is -1; min must not be above max"),
    (layer('type: "MVN" bottom: "x" top: "y"').replace("dim: ", "dim: 1 dim: ", 1), "it may have 4 axes at most"),
    (layer('type: "Python" bottom: "x" top: "y" python_param { module: "nowhere" layer: "L" }'), "is it on PYTHONPATH"),
    (layer('type: "ReLU" bottom: "x" top: "x" loss_weight: 1 loss_weight: 2'), "2 loss_weight for 1 tops"),
    (layer('type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 bias_term: false } param {} param {}'),
     "2 param entries for 1 parameters"),
    (X + X, "already the top of another layer"),
    (layer('type: "Reshape" bottom: "x" top: "y" reshape_param { shape { dim: 5 dim: -1 } }'), "another number of values"),
    (layer('type: "Concat" bottom: "x" bottom: "x" top: "y" concat_param { axis: 4 }'), "axis 4 is outside"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), NETS)
def test_wrong_nets(make_net, text, expected):
    with pytest.raises(caffe.CaffeError, match=expected) as caught:
        make_net(text)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named():
    for action in (lambda: caffe.Net("/nowhere.prototxt", caffe.TEST), lambda: caffe.SGDSolver("/nowhere.prototxt")):
        with pytest.raises(caffe.CaffeError, match=r"/nowhere\.prototxt: No such file"):
            action()


def test_phase_is_asked_for(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(X)
    with pytest.raises(caffe.CaffeError, match="give TRAIN or TEST"):
        caffe.Net(str(path))


# ------------------------------------------------------------ weights
def test_weights_of_another_shape_name_layer_and_file(make_net, tmp_path):
    path = str(tmp_path / "other.caffemodel")
    make_net(IP % 5).save(path)
    net = make_net(IP % 7)
    before = net.params["ip"][0].data.copy()
    with pytest.raises(caffe.CaffeError, match=r"layer 'ip'.*other\.caffemodel.*shape mismatch, .5, 48. in the file, .7, 48."):
        net.copy_from(path)
    np.testing.assert_array_equal(net.params["ip"][0].data, before)


def test_weights_that_fit_in_part_change_nothing(make_net, tmp_path):
    more = IP % 5 + IP.replace('"ip"', '"last"').replace(X, "") % 7
    make_net(more).save(str(tmp_path / "a.caffemodel"))
    net = make_net(IP % 5 + IP.replace('"ip"', '"last"').replace(X, "") % 8)
    before = net.params["ip"][0].data.copy()
    with pytest.raises(caffe.CaffeError, match="layer 'last'"):
        net.copy_from(str(tmp_path / "a.caffemodel"))
    np.testing.assert_array_equal(net.params["ip"][0].data, before)


def test_weights_with_another_number_of_blobs(make_net, tmp_path):
    path = str(tmp_path / "other.caffemodel")
    make_net((IP % 5).replace("num_output", "bias_term: false num_output")).save(path)
    with pytest.raises(caffe.CaffeError, match=r"layer 'ip'.*holds 1 blobs for it, it has 2"):
        make_net(IP % 5).copy_from(path)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_weights_cut_off(make_net, tmp_path, share):
    path = tmp_path / "cut.caffemodel"
    make_net(IP % 5).save(str(path))
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])
    with pytest.raises(caffe.CaffeError, match=r"cut\.caffemodel"):
        make_net(IP % 5).copy_from(str(path))


def test_saving_where_nothing_can_be_written(make_net, tmp_path):
    net = make_net(IP % 5)
    with pytest.raises(caffe.CaffeError, match="does the folder exist"):
        net.save(str(tmp_path / "missing" / "a.caffemodel"))
    net.save(str(tmp_path / "a.caffemodel"))
    assert sorted(os.listdir(tmp_path)) == ["a.caffemodel", "net.prototxt"]


# ------------------------------------------------------------ databases
def write_lmdb(folder, values):
    with lmdb.open(str(folder), map_size=1 << 26) as database, database.begin(write=True) as transaction:
        for i, value in enumerate(values):
            transaction.put(b"%08d" % i, value)


def datum(side=20, **more):
    pixels = np.zeros((3, side, side), np.uint8).tobytes()
    return pb.Datum(**{"channels": 3, "height": side, "width": side, "data": pixels, **more}).SerializeToString()


DATA = 'layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "%s" batch_size: 4 backend: LMDB } %s }'
RECORDS = [  # records, transformation, error
    ([], "", "the LMDB is empty"),
    ([b"\xff\xff\xff"], "", "is no Datum"),
    ([datum(), datum(), b"\xff"], "", "record b'00000002' is no Datum"),
    ([datum(height=21)], "", "a Datum of .3, 21, 20. holds 1200 values"),
    ([datum(encoded=True)], "", "an encoded Datum: OpenCV cannot decode it"),
    ([datum(), datum(19)], "", "3 x 19 x 19 does not fit"),
    ([datum()], "transform_param { crop_size: 21 }", "crop_size 21 exceeds a picture of 20 x 20"),
    ([datum()], "transform_param { mean_value: 1 mean_value: 2 }", "2 mean_value for 3 channels"),
    ([datum()], 'transform_param { mean_file: "/nowhere" }', "/nowhere: No such file"),
]


@pytest.mark.parametrize(("records", "transform", "expected"), RECORDS)
def test_wrong_records(make_net, tmp_path, records, transform, expected):
    write_lmdb(tmp_path / "lmdb", records)
    with pytest.raises(caffe.CaffeError, match="layer 'data' .Data.: .*" + expected) as caught:
        make_net(DATA % (tmp_path / "lmdb", transform)).forward()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_an_lmdb_cut_off(tmp_path, share):
    """In a process of its own: reading past the end of a mapped file would kill it."""
    write_lmdb(tmp_path / "lmdb", [datum(60)] * 60)
    path = tmp_path / "lmdb" / "data.mdb"
    with open(path, "r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    (tmp_path / "net.prototxt").write_text(DATA % (tmp_path / "lmdb", ""))
    run = subprocess.run(
        [sys.executable, "-m", "torchcaffe", "time", "-model", str(tmp_path / "net.prototxt"), "-iterations", "30"],
        capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == 1, run.stderr[-2000:]
    assert run.stderr.splitlines()[-1].startswith(f"error: layer 'data' (Data): source '{tmp_path / 'lmdb'}': ")


# ------------------------------------------------------------ solvers
SOLVERS = [
    ('lr_policy: "fixed"', "give one of net, net_param"),
    ('net: "{net}" train_net: "{net}" lr_policy: "fixed"', "give one of net, net_param"),
    ('net: "{net}" type: "Adagrad" lr_policy: "fixed"', "unknown type 'Adagrad'; known: SGD"),
    ('net: "{net}" lr_policy: "fixd" max_iter: 1', "unknown learning rate policy"),
    ('net: "{net}" lr_policy: "fixed" snapshot: 5 snapshot_prefix: "/nowhere/a"', "make the folder '/nowhere'"),
    ('net: "{net}" lr_policy: "fixed" test_iter: 1', "needs a positive test_interval"),
    ('net: "{net}" lr_policy: "fixed" regularization_type: "L3"', "unknown regularization_type 'L3'"),
    ('net: "{net}" lr_policy: "fixed" type: "RMSProp" momentum: 0.9', "momentum cannot be used with RMSProp"),
    ('net: "{net}" lr_policy: "fixed" weights: "/nowhere"', "/nowhere: No such file"),
    ('net: "{net}" lr_policy: "fixed" base_rl: 1', 'no field named "base_rl"'),
]


@pytest.mark.parametrize(("text", "expected"), SOLVERS)
def test_wrong_solvers(tmp_path, text, expected):
    (tmp_path / "net.prototxt").write_text(IP % 2)
    (tmp_path / "solver.prototxt").write_text(text.format(net=tmp_path / "net.prototxt"))
    with pytest.raises(caffe.CaffeError, match=expected):
        caffe.get_solver(str(tmp_path / "solver.prototxt"))


def test_command_line_ends_with_one_line(tmp_path):
    run = subprocess.run([sys.executable, "-m", "torchcaffe", "train", "-solver", str(tmp_path / "no.prototxt")],
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in run.stderr

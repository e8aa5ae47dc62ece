"""Public weights: fetched from a local server, and told from other files."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from data_tools import transfer
from pycam import engine
from pycam import public_weights as public
from pycam.__main__ import main
from pycam.errors import CamError
from torchcaffe.netparam import read_net
from torchcaffe.proto import caffe_pb2

from .test_googlenet import write_keras

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = str(ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt")
SHAPES = {"conv1_1": [(8, 3, 3, 3), (8,)], "conv1_2": [(8, 8, 3, 3), (8,)]}


def write_model(path, shapes, values=True):
    model = caffe_pb2.NetParameter(name="public")
    for layer, blobs in shapes.items():
        added = model.layer.add(name=layer, type="Convolution")
        for shape in blobs:
            blob = added.blobs.add()
            blob.shape.dim.extend(shape)
            if values:
                blob.data.extend([0.25] * int(np.prod(shape)))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def offered(serve, tmp_path, monkeypatch):
    """Return the file that a local server offers as the one public file, small.caffemodel."""
    (tmp_path / "site").mkdir()
    path = write_model(tmp_path / "site" / "small.caffemodel", SHAPES)
    sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
    url, _ = serve(path.parent)
    monkeypatch.setattr(public, "SOURCES", {path.name: public.Source(url + path.name, f"sha1:{sha1}", SHAPES)})
    monkeypatch.setattr(transfer, "WAITS", (0,))
    return path


def fetch(path):
    return main(["weights", "fetch", "--net", DEPLOY, "--weights", str(path), "--engine", "torch"])


def test_weights_are_fetched_checked_and_shown(offered, tmp_path, capsys):
    pytest.importorskip("torch")
    target = tmp_path / "new" / "small.caffemodel"
    assert fetch(target) == 0
    assert target.read_bytes() == offered.read_bytes()
    states = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert [layer for layer, state in states.items() if state == "copied"] == ["conv1_1", "conv1_2"]
    offered.unlink()
    assert fetch(target) == 0  # it is there, and checked again
    target.write_bytes(target.read_bytes()[:-1] + b"\1")
    assert fetch(target) == 1
    assert "SHA1" in capsys.readouterr().err


def test_another_file_under_the_same_address_is_not_kept(offered, tmp_path, capsys):
    write_model(offered, {**SHAPES, "conv1_3": [(1,)]})
    target = tmp_path / "new" / "small.caffemodel"
    assert fetch(target) == 1
    assert re.search("error: .*SHA1 .*, its authors' is .*; delete it and get it again\n", capsys.readouterr().err)
    assert list(target.parent.iterdir()) == []


def test_without_a_network_one_line_says_what_to_put_where(offered, tmp_path, capsys):
    offered.unlink()
    assert fetch(tmp_path / "new" / "small.caffemodel") == 1
    err = capsys.readouterr().err
    assert f"the server answers 404 File not found; put small.caffemodel into {tmp_path}/new/ by hand" in err
    assert err.count("\n") == 1


def test_the_file_of_keras_is_made_a_caffemodel(serve, tmp_path, monkeypatch, capsys):
    site = tmp_path / "site"
    site.mkdir()
    arrays = {f"block1_conv{n}": (np.ones(shape, np.float32), np.zeros(8, np.float32)) for n, (shape, _) in
              enumerate(SHAPES.values(), 1)}
    write_keras(site / "small.h5", arrays)
    md5 = hashlib.md5((site / "small.h5").read_bytes()).hexdigest()
    url, _ = serve(site)
    monkeypatch.setattr(public, "SOURCES", {"small.h5": public.Source(f"{url}small.h5", f"md5:{md5}", SHAPES)})
    assert fetch(tmp_path / "new" / "small.h5") == 0
    shown = capsys.readouterr().out
    assert f"{tmp_path}/new/small.caffemodel: made of {tmp_path}/new/small.h5; give it as INIT" in shown
    assert engine.weight_shapes(tmp_path / "new" / "small.caffemodel") == SHAPES
    (tmp_path / "new" / "small.h5").write_bytes(b"another")
    assert fetch(tmp_path / "new" / "small.h5") == 1
    assert "MD5" in capsys.readouterr().err


def test_an_unknown_name_is_told_the_known_ones(tmp_path, capsys):
    assert fetch(tmp_path / "other.caffemodel") == 1
    err = capsys.readouterr().err
    assert "VGG_ILSVRC_16_layers.caffemodel or bvlc_googlenet.caffemodel or vgg16CAM_train_iter_90000.caffemodel or vgg16" in err


@pytest.mark.parametrize(("shapes", "values", "reason"), [
    ({"conv1_1": SHAPES["conv1_1"]}, True, "conv1_2 missing or of other shapes"),
    ({**SHAPES, "conv1_2": [(8, 4, 3, 3), (8,)]}, True, "conv1_2 missing or of other shapes"),
    (SHAPES, False, "holds 0 values"),
])
def test_files_that_are_something_else(tmp_path, shapes, values, reason):
    path = write_model(tmp_path / "w.caffemodel", shapes, values)
    with pytest.raises(CamError, match=reason):
        public.check(path, public.Source("http://x/w.caffemodel", "", SHAPES))


def test_the_expected_shapes_are_those_of_our_network():
    gap = public.SOURCES["vgg16CAM_train_iter_90000.caffemodel"].shapes
    vgg = public.SOURCES["VGG_ILSVRC_16_layers.caffemodel"].shapes
    counts = [sum(int(np.prod(shape)) for blobs in shapes.values() for shape in blobs) for shapes in (vgg, gap)]
    assert counts == [14_714_688, 14_714_688 + 2_360_320]
    inputs = {"data": 3}
    for layer in read_net(str(ROOT / "prototxt" / "vgg_gap_deploy.prototxt")).layer:
        if layer.type == "Convolution":
            param = layer.convolution_param
            shape = (param.num_output, inputs[layer.bottom[0]] // param.group, param.kernel_size[0], param.kernel_size[0])
            assert gap[layer.name] == [shape, (param.num_output,)]
            inputs[layer.top[0]] = param.num_output
        elif layer.type == "Pooling" and not layer.pooling_param.global_pooling:
            inputs[layer.top[0]] = inputs[layer.bottom[0]]

"""Layers whose top is their bottom: what Caffe computes right works, anything else is refused in one line."""

import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe.layers import LAYERS
from torchcaffe.layers.base import ALWAYS, FORWARD_ONLY

TEXT = """force_backward: true
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 dim: 2 dim: 2 }} }} }}
layer {{ name: "copy" type: "Power" bottom: "x" top: "h" }}
layer {{ name: "odd" type: "{kind}" bottom: "h" top: "{top}" {more} }}
layer {{ name: "end" type: "Power" bottom: "{top}" top: "y" }}
"""
MORE = {"Clip": "clip_param { min: -0.5 max: 0.5 }", "Log": "log_param { shift: 9 }"}


def run(make_net, kind, top, backward=True):
    net = make_net(TEXT.format(kind=kind, top=top, more=MORE.get(kind, "")), caffe.TEST)
    net.blobs["x"].data[...] = np.random.RandomState(1).randn(2, 3, 2, 2)
    net.forward()
    net.blobs["y"].diff[...] = np.random.RandomState(2).randn(*net.blobs["y"].data.shape)
    if backward:
        net.backward()
    return net.blobs["y"].data.copy(), net.blobs["x"].diff.copy()


@pytest.mark.parametrize("kind", sorted(k for k, v in LAYERS.items() if v.in_place == ALWAYS and k != "Python"))
def test_gives_the_same_as_with_a_top_of_its_own(make_net, kind):
    for found, wanted in zip(run(make_net, kind, "h"), run(make_net, kind, "own")):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", sorted(k for k, v in LAYERS.items() if v.in_place == FORWARD_ONLY))
def test_forward_only(make_net, kind):
    found, _ = run(make_net, kind, "h", backward=False)
    np.testing.assert_array_equal(found, run(make_net, kind, "own", backward=False)[0])
    with pytest.raises(caffe.CaffeError, match=r"layer 'odd' .*no right gradient for it in place"):
        run(make_net, kind, "h")


@pytest.mark.parametrize(("kind", "more"), [("ReLU", "relu_param { negative_slope: -0.5 }"),
                                            ("ELU", "elu_param { alpha: -0.5 }")])
def test_forward_only_where_the_top_hides_the_sign(make_net, monkeypatch, kind, more):
    monkeypatch.setitem(MORE, kind, more)
    test_forward_only(make_net, kind)


@pytest.mark.parametrize("kind", ["AbsVal", "Flatten", "LRN", "Split"])
def test_refused(make_net, kind):
    with pytest.raises(caffe.CaffeError, match=r"layer 'odd' .*cannot work in place; give its top 'h' another name"):
        run(make_net, kind, "h")


@pytest.mark.parametrize("fields", ["kernel_size: 3 stride: 2 pad: 2", "kernel_size: 2 stride: 2", "kernel_size: 1",
                                    "pool: AVE kernel_size: 3 stride: 2 pad: 2", "pool: AVE global_pooling: true"])
def test_a_rectifier_overwrites_what_a_pooling_gives(make_net, fields):
    """No pooling needs its top on the way back."""
    def gradient(top):
        pool = f'"Pooling" pooling_param {{ {fields} }} bottom: "x"'
        text = TEXT.format(kind="ReLU", top=top, more="").replace('"Power" bottom: "x"', pool)
        net = make_net(text.replace("dim: 2 dim: 2 }", "dim: 9 dim: 9 }"), caffe.TEST)
        assert net.layers[2].may_overwrite == (top == "h")
        net.blobs["x"].data[...] = np.random.RandomState(1).randn(2, 3, 9, 9)
        net.forward()
        net.blobs["y"].diff[...] = np.random.RandomState(2).randn(*net.blobs["y"].data.shape)
        net.backward()
        return net.blobs["x"].diff.copy()
    found = gradient("h")
    assert found.any()
    np.testing.assert_array_equal(found, gradient("own"))

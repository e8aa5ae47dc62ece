"""What the engine spares must not be seen: the layout of weights, frozen parameters, blobs that nobody reads again."""

import os
from unittest import mock

import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe import heap

NET = """
layer { name: "in" type: "DummyData" top: "x" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 8 dim: 8 } shape { dim: 2 }
  data_filler { type: "constant" value: 0.5 } data_filler { type: "constant" value: 1 } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu_b" type: "ReLU" bottom: "b" top: "b" }
layer { name: "flat" type: "Flatten" bottom: "b" top: "flat" }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc" inner_product_param { num_output: 3
  weight_filler { type: "msra" } } }
layer { name: "too" type: "InnerProduct" bottom: "b" top: "too" inner_product_param { num_output: 3
  weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "fc" bottom: "too" top: "sum" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" }
"""


@pytest.fixture
def solver(tmp_path):
    """Return a function that makes the same solver each time."""
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.05 random_seed: 1')
    return lambda **more: caffe.get_solver(str(tmp_path / "solver.prototxt"), **more)


def test_a_frugal_solver_learns_the_same_and_frees_blobs(solver):
    plain, frugal = solver(), solver(frugal=True)
    plain.step(3)
    frugal.step(3)
    for layer, blobs in plain.net.params.items():
        for a, b in zip(blobs, frugal.net.params[layer]):
            np.testing.assert_array_equal(a.data, b.data)
    assert plain.net.blobs["b"].data.any()
    assert plain.net.blobs["b"].diff.any()
    for name in ("b", "flat"):
        assert frugal.net.blobs[name]._data.empty
        assert frugal.net.blobs[name]._diff.empty
    assert frugal.net.blobs["x"].data.any()  # filled once, so kept
    assert frugal.net.blobs["loss"].data == plain.net.blobs["loss"].data


def test_a_frugal_net_gives_the_same_and_keeps_what_is_asked_for(solver):
    net = solver().net
    plain = {name: data.copy() for name, data in net.forward(blobs=["a", "b"]).items()}
    net = solver().net
    net.frugal = True
    for _ in range(2):
        found = net.forward(blobs=["a"])
        assert set(found) == {"a", "loss"}
        for name, data in found.items():
            np.testing.assert_array_equal(data, plain[name])
        assert net.blobs["b"]._data.empty
        assert net.blobs["fc"]._data.empty
    np.testing.assert_array_equal(net.forward(blobs=["b"])["b"], plain["b"])


def test_malloc_keeps_memory_unless_a_variable_says_otherwise():
    said = []
    library = mock.Mock(mallopt=lambda *words: said.append(words))
    orders = [(heap.MMAP_MAX, 0), (heap.TRIM_THRESHOLD, heap.KEPT)]
    for environment, expected in (({}, orders), ({"MALLOC_ARENA_MAX": "1"}, [])):
        with mock.patch.dict(os.environ, environment, clear=True), mock.patch("ctypes.CDLL", return_value=library):
            heap.keep.__wrapped__()
        assert said == expected
        said.clear()
    with mock.patch.dict(os.environ, clear=True), mock.patch("ctypes.CDLL", side_effect=OSError):
        heap.keep.__wrapped__()  # another system's library


def test_a_frozen_parameter_stays_and_one_with_a_past_moves_on(solver):
    found = solver()
    before = found.net.params["a"][0].data.copy()
    found.step(2)
    np.testing.assert_array_equal(found.net.params["a"][0].data, before)
    found.history[0].fill_(1)  # as a restored state of a training that moved it
    found._resting = None
    found.step(1)
    np.testing.assert_allclose(found.net.params["a"][0].data, before - np.float32(0.9), rtol=1e-6)


def test_weights_in_another_order_in_memory_look_as_ever(solver):
    found = solver()
    weight = found.net.params["b"][0]
    found.step(1)
    assert weight.tensor.stride() == (36, 1, 12, 4)
    expected = weight.tensor.clone().numpy()
    assert weight.data.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(weight.data, expected)
    weight.data.reshape(-1)[:] = 2
    found.step(1)
    assert weight.data.max() > 1
    assert weight.tensor.is_contiguous()

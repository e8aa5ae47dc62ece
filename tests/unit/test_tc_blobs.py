"""Blobs seen from Python: they write through, and an array that a script holds lives on."""

import gc

import numpy as np
import pytest

import torchcaffe as caffe

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "msra" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "target" top: "loss" }
""".replace(
    'layer { name: "conv" type', 'layer { name: "t" type: "Input" top: "target" input_param { shape { dim: 2 dim: 2 } } }\n'
    'layer { name: "conv" type', 1)  # fmt: skip


@pytest.fixture
def net(make_net):
    caffe.set_random_seed(1)
    net = make_net(NET)
    net.blobs["x"].data[...] = np.random.RandomState(0).randn(2, 3, 5, 5)
    return net


def run(net):
    net.clear_param_diffs()
    net.forward()
    net.backward()


@pytest.mark.parametrize("kind", ["data", "diff"])
@pytest.mark.parametrize("name", ["x", "conv", "ip", "loss"])
def test_writes_are_seen(net, name, kind):
    getattr(net.blobs[name], kind)[...] = 7
    assert (getattr(net.blobs[name], kind) == 7).all()
    assert getattr(net.blobs[name], kind).dtype == np.float32


@pytest.mark.parametrize("name", ["conv", "ip", "loss"])
def test_a_held_array_sees_the_next_result(net, name):
    held = net.blobs[name].data
    run(net)
    before = held.copy()
    np.testing.assert_array_equal(held, net.blobs[name].data)
    net.blobs["x"].data[...] *= 2
    run(net)
    np.testing.assert_array_equal(held, net.blobs[name].data)
    assert np.abs(held - before).max() > 1e-3


@pytest.mark.parametrize(("layer", "i"), [("conv", 0), ("conv", 1), ("ip", 0)])
def test_a_held_gradient_sees_the_next_one(net, layer, i):
    held = net.params[layer][i].diff
    run(net)
    assert held.any()
    np.testing.assert_array_equal(held, net.params[layer][i].diff)
    first = held.copy()
    net.backward()  # gradients of parameters add up until they are cleared
    np.testing.assert_allclose(held, 2 * first, rtol=1e-5)
    net.clear_param_diffs()
    assert not held.any()


def test_results_do_not_depend_on_who_looks(make_net):
    """Arrays that a script holds change nothing: in-place layers overwrite what a graph has saved."""
    text = NET.replace('layer { name: "loss"', 'layer { name: "swish" type: "Swish" bottom: "ip" top: "ip" swish_param '
                       '{ beta: 2 } }\nlayer { name: "loss"')  # fmt: skip
    found = []
    for look in (False, True):
        caffe.set_random_seed(1)
        net = make_net(text)
        net.blobs["x"].data[...] = np.random.RandomState(0).randn(2, 3, 5, 5)
        held = [(b.data, b.diff) for b in net.blobs.values()] if look else []
        run(net)
        run(net)
        found.append([net.params["conv"][0].diff.copy(), net.blobs["x"].diff.copy(), net.blobs["conv"].data.copy()])
        del held
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


def test_arrays_outlive_the_net(net):
    arrays = [b.data for b in net.blobs.values()] + [b.diff for blobs in net.params.values() for b in blobs]
    run(net)
    copies = [a.copy() for a in arrays]
    del net
    gc.collect()
    for array, copy in zip(arrays, copies):
        np.testing.assert_array_equal(array, copy)


def test_reshape_follows_the_input(net):
    net.blobs["x"].reshape(3, 3, 5, 5)
    net.blobs["target"].reshape(3, 2)
    net.reshape()
    assert net.blobs["conv"].shape == (3, 4, 3, 3)
    assert net.forward()["loss"].shape == ()
    assert (net.blobs["ip"].num, net.blobs["ip"].channels, net.blobs["ip"].height) == (3, 2, 1)


def test_reshape_keeps_values_of_the_same_number(net):
    blob = net.blobs["x"]
    before = blob.data.copy()
    blob.reshape(5, 30)
    np.testing.assert_array_equal(blob.data, before.reshape(5, 30))


def test_backward_uses_what_the_blobs_hold(net):
    """Without a forward pass, and from a start to an end, as in Caffe."""
    net.blobs["conv"].data[...] = 1
    net.blobs["ip"].diff[...] = [[1, 0], [0, 1]]
    diffs = net.backward(start="ip", end="ip")
    weights = net.params["ip"][0].data
    np.testing.assert_allclose(diffs["conv"].reshape(2, -1), weights, rtol=1e-6)
    np.testing.assert_allclose(net.params["ip"][0].diff, 1)


def test_parts_of_the_net_run_alone(net):
    run(net)
    net.blobs["conv"].data[...] = 0
    assert set(net.forward(start="ip")) == {"loss"}
    np.testing.assert_array_equal(net.blobs["ip"].data, np.tile(net.params["ip"][1].data, (2, 1)))
    assert set(net.forward(end="relu", blobs=["ip"])) == {"conv", "ip"}


def test_shared_weights_are_one_memory(net, make_net):
    other = make_net(NET)
    other.share_with(net)
    net.params["conv"][0].data[...] = 3
    assert (other.params["conv"][0].data == 3).all()


def test_named_parameters_add_up_their_gradients(make_net):
    layer = ('layer {{ name: "{0}" type: "InnerProduct" bottom: "{1}" top: "{0}" param {{ name: "w" }} '
             'inner_product_param {{ num_output: 3 bias_term: false weight_filler {{ type: "gaussian" }} }} }}\n')
    text = ('force_backward: true layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
            + layer.format("a", "x") + layer.format("b", "a"))
    net = make_net(text)
    w = net.params["a"][0].data
    net.blobs["x"].data[...] = np.random.RandomState(1).randn(2, 3)
    net.forward()
    net.blobs["b"].diff[...] = 1
    net.backward()
    x, ones = net.blobs["x"].data, np.ones((2, 3), np.float32)
    np.testing.assert_allclose(net.params["b"][0].diff, ones.T @ (x @ w.T) + (ones @ w).T @ x, rtol=1e-5)
    assert net.params["a"][0] is net.params["b"][0]
    assert len(net.learnable) == 1


def test_batches_of_any_length(make_net):
    net = make_net(NET.split("layer { name: \"t\"")[0] + """layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
      inner_product_param { num_output: 2 weight_filler { type: "msra" } } }""")
    x = np.random.RandomState(2).randn(5, 3, 5, 5).astype(np.float32)
    found = net.forward_all(x=x)["ip"]
    np.testing.assert_allclose(found, x.reshape(5, -1) @ net.params["ip"][0].data.T, rtol=1e-4, atol=1e-5)

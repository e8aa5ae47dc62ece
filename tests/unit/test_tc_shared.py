"""Blobs that are one memory, and memory that outlives a shape, as in Caffe; each case was run on real Caffe too."""

import numpy as np
import pytest

import torchcaffe as caffe

from .texts import FORCE, blob, layer

SHARED = {"Flatten": "", "Reshape": "reshape_param { shape { dim: 3 dim: 2 } }", "Concat": "", "Slice": ""}  # one bottom, one top


@pytest.mark.parametrize("kind", sorted(SHARED))
def test_a_top_that_is_its_bottoms_memory(make_net, kind):
    net = make_net(FORCE + blob("x", 2, 3) + layer("Power", "power_param { scale: 2 }", top="p")
                   + layer(kind, SHARED[kind], "p") + layer("Power", "power_param { scale: 3 }", "y", "z"))
    net.forward()  # from now on in Caffe
    held = net.blobs["y"].data
    for i in range(1, 3):
        net.blobs["x"].data[...] = i
        net.forward()
        assert (held == 2 * i).all()
        net.blobs["p"].data.flat[4] = 7
        assert held.flat[4] == 7
        held.flat[1] = 5
        assert net.blobs["p"].data.flat[1] == 5
        np.testing.assert_array_equal(net.forward(start="z")["z"].ravel(), 3 * held.ravel())
        net.blobs["z"].diff[...] = i
        net.backward()
        assert (net.blobs["p"].diff == 3 * i).all()
        assert (net.blobs["x"].diff == 6 * i).all()
        net.blobs["p"].diff.flat[2] = 9
        assert net.blobs["y"].diff.flat[2] == 9


def test_the_copies_for_several_readers_are_one_memory(make_net):
    net = make_net(FORCE + blob("x", 2, 3) + layer("Power", top="p") + layer("Power", "", "p", "a")
                   + layer("Power", "power_param { scale: 2 }", "p", "b"))
    net.forward()
    copies = [name for name in net.blobs if "split" in name]
    net.blobs[copies[0]].data[...] = 4
    assert (net.blobs["p"].data == 4).all()
    net.forward(start="a")
    assert (net.blobs["b"].data == 8).all()
    for name, diff in (("a", 1), ("b", 10)):
        net.blobs[name].diff[...] = diff
    net.backward()
    assert [net.blobs[name].diff.max() for name in [*copies, "p"]] == [1, 20, 21]


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("kind", ["Flatten", "Reshape"])
def test_what_works_in_place_behind_another_shape_changes_what_others_read(make_net, kind, look):
    """As in Caffe, where the other shape is the same memory; who read it before has what it was then."""
    net = make_net(FORCE + blob("x", 1, 6) + layer("Sigmoid", "", "x", "p")
                   + layer("AbsVal", "", "p", "early") + layer(kind, SHARED[kind], "p", "y")
                   + layer("Bias", "bias_param { filler { value: 5 } }", "y", "y") + layer("Power", "", "p", "late"))
    if look:
        held = [(b.data, b.diff) for b in net.blobs.values()]
    net.blobs["x"].data[...] = 0
    for _ in range(2):
        tops = net.forward()
        assert [float(tops[name].max()) for name in ("early", "late", "y")] == [0.5, 5.5, 5.5]
        net.backward()
    if look:
        del held


@pytest.mark.parametrize("look", [False, True])
def test_what_works_in_place_behind_another_shape_leaves_what_a_gradient_needs(make_net, look):
    net = make_net(FORCE + blob("x", 1, 6) + layer("Sigmoid", "", "x", "p") + layer("Flatten", "", "p", "y")
                   + layer("Bias", "bias_param { filler { value: 5 } }", "y", "y") + layer("Power", "", "y", "z"))
    net.blobs["x"].data[...] = 0
    net._forward(0, 1)
    held = net.blobs["p"].data if look else None
    net.forward(start=net._layer_names[2])
    net.blobs["z"].diff[...] = 1
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[0.25] * 6]
    del held


def test_a_blob_that_others_share_gets_another_memory(make_net):
    net = make_net(blob("x", 2, 3) + layer("Flatten") + layer("Power", "", "y", "z"))
    net.forward()
    for rows in (4, 2):
        net.blobs["x"].reshape(rows, 3)
    net.blobs["x"].data[...] = 5
    assert net.forward()["z"].min() == 5


def test_memory_stays_where_a_blob_gets_smaller(make_net):
    net = make_net(blob("x", 2, 3) + layer("Power"))
    held = net.blobs["x"].data
    held[...] = [[1, 2, 3], [4, 5, 6]]
    net.blobs["x"].reshape(1, 2)
    assert net.blobs["x"].data.tolist() == [[1, 2]]
    net.blobs["x"].data[...] = 9
    assert net.forward()["y"].tolist() == [[9, 9]]
    net.blobs["x"].reshape(3, 2)
    assert net.blobs["x"].data.tolist() == [[9, 9], [3, 4], [5, 6]]
    held[0, 0] = 0
    assert net.forward()["y"].tolist() == [[0, 9], [3, 4], [5, 6]]
    net.blobs["x"].reshape(2, 4)  # larger than it ever was: another memory
    assert not net.blobs["x"].data.any()


def test_a_blob_that_others_share_gets_smaller(make_net):
    net = make_net(blob("x", 1, 6) + layer("Power") + layer("Flatten", "", "y", "z") + layer("Power", "", "z", "w"))
    net.blobs["x"].data[...] = 1
    net.forward()
    net.blobs["x"].reshape(1, 2)
    net.forward(end="y")
    assert net.blobs["z"].data.shape == (1, 6)
    assert net.forward()["w"].tolist() == [[1, 1]]
    with pytest.raises(caffe.CaffeError, match="cannot have the shape"):
        net.blobs["x"].reshape(1, -2)


def test_memory_that_others_share_stays_as_large_as_it_was(make_net):
    fields = "inner_product_param { num_output: 2 weight_filler { value: 1 } }"
    net = make_net(blob("x", 2, 3) + layer("InnerProduct", fields, top="p") + layer("Flatten", "", "p")
                   + layer("Power", "", "y", "z"))
    net.blobs["x"].data[...] = 1
    net.forward()
    net.blobs["x"].reshape(1, 3)
    net.forward(end="p")
    held = net.blobs["p"].data
    assert net.blobs["y"].data.shape == (2, 2)  # not yet reshaped
    held[...] = 9
    assert net.blobs["p"].data.tolist() == [[9, 9]]
    assert net.blobs["y"].data[0].tolist() == [9, 9]
    assert net.forward(start="y")["z"].tolist() == [[9, 9]]


@pytest.mark.parametrize("kind", ["Reshape", "Concat", "Slice"])
def test_a_gradient_passes_a_flatten_behind_another_that_shares(make_net, kind):
    """Caffe loses it there: what lies below does not learn."""
    net = make_net(FORCE + blob("x", 2, 3) + layer("Power", "power_param { scale: 2 }", top="p")
                   + layer(kind, SHARED[kind], "p", "s") + layer("Flatten", "", "s") + layer("Power", "", "y", "z"))
    for i in range(1, 3):
        net.forward()
        net.blobs["z"].diff[...] = i
        net.backward()
        assert (net.blobs["x"].diff == 2 * i).all()


def test_a_held_gradient_stays_alive_behind_a_rectifier_in_place(make_net):
    conv = "convolution_param { num_output: 2 kernel_size: 1 weight_filler { value: 1 } bias_filler { value: 1 } }"
    net = make_net(FORCE + blob("x", 1, 2, 3, 3) + layer("Convolution", conv, top="c") + layer("ReLU", "", "c", "c")
                   + layer("Convolution", conv, "c", "d"))
    held = net.blobs["c"].diff
    for i in range(1, 4):
        net.forward()
        net.blobs["d"].diff[...] = i
        net.backward()
        assert (held == 2 * i).all()
        np.testing.assert_array_equal(net.blobs["c"].diff, held)
    held[...] = 10
    assert (net.backward(start="c")["x"] == 20).all()


def test_a_frugal_net_says_what_it_has_freed(make_net):
    net = make_net(blob("x", 2, 3) + layer("Power", "", top="p") + layer("Power", "", "p") + layer("Power", "", "y", "z"))
    net.frugal = True
    net.forward()
    with pytest.raises(caffe.CaffeError, match=r"blob 'p' is not there: net.frugal .*forward\(blobs=\['p'\]\)"):
        net.forward(start="y")
    net.forward(blobs=["p"])
    net.forward(start="y")

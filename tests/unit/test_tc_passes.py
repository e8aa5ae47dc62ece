"""Layers that run as one give what they give one by one, and notice changed parameters."""

import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe.layers.folded import Folded
from torchcaffe.layers.joined import Joined
from torchcaffe.layers.several import Rectified

NET = """force_backward: {force}
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 4 dim: 3 dim: 6 dim: {width} }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "a" convolution_param {{ num_output: 5 kernel_size: 3 pad: 1
    weight_filler {{ type: "msra" }} bias_filler {{ type: "gaussian" }} bias_term: {own} }} }}
layer {{ name: "norm" type: "BatchNorm" bottom: "a" top: "{top}" {fixed} }}
layer {{ name: "scale" type: "Scale" bottom: "{top}" top: "{top}" scale_param {{ bias_term: {bias}
    filler {{ type: "uniform" min: 1 }} bias_filler {{ type: "gaussian" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "{top}" top: "{top}" relu_param {{ negative_slope: {slope} }} }}
layer {{ name: "last" type: "Convolution" bottom: "{top}" top: "y" convolution_param {{ num_output: 2 kernel_size: 1
    weight_filler {{ type: "msra" }} }} }}
"""


@pytest.fixture
def make(make_net):
    def run(phase=caffe.TRAIN, force="true", width=7, bias="true", own="true", top="a", fixed="", slope=0):
        caffe.set_random_seed(3)
        net = make_net(NET.format(force=force, width=width, bias=bias,
                                  own=bias if phase == caffe.TEST else "false", top=top, fixed=fixed, slope=slope), phase)
        random = np.random.RandomState(0)
        net.blobs["x"].data[...] = random.randn(*net.blobs["x"].data.shape) + 2
        for blob, low in zip(net.layer_dict["norm"].blobs, (-1, 1, 1)):
            blob.tensor[...] = caffe.blob.tensor_of(random.uniform(low, 2, blob.shape).astype(np.float32))
        return net
    return run


def kinds(net, graph=True):
    return [type(step.layer) for step in net._passes.steps(0, len(net.layers) - 1, True, net.frugal, graph)[0]]


def one_by_one(net):
    for i in range(len(net.layers)):
        net.run_forward(i, i)


def back_one_by_one(net):
    for i in reversed(range(len(net.layers))):
        net.run_backward(i, i)


def set_diff(net):
    net.blobs["y"].diff[...] = np.random.RandomState(1).randn(*net.blobs["y"].data.shape) + 1


def assert_same(found, wanted, message=""):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * max(1, np.abs(wanted).max()), err_msg=message)


def assert_alike(net, other):
    for kind in ("data", "diff"):
        for name in net.blobs:
            assert_same(getattr(net.blobs[name], kind), getattr(other.blobs[name], kind), f"{name} {kind}")
        for name in net.params:
            for mine, theirs in zip(net.params[name], other.params[name]):
                assert_same(getattr(mine, kind), getattr(theirs, kind), f"{name} {kind}")


def assert_alike_as_one(net, other):
    """Run two nets alike forward and back, twice: one in the steps that it finds, the other layer by layer."""
    for _ in range(2):
        net.forward()
        one_by_one(other)
        for one in (net, other):
            set_diff(one)
        net.backward()
        back_one_by_one(other)
    assert_alike(net, other)


@pytest.mark.parametrize("shape", [
    (3, 1, 2, 2), (1, 1, 2, 2), (7, 1), (3, 1, 5), (7, 3), (5, 3, 1, 1), (3, 2, 40, 30), (2, 1100, 2, 2)])
def test_batch_norm_of_any_shape_has_the_gradient_of_its_formula(make_net, shape):
    dims = " ".join(f"dim: {side}" for side in shape)
    net = make_net(f'force_backward: true layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }} '
                   'layer { name: "norm" type: "BatchNorm" bottom: "x" top: "y" }', caffe.TRAIN)
    random, axes = np.random.RandomState(2), tuple(axis for axis in range(len(shape)) if axis != 1)
    x, dy = random.randn(2, *shape).astype(np.float32)
    net.blobs["x"].data[...] = x
    net.forward()
    net.blobs["y"].diff[...] = dy
    net.backward()
    x, dy = x.astype(float), dy.astype(float)
    factor = (x.var(axes, keepdims=True) + 1e-5) ** -0.5
    y = (x - x.mean(axes, keepdims=True)) * factor
    assert_same(net.blobs["y"].data, y)
    assert_same(net.blobs["x"].diff, factor * (dy - dy.mean(axes, keepdims=True) - y * (dy * y).mean(axes, keepdims=True)))


@pytest.mark.parametrize("more", [
    {}, {"bias": "false"}, {"fixed": "batch_norm_param { use_global_stats: true }"}, {"top": "b"}, {"slope": 0.1}])
def test_batch_norm_and_scale_learn_as_one(make, more):
    net, other = make(**more), make(**more)
    # what lies between would be seen where the BatchNorm is not in place, and before a ReLU with a slope
    assert kinds(net).count(Joined) == ("slope" in more)
    assert kinds(net).count(Rectified) == ("top" not in more and "slope" not in more)
    assert_alike_as_one(net, other)


def test_a_pair_can_be_taken_apart_on_the_way_back(make):
    """A pass that ran the two as one is followed by backward passes that end, and start, between them; and the reverse."""
    nets = [make() for _ in range(3)]
    for net, forward in zip(nets, (net.forward for net in nets[:2])):
        forward()
        set_diff(net)
    one_by_one(nets[2])
    set_diff(nets[2])
    nets[0].backward()
    nets[1].backward(end="scale")
    nets[1].backward(start="norm")
    nets[2].backward()
    for net in nets[1:]:
        assert_alike(net, nets[0])


RECTIFIED = """force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 kernel_size: 3 pad: 1
    weight_filler { type: "msra" } } }
layer { name: "rc" type: "ReLU" bottom: "c" top: "c" }
layer { name: "d" type: "Convolution" bottom: "c" top: "d" convolution_param { num_output: 4 kernel_size: 1
    weight_filler { type: "msra" } } }
layer { name: "e" type: "Eltwise" bottom: "c" bottom: "d" top: "e" eltwise_param { coeff: 1 coeff: -2 } }
layer { name: "re" type: "ReLU" bottom: "e" top: "e" }
layer { name: "p" type: "Pooling" bottom: "e" top: "p" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "i" type: "InnerProduct" bottom: "p" top: "i" inner_product_param { num_output: 5 weight_filler { type: "msra" } } }
layer { name: "ri" type: "ReLU" bottom: "i" top: "i" }
layer { name: "y" type: "InnerProduct" bottom: "i" top: "y" inner_product_param { num_output: 2 weight_filler { type: "msra" } } }
"""


@pytest.fixture
def rectified(make_net):
    def run():
        caffe.set_random_seed(3)
        net = make_net(RECTIFIED, caffe.TRAIN)
        net.blobs["x"].data[...] = np.random.RandomState(0).randn(*net.blobs["x"].data.shape)
        return net
    return run


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_rectifier_is_one_with_the_layer_before_it(rectified, looked_at):
    net, other = rectified(), rectified()
    assert kinds(net).count(Rectified) == 3
    for one in (net, other) if looked_at else ():
        for blob in one.blobs.values():
            blob.data, blob.diff  # noqa: B018
    assert_alike_as_one(net, other)


def test_what_is_written_into_a_rectified_top_counts(rectified):
    net, other = rectified(), rectified()
    for one, forward in ((net, net.forward), (other, lambda: one_by_one(other))):
        one.blobs["c"].data  # noqa: B018  (shown before the pass)
        forward()
        one.blobs["c"].data[:, 1] = -1
        set_diff(one)
    net.backward()
    back_one_by_one(other)
    assert not net.params["c"][0].diff[1].any()
    assert_alike(net, other)


@pytest.mark.parametrize("at", range(1, 11))
def test_passes_may_end_and_start_before_a_rectifier(rectified, at):
    net, forward, backward = (rectified() for _ in range(3))
    count = len(net.layers)  # 11
    for one in (net, backward):
        one.forward()
    forward.run_forward(0, at - 1)
    forward.run_forward(at, count - 1)
    for one in (net, forward, backward):
        set_diff(one)
    for one in (net, forward):
        one.backward()
    backward.run_backward(count - 1, at)
    backward.run_backward(at - 1, 0)
    assert_alike(forward, net)
    assert_alike(backward, net)


def test_a_batch_norm_goes_back_after_its_rectifier_ran_again(make):
    net, other = make(), make()
    for one in (net, other):
        one.forward()
    net.forward(start="relu")
    for one in (net, other):
        set_diff(one)
        one.backward()
    assert_alike(net, other)


@pytest.mark.parametrize("more", [{}, {"bias": "false"}, {"top": "b"}, {"slope": 0.1}, {"width": 1}])
def test_a_convolution_takes_in_what_follows(make, more):
    net, other = (make(caffe.TEST, "false", **more) for _ in range(2))
    assert kinds(net).count(Folded) == 2
    assert kinds(net, graph=False)[1] is Folded
    net.forward()
    one_by_one(other)
    assert_alike(net, other)


@pytest.mark.parametrize("name", ["conv", "norm", "scale"])
def test_a_changed_parameter_is_folded_again(make, name):
    net, other = (make(caffe.TEST, "false") for _ in range(2))
    net.forward()
    for i in range(2):  # by the engine, then by a user's array
        for one in (net, other):
            blob = one.layer_dict[name].blobs[0]
            (blob.data if i else blob.tensor)[...] *= 2
        net.forward()
        one_by_one(other)
        assert_alike(net, other)


def test_a_test_net_sees_each_step_of_training(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        NET.format(force="false", width=7, bias="true", own="true", top="a", fixed="", slope=0)
        + 'layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 dim: 2 dim: 6 dim: 7 } } }'
        + 'layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }')
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 max_iter: 9 test_iter: 1 '
        f'test_interval: 100 snapshot_after_train: false')
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    losses = []
    for net in (solver.net, solver.test_nets[0]):
        net.blobs["x"].data[...] = np.random.RandomState(0).randn(4, 3, 6, 7)
    for _ in range(3):
        solver.step(1)
        net = solver.test_nets[0]
        net.share_with(solver.net)
        losses.append(float(net.run_forward(keep_graph=False)))
        assert Folded in kinds(net, graph=False)
        one_by_one(net)
        assert losses[-1] == pytest.approx(float(net.blobs["loss"].data), rel=1e-5)
    assert len(set(losses)) == 3


def test_diffs_of_a_sum_are_not_written_over(make_net):
    """ReLU writes its diff over that of its top only where a convolution or a split has just made it."""
    net = make_net("""force_backward: true
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "w" type: "Input" top: "w" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "a" type: "Power" bottom: "x" top: "a" }
        layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
        layer { name: "y" type: "Eltwise" bottom: "a" bottom: "w" top: "y" }""")
    net.blobs["x"].data[...] = [[-1, 1, -1], [1, -1, 1]]
    net.forward()
    net.blobs["y"].diff[...] = 5
    net.backward()
    np.testing.assert_array_equal(net.blobs["w"].diff, np.full((2, 3), 5))
    np.testing.assert_array_equal(net.blobs["x"].diff, [[0, 5, 0], [5, 0, 5]])


@pytest.mark.parametrize("place", ["weights", "bias", "picture", "statistics"])
def test_a_nan_passes_folded_layers(make, place):
    """A net that has diverged must not look sound."""
    net = make(caffe.TEST, "false")
    (weights, bias), statistics = net.params["conv"], net.params["norm"][1]
    target = {"weights": weights, "bias": bias, "picture": net.blobs["x"], "statistics": statistics}
    assert kinds(net, graph=False)[1] is Folded
    target[place].data.flat[0] = -9 if place == "statistics" else np.nan  # a negative variance has no root
    assert np.isnan(net.forward()["y"]).any()

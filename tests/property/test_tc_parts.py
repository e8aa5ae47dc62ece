"""Passes in parts, with looks at blobs between them, give what whole passes give, whichever layers work in place."""

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

import torchcaffe as caffe
from torchcaffe.proto import caffe_pb2 as pb

IN_PLACE = {  # a layer's name here -> its type and fields
    "ReLU": "ReLU", "leaky": "ReLU relu_param { negative_slope: 0.3 }", "PReLU": "PReLU", "ELU": "ELU", "TanH": "TanH",
    "Sigmoid": "Sigmoid", "Softmax": "Softmax", "BatchNorm": "BatchNorm",
    "fixed": "BatchNorm batch_norm_param { use_global_stats: true }",
    "Scale": 'Scale scale_param { bias_term: true filler { type: "uniform" min: 0.5 max: 2 } bias_filler { type: "gaussian" } }',
    "Bias": 'Bias bias_param { filler { type: "gaussian" } }',
    "wide": 'Bias bias_param { axis: 0 num_axes: -1 filler { type: "gaussian" } }'}  # one term a value
OTHERS = {"Convolution": 'Convolution convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "msra" } }',
          "Reshape": "Reshape reshape_param { shape { dim: 0 dim: 0 dim: 0 dim: 0 } }",
          "Power": "Power power_param { scale: 0.7 }", "LRN": "LRN",
          "MVN": "MVN", "sum": "Eltwise", "product": "Eltwise eltwise_param { operation: PROD }"}
KINDS = {**IN_PLACE, **OTHERS}
SHAPE = (4, 3, 4, 5)


def net_of(layers):
    """Return a net of kinds of layers, each with whether it works in place; sums and products are with the first blob."""
    shape = " ".join(f"dim: {side}" for side in SHAPE)
    text = ('force_backward: true state { phase: TRAIN } '
            f'layer {{ name: "x" type: "Input" top: "0" input_param {{ shape {{ {shape} }} }} }}')
    at = "0"
    for number, (kind, in_place) in enumerate([("Power", False), *layers], 1):
        name, _, fields = KINDS[kind].partition(" ")
        top = at if in_place and number > 1 else str(number)
        more = 'bottom: "1"' if name == "Eltwise" and at != "1" else 'bottom: "0"' if name == "Eltwise" else ""
        text += f' layer {{ name: "layer{number}" type: "{name}" bottom: "{at}" {more} top: "{top}" {fields} }}'
        at = top
    caffe.set_random_seed(5)
    net = caffe.Net(text_format.Parse(text, pb.NetParameter()))
    for layer in net.layers:  # statistics, so that fixed ones do something
        for blob in layer.blobs if layer.type == "BatchNorm" else []:
            blob.tensor.fill_(0.5 + len(blob.shape))
    return net, at


def run_whole(net):
    """Run forward and backward twice; gradients of parameters add up."""
    net._forward(0, len(net.layers) - 1)
    yield
    for _ in range(2):
        net._backward(len(net.layers) - 1, 0)


def run_in_parts(net, looks):
    """Do the same layer by layer, and look at the results of some as soon as they are there."""
    for i, (name, seen) in enumerate(zip(net._layer_names, looks)):
        net._forward(i, i)
        [net.blobs[top].data for top in net.top_names[name] if seen]
    yield
    for _ in range(2):
        for i, (name, seen) in reversed([*enumerate(zip(net._layer_names, looks))]):
            net._backward(i, i)
            [net.blobs[bottom].diff for bottom in net.bottom_names[name] if seen]


def passes(layers, run, *more):
    """Return results and gradients of two passes over a net."""
    (net, last), random, found = net_of(layers), np.random.RandomState(1), []
    for _ in range(2):
        net.blobs["0"].tensor = caffe.blob.tensor_of(random.randn(*SHAPE).astype(np.float32))
        net.clear_param_diffs()
        for _ in run(net, *more):
            net.blobs[last].grad = caffe.blob.tensor_of(random.randn(*SHAPE).astype(np.float32))
        found.append([net.blobs[last].data.copy(), net.blobs["0"].diff.copy(),
                      *(blob.diff.copy() for blobs in net.params.values() for blob in blobs)])
    return found


def assert_parts_equal_the_whole(layers, looks):
    for wanted, found in zip(passes(layers, run_whole), passes(layers, run_in_parts, looks)):
        largest = max(1e-3, *(np.abs(array).max() for array in wanted[1:]))
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-5)
        for mine, whole in zip(found[1:], wanted[1:]):
            np.testing.assert_allclose(mine, whole, rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize("layers", [
    [("BatchNorm", False), ("Scale", True)],
    [("TanH", False), ("Bias", True)],
    [("fixed", False), ("ReLU", True), ("Scale", True)],
    [("Power", False), ("Scale", False), ("Bias", True), ("sum", False)],
    [("wide", False), ("leaky", False)],
], ids=lambda layers: "-".join(kind for kind, _ in layers))
def test_known_nets(layers):
    assert_parts_equal_the_whole(layers, [True] * 40)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.sampled_from(sorted(IN_PLACE)), st.booleans()),
                          st.tuples(st.sampled_from(sorted(OTHERS)), st.just(False))), min_size=1, max_size=7),
       st.lists(st.booleans(), min_size=40, max_size=40))
def test_any_net(layers, looks):
    assert_parts_equal_the_whole(layers, looks)

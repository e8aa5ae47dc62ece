"""Convolution and pooling of any legal geometry against loops that follow the definitions, forward and backward."""

import itertools

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

import torchcaffe as caffe
from torchcaffe.proto import caffe_pb2 as pb

small = st.integers(1, 4)
EXAMPLES = settings(max_examples=60, deadline=None)


def net_of(kind, fields, shape):
    dims = " ".join(f"dim: {n}" for n in shape)
    text = (f'force_backward: true state {{ phase: TRAIN }} layer {{ name: "x" type: "Input" top: "x" '
            f'input_param {{ shape {{ {dims} }} }} }} layer {{ name: "y" type: "{kind}" bottom: "x" top: "y" {fields} }}')
    return caffe.Net(text_format.Parse(text, pb.NetParameter()))


def run(net, x, random):
    """Return output, its random gradient, and the gradient of the input."""
    net.blobs["x"].data[...] = x
    y = net.forward()["y"].copy()
    dy = net.blobs["y"].diff
    dy[...] = random.randn(*dy.shape)
    net.backward()
    return y, dy, net.blobs["x"].diff


@st.composite
def geometries(draw, kernels=small):
    """Draw size, kernel, stride, pad and dilation of one axis."""
    kernel, stride, dilation = draw(kernels), draw(small), draw(st.integers(1, 2))
    pad = draw(st.integers(0, 3))
    return draw(st.integers(1, 9)), kernel, stride, pad, dilation


@EXAMPLES
@given(geometries(), geometries(), small, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_convolution(rows, columns, group, per_in, per_out, bias, seed):
    random = np.random.RandomState(seed)
    names = ("h", "w")
    fields = "".join(f"kernel_{n}: {k} stride_{n}: {s} pad_{n}: {p} " for n, (_, k, s, p, _) in zip(names, (rows, columns)))
    fields += f"dilation: {rows[4]} dilation: {columns[4]} group: {group} num_output: {per_out * group} "
    fields += f"bias_term: {str(bias).lower()}"
    shape = (2, per_in * group, rows[0], columns[0])
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in (rows, columns)]
    if min(out) < 1:
        with pytest.raises(caffe.CaffeError, match="smaller than the kernel"):
            net_of("Convolution", f"convolution_param {{ {fields} }}", shape)
        return
    net = net_of("Convolution", f"convolution_param {{ {fields} }}", shape)
    for blob in net.params["y"]:
        blob.data[...] = random.randn(*blob.shape)
    w, b = net.params["y"][0].data.astype(float), net.params["y"][1].data.astype(float) if bias else np.zeros(per_out * group)
    x = random.randn(*shape)
    y, dy, dx = run(net, x, random)
    assert y.shape == (2, per_out * group, *out)
    wide = np.pad(x, ((0, 0), (0, 0), (rows[3],) * 2, (columns[3],) * 2))
    want, dwide, dw = np.zeros(y.shape), np.zeros(wide.shape), np.zeros(w.shape)
    for o, i, j in itertools.product(range(per_out * group), range(out[0]), range(out[1])):
        g = o // per_out * per_in
        window = (slice(None), slice(g, g + per_in), slice(i * rows[2], i * rows[2] + rows[4] * (rows[1] - 1) + 1, rows[4]),
                  slice(j * columns[2], j * columns[2] + columns[4] * (columns[1] - 1) + 1, columns[4]))
        want[:, o, i, j] = (wide[window] * w[o]).sum((1, 2, 3)) + b[o]
        dwide[window] += dy[:, o, i, j, None, None, None] * w[o]
        dw[o] += (dy[:, o, i, j, None, None, None] * wide[window]).sum(0)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
    inside = dwide[:, :, rows[3]:rows[3] + rows[0], columns[3]:columns[3] + columns[0]]
    np.testing.assert_allclose(dx, inside, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(net.params["y"][0].diff, dw, rtol=1e-4, atol=1e-4)
    if bias:
        np.testing.assert_allclose(net.params["y"][1].diff, dy.sum((0, 2, 3)), rtol=1e-4, atol=1e-4)


def pooled(size, kernel, stride, pad, any_pad, floor):
    """Return the windows [start, end) of one axis with padding, or None where the text is not legal."""
    room = size + 2 * pad - kernel
    count = (room // stride if floor else -(-room // stride)) + 1
    if any_pad and (count - 1) * stride >= size + pad:
        count -= 1
    windows = [(i * stride - pad, min(i * stride - pad + kernel, size + pad)) for i in range(count)]
    return windows if windows and windows[-1][0] < size else None


@EXAMPLES
@given(geometries(), geometries(), st.sampled_from(["MAX", "AVE"]), st.booleans(), st.integers(0, 99))
def test_pooling(rows, columns, method, floor, seed):
    random = np.random.RandomState(seed)
    fields = f"pool: {method} round_mode: {'FLOOR' if floor else 'CEIL'} " + "".join(
        f"kernel_{n}: {k} stride_{n}: {s} pad_{n}: {p} " for n, (_, k, s, p, _) in zip("hw", (rows, columns)))
    shape = (2, 3, rows[0], columns[0])
    any_pad = rows[3] > 0 or columns[3] > 0
    lines = [pooled(n, k, s, p, any_pad, floor) for n, k, s, p, _ in (rows, columns)]
    if None in lines or rows[3] >= rows[1] or columns[3] >= columns[1]:
        with pytest.raises(caffe.CaffeError, match=r"starts outside|pad must be smaller"):
            net_of("Pooling", f"pooling_param {{ {fields} }}", shape)
        return
    net = net_of("Pooling", f"pooling_param {{ {fields} }}", shape)
    x = random.randn(*shape).astype(np.float32)
    y, dy, dx = run(net, x, random)
    want, dwant = np.zeros((2, 3, len(lines[0]), len(lines[1]))), np.zeros(shape)
    for (i, (top, bottom)), (j, (left, right)) in itertools.product(enumerate(lines[0]), enumerate(lines[1])):
        window = (slice(max(top, 0), min(bottom, rows[0])), slice(max(left, 0), min(right, columns[0])))
        for n, c in itertools.product(range(2), range(3)):
            part = x[n, c][window]
            if method == "MAX":
                want[n, c, i, j] = part.max()
                at = np.unravel_index(part.argmax(), part.shape)
                dwant[n, c, window[0].start + at[0], window[1].start + at[1]] += dy[n, c, i, j]
            else:
                area = (bottom - top) * (right - left)
                want[n, c, i, j] = part.sum() / area
                dwant[n, c][window] += dy[n, c, i, j] / area
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, dwant, rtol=1e-5, atol=1e-6)

"""Small convolutions and inner products in Caffe's own steps: im2col, products and sums in the order of its BLAS.

They round as Caffe's do, so near ties of a ReLU or a pooling fall as they fall there. Gradients of parameters are added
picture by picture to what their blobs hold, also as in Caffe: `backward` does that itself and returns none for them.
"""
import itertools
from typing import Any, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import blas
from ..blob import Blob

SMALL = 60_000_000  # multiply-adds of a forward pass, at most; beyond, speed counts more
MANY = 1_000_000  # values that are multiplied at a time, at most: beyond, im2col of a picture leaves the cache and costs too much
Gradients = Tuple[Optional[Tensor], ...]


def is_small(x: Tensor, values: int, work: int, kind: torch.dtype) -> bool:
    """Return whether a layer that makes `work` multiply-adds out of `x` is computed here, `values` at a time."""
    return x.device.type == "cpu" and kind == torch.float32 and work <= SMALL and values <= MANY


class Convolve(torch.autograd.Function):
    """Convolution of N x C x height x width (base_conv_layer.cpp)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Optional[Tensor], layer: Any) -> Tensor:
        """Return the top."""
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        y = _join([blas.multiply(w, c) for w, c in zip(_filters(weight, layer), _columns(x, layer))])
        return _new(y.reshape(layer.top_shapes([tuple(x.shape)])[0]), None if bias is None else bias.view(-1, 1, 1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        """Return the gradient of the bottom, add those of the parameters."""
        (x, weight), layer = ctx.saved_tensors, ctx.layer
        grad = grads[0].flatten(2).contiguous()
        tops = grad.chunk(layer.group, 1)
        if ctx.needs_input_grad[2]:
            _add(layer.blobs[1], blas.row_sum_parts(grad))
        if ctx.needs_input_grad[1]:
            _add(layer.blobs[0], _join([blas.product_parts(t, c.mT) for t, c in zip(tops, _columns(x, layer))]))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        columns = _join([blas.multiply(w.mT, t) for w, t in zip(_filters(weight, layer), tops)])
        return _spread(columns, x.shape, layer), None, None, None


def _new(y: Tensor, bias: Optional[Tensor]) -> Tensor:
    """Return y plus a bias in memory of its own, over which a layer may write in place."""
    return y.clone() if bias is None else y + bias


def _filters(weight: Tensor, layer: Any) -> List[Tensor]:
    """Return the filters of each group: outputs x values under a window."""
    return list(weight.flatten(1).chunk(layer.group))


def _join(groups: List[Tensor]) -> Tensor:
    return groups[0] if len(groups) == 1 else torch.cat(groups, 1)


def _columns(x: Tensor, layer: Any) -> List[Tensor]:
    """Return what lies under each window, for each group of channels: N x values x windows (im2col.cpp)."""
    wide = F.pad(x, (layer.pad[1], layer.pad[1], layer.pad[0], layer.pad[0])).contiguous()
    steps = [wide.stride(i + 2) * each[i] for each in (layer.dilation, layer.stride) for i in (0, 1)]
    shape = (*x.shape[:2], *layer.kernel, *layer.top_shapes([tuple(x.shape)])[0][2:])
    windows = wide.as_strided(shape, (*wide.stride()[:2], *steps))
    return list(windows.reshape(len(x), -1, shape[4] * shape[5]).chunk(layer.group, 1))


def _spread(columns: Tensor, shape: torch.Size, layer: Any) -> Tensor:
    """Add what lies under each window to the picture, place by place in the window (col2im.cpp)."""
    (height, width), (rows, cols) = layer.top_shapes([tuple(shape)])[0][2:], layer.kernel
    wide = torch.zeros(*shape[:2], shape[2] + 2 * layer.pad[0], shape[3] + 2 * layer.pad[1])
    parts = columns.view(*shape[:2], rows, cols, height, width)
    for row, col in itertools.product(range(rows), range(cols)):
        top, left = row * layer.dilation[0], col * layer.dilation[1]
        wide[:, :, top:top + (height - 1) * layer.stride[0] + 1:layer.stride[0],
             left:left + (width - 1) * layer.stride[1] + 1:layer.stride[1]] += parts[:, :, row, col]
    return wide[:, :, layer.pad[0]:layer.pad[0] + shape[2], layer.pad[1]:layer.pad[1] + shape[3]].contiguous()


def _add(blob: Blob, parts: Tensor) -> None:
    """Add to a gradient, part by part."""
    blob.grad = blas.add_up(parts.reshape(-1, *blob.shape), None if blob.grad_empty else blob.grad)


class Project(torch.autograd.Function):
    """Inner product of ... x inputs with N x K weights, or K x N ones with `transpose` (inner_product_layer.cpp)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Optional[Tensor], layer: Any) -> Tensor:
        """Return the top."""
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        y = blas.multiply(_rows(x), weight if _transposed(layer) else weight.mT)
        return _new(y.reshape(*x.shape[:-1], y.shape[1]), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        """Return the gradient of the bottom, add those of the parameters."""
        (x, weight), layer = ctx.saved_tensors, ctx.layer
        grad, rows = _rows(grads[0]).contiguous(), _rows(x)
        if ctx.needs_input_grad[1]:
            pair = (rows.mT, grad) if _transposed(layer) else (grad.mT, rows)
            _add(layer.blobs[0], blas.product_parts(*pair))
        if ctx.needs_input_grad[2]:
            layer.blobs[1].grad = blas.add_columns(layer.blobs[1].grad, grad)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        return blas.multiply(grad, weight.mT if _transposed(layer) else weight).view(x.shape), None, None, None


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _transposed(layer: Any) -> bool:
    return bool(layer.param.inner_product_param.transpose)

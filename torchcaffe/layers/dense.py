"""Layers that mix values without a window: inner product, normalizations, softmax, reductions."""
import math
from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blob import Shape
from ..proto import caffe_pb2 as pb
from .base import ALWAYS, FORWARD_ONLY, FULL, LOW, Layer, Tensors, register
from .rows import Rows

SMALL = 1_000_000  # weights of an inner product, at most, that stays float32


@register
class InnerProduct(Layer):
    """Linear map of everything from `axis` on; the weights are N x K, or K x N with `transpose`."""

    saves_top, by_hand = False, True

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.inner_product_param
        self.transposed = bool(p.transpose)
        self.check(p.num_output > 0, "num_output must be positive")
        self.inputs = math.prod(shapes[0][self.axis(p.axis, shapes[0]):])
        self.add_param((self.inputs, p.num_output) if p.transpose else (p.num_output, self.inputs), p.weight_filler)
        self.numbers = FULL if self.inputs * p.num_output <= SMALL else LOW  # rounded scores would tie in rankings
        if p.bias_term:
            self.add_param((p.num_output,), p.bias_filler)

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.at = self.axis(self.param.inner_product_param.axis, shapes[0])
        found = math.prod(shapes[0][self.at:])
        self.check(found == self.inputs, f"was set up for {self.inputs} inputs, gets {found} from shape {shapes[0]}")
        return [(*shapes[0][:self.at], self.param.inner_product_param.num_output)]

    def compute(self, *tensors: Tensor) -> Tensors:
        x, weight = tensors[0].flatten(self.at), tensors[1]
        bias = tensors[2] if len(tensors) > 2 else None
        return F.linear(x, weight.t() if self.transposed else weight, bias)

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        (x, weight), transposed = tensors[:2], self.transposed
        rows, dy = x.reshape(-1, self.inputs), diffs[0].reshape(-1, weight.shape[transposed])
        of_weight = (rows.t() @ dy if transposed else dy.t() @ rows) if wanted[1] else None
        return [(dy @ (weight.t() if transposed else weight)).reshape(x.shape) if wanted[0] else None, of_weight,
                *[dy.sum(0) if bias else None for bias in wanted[2:]]]


@register
class BatchNorm(Layer):
    """Zero mean and unit variance a channel; keeps sums of both and their number (batch_norm_layer.cpp)."""

    in_place = ALWAYS
    repeatable, saves_bottom, by_hand = False, False, True

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.batch_norm_param
        self.fixed = self.phase == pb.TEST if not p.HasField("use_global_stats") else p.use_global_stats
        self.saves_top = not self.fixed
        channels = shapes[0][1] if len(shapes[0]) > 1 else 1
        for shape in ((channels,), (channels,), (1,)):
            self.add_param(shape, pb.FillerParameter(type="constant"))
        self.check(all(spec.lr_mult == 0 or not spec.HasField("lr_mult") for spec in self.param.param),
                   "its parameters are statistics, not trained: lr_mult must be 0")
        while len(self.param.param) < 3:
            self.param.param.add()
        for spec in self.param.param:
            spec.lr_mult = 0

    def statistics(self, rows: Rows, x: Tensor, params: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        """Return the mean, and one over the deviation, that hold in this pass; those of a batch enter the sums."""
        p, (mean, var, number) = self.param.batch_norm_param, params
        if self.fixed:
            scale = (1 / number).nan_to_num_(posinf=0)
            return mean * scale, (var * scale).add_(p.eps).rsqrt_()
        spread, centre = rows.moments(x)
        torch._foreach_mul_([mean, var, number], p.moving_average_fraction)
        mean.add_(centre)
        var.add_(spread, alpha=rows.count / max(1, rows.count - 1))
        number.add_(1)
        return centre, spread.add_(p.eps).rsqrt_()

    def compute(self, *tensors: Tensor) -> Tensors:
        rows = Rows(tensors[0])
        x = rows.of(tensors[0])
        centre, self.factor = self.statistics(rows, x, tensors[1:])
        if self.fixed:
            return rows.back(rows.affine(x, self.factor, -centre * self.factor, x if self.may_overwrite else None))
        return rows.back((x - rows.wide(centre)).mul_(rows.wide(self.factor)))

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        rows = Rows(diffs[0])
        dy = rows.of(diffs[0])
        if self.fixed:
            return [rows.back(rows.affine(dy, self.factor, None))]
        y = rows.of(ys[0])
        along, total = rows.sums(y, dy, y.new_zeros(rows.channels), y.new_ones(rows.channels))
        share = -self.factor / rows.count
        return [rows.back(rows.affine(y, share * along, share * total).addcmul_(dy, rows.wide(self.factor)))]


@register
class MVN(Layer):
    """Zero mean and, unless switched off, unit variance of each picture or of each of its channels (mvn_layer.cpp).

    Its gradient is Caffe's, which takes the deviation plus `eps` for the deviation. As in Caffe, the top has four axes.
    """

    in_place, by_hand = FORWARD_ONLY, True

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(len(shapes[0]) <= 4, f"the bottom has shape {shapes[0]}, it may have 4 axes at most")
        return [_four_axes(shapes[0])]

    def compute(self, *tensors: Tensor) -> Tensors:
        moved = self._moved(tensors[0])
        return moved / self._scale(moved) if self.param.mvn_param.normalize_variance else moved

    def _moved(self, x: Tensor) -> Tensor:
        x = x.reshape(_four_axes(tuple(x.shape)))
        return x - self._mean(x)

    def _mean(self, x: Tensor) -> Tensor:
        return x.mean([1, 2, 3] if self.param.mvn_param.across_channels else [2, 3], keepdim=True)

    def _scale(self, moved: Tensor) -> Tensor:
        eps: float = self.param.mvn_param.eps
        return self._mean(moved * moved).sqrt() + eps

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        (x,), (y,), (dy,) = tensors, ys, diffs
        found = dy - self._mean(dy)
        if self.param.mvn_param.normalize_variance:
            found = (found - y * self._mean(y * dy)) / self._scale(self._moved(x))
        return [found.reshape(x.shape)]


def _four_axes(shape: Shape) -> Shape:
    return (*shape, *[1] * (4 - len(shape)))


@register
class Softmax(Layer):
    """exp(x) over its sum along `axis`."""

    in_place = ALWAYS

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.at = self.axis(self.param.softmax_param.axis, shapes[0])
        return [shapes[0]]

    def compute(self, *tensors: Tensor) -> Tensors:
        return F.softmax(tensors[0], self.at)


@register
class ArgMax(Layer):
    """Index (and value) of the largest entries; of equal ones the last comes first (argmax_layer.cpp)."""

    no_gradient = (0,)

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        p = self.param.argmax_param
        self.at = self.axis(p.axis, shapes[0]) if p.HasField("axis") else None
        self.size = shapes[0][self.at] if self.at is not None else math.prod(shapes[0][1:])
        self.check(1 <= p.top_k <= self.size, f"top_k is {p.top_k}, there are {self.size} values")
        if self.at is not None:
            return [(*shapes[0][:self.at], p.top_k, *shapes[0][self.at + 1:])]
        shape = [1] * max(3, len(shapes[0]))
        shape[0], shape[1], shape[2] = shapes[0][0], 1 + p.out_max_val, p.top_k
        return [tuple(shape)]

    def compute(self, *tensors: Tensor) -> Tensors:
        p = self.param.argmax_param
        x = tensors[0] if self.at is not None else tensors[0].reshape(len(tensors[0]), -1)
        at = self.at if self.at is not None else 1
        values, index = torch.sort(x.flip(at), dim=at, descending=True, stable=True)
        values, index = values.narrow(at, 0, p.top_k), self.size - 1 - index.narrow(at, 0, p.top_k)
        if self.at is not None:
            return values if p.out_max_val else index.to(x.dtype)
        both = [index.to(x.dtype), values][:1 + p.out_max_val]
        return torch.stack(both, 1).reshape(self.top_shapes([tuple(tensors[0].shape)])[0])


@register
class Reduction(Layer):
    """Sum, sum of absolute values, of squares, or mean of everything from `axis` on, times `coeff`."""

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.at = self.axis(self.param.reduction_param.axis, shapes[0])
        return [shapes[0][:self.at]]

    def compute(self, *tensors: Tensor) -> Tensors:
        p, x = self.param.reduction_param, tensors[0].flatten(self.at)
        x = x.abs() if p.operation == p.ASUM else x * x if p.operation == p.SUMSQ else x
        return (x.mean(-1) if p.operation == p.MEAN else x.sum(-1)) * p.coeff

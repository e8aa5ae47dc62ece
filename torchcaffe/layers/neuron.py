"""Layers that treat every value by itself: activations, powers, dropout."""
import math
from typing import Any, List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import context
from ..blob import Shape
from ..proto import caffe_pb2 as pb
from .base import ALWAYS, ANY, FORWARD_ONLY, Layer, Tensors, elementwise, register
from .rows import Rows


@register
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0); the gradient at 0 is that of negative values (relu_layer.cpp).

    Needs only its top on the way back, so it overwrites its bottom where the net allows it. A slope below 0 hides the sign of x
    in the top: then it needs the bottom, and has no right gradient in place.
    """

    in_place = ALWAYS
    numbers, saves_bottom, by_hand = ANY, False, True
    owns_diff = False  # in place, without a slope, and the diff of its top is nobody else's: the bottom's is written over it

    def setup(self, shapes: List[Shape]) -> None:
        self.slope = self.param.relu_param.negative_slope
        self.saves_bottom = self.slope < 0
        self.in_place = FORWARD_ONLY if self.saves_bottom else ALWAYS

    def compute(self, *tensors: Tensor) -> Tensors:
        slope, x = self.slope, tensors[0]
        if self.may_overwrite:
            return F.leaky_relu_(x, slope) if slope else torch.relu_(x)
        return F.leaky_relu(x, slope) if slope else torch.relu(x)

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        (y,), (dy,), slope = ys, diffs, self.slope
        if slope:
            return [torch.where((tensors[0] if self.saves_bottom else y) > 0, dy, dy * slope)]
        if self.owns_diff:
            return [torch.ops.aten.threshold_backward.grad_input(dy, y, 0, grad_input=dy)]
        return [torch.ops.aten.threshold_backward(dy, y, 0)]


@register
class PReLU(Layer):
    """ReLU with a learned slope for negative values, one a channel or one in all (prelu_layer.cpp)."""

    in_place = ALWAYS

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.prelu_param
        self.check(len(shapes[0]) >= 2, f"the bottom has shape {shapes[0]}, it needs a channel axis")
        self.add_param(() if p.channel_shared else (shapes[0][1],), _filler(p, 0.25))

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        found = self.blobs[0].shape
        self.check(not found or found == shapes[0][1:2], f"was set up for {found} channels, gets shape {shapes[0]}")
        return [shapes[0]]

    def compute(self, *tensors: Tensor) -> Tensors:
        return F.prelu(tensors[0], tensors[1].reshape(-1))


@register
class Dropout(Layer):
    """Zero a share of the values while training and enlarge the others; nothing in the test phase."""

    in_place = ALWAYS
    numbers, repeatable = ANY, False

    def setup(self, shapes: List[Shape]) -> None:
        self.ratio = self.param.dropout_param.dropout_ratio
        self.check(0 <= self.ratio < 1, f"dropout_ratio is {self.ratio:g}, it must be at least 0 and below 1")

    def compute(self, *tensors: Tensor) -> Tensors:
        x, = tensors
        if self.phase == pb.TEST:
            return x.view_as(x) if self.param.top[0] == self.param.bottom[0] else x.clone()  # Caffe's top has its own memory
        mask = torch.empty_like(x).bernoulli_(1 - self.ratio, generator=context.generator(x.device))
        return x * mask.div_(1 - self.ratio)


@register
class Threshold(Layer):
    """1 where x > threshold, else 0; has no gradient."""

    in_place = FORWARD_ONLY
    no_gradient = (0,)

    def compute(self, *tensors: Tensor) -> Tensors:
        return (tensors[0] > self.param.threshold_param.threshold).to(tensors[0].dtype)


@register
class Power(Layer):
    """(shift + scale * x) ** power (power_layer.cpp)."""

    in_place = FORWARD_ONLY

    def compute(self, *tensors: Tensor) -> Tensors:
        p = self.param.power_param
        y = tensors[0] * p.scale + p.shift
        return y if p.power == 1 else y ** p.power


@register
class Exp(Layer):
    """base ** (shift + scale * x); base -1 means e."""

    in_place = ALWAYS

    def compute(self, *tensors: Tensor) -> Tensors:
        p = self.param.exp_param
        self.check(p.base > 0 or p.base == -1, f"base is {p.base:g}, it must be positive, or -1 for e")
        return ((tensors[0] * p.scale + p.shift) * (1 if p.base == -1 else math.log(p.base))).exp()


@register
class Log(Layer):
    """Logarithm to a base of (shift + scale * x); base -1 means e."""

    in_place = FORWARD_ONLY

    def compute(self, *tensors: Tensor) -> Tensors:
        p = self.param.log_param
        self.check(p.base > 0 or p.base == -1, f"base is {p.base:g}, it must be positive, or -1 for e")
        return (tensors[0] * p.scale + p.shift).log() / (1 if p.base == -1 else math.log(p.base))


@register
class Clip(Layer):
    """The value, kept between min and max."""

    in_place = FORWARD_ONLY

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.clip_param
        self.check(p.min <= p.max, f"min is {p.min:g}, max is {p.max:g}; min must not be above max")

    def compute(self, *tensors: Tensor) -> Tensors:
        return tensors[0].clamp(self.param.clip_param.min, self.param.clip_param.max)


@register
class ELU(Layer):
    """x for positive values, alpha * (exp(x) - 1) for others."""

    in_place = ALWAYS  # of the usual alpha

    def setup(self, shapes: List[Shape]) -> None:
        self.in_place = FORWARD_ONLY if self.param.elu_param.alpha < 0 else ALWAYS  # the top hides the sign of x

    def compute(self, *tensors: Tensor) -> Tensors:
        return F.elu(tensors[0], self.param.elu_param.alpha)


@register
class Swish(Layer):
    """x * sigmoid(beta * x)."""

    in_place = ALWAYS

    def compute(self, *tensors: Tensor) -> Tensors:
        return tensors[0] * torch.sigmoid(tensors[0] * self.param.swish_param.beta)


@register
class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    in_place = ALWAYS
    compute = elementwise(torch.sigmoid)


@register
class TanH(Layer):
    """Hyperbolic tangent."""

    in_place = ALWAYS
    compute = elementwise(torch.tanh)


@register
class AbsVal(Layer):
    """Absolute value."""

    compute = elementwise(torch.abs)


@register
class BNLL(Layer):
    """log(1 + exp(x)) (bnll_layer.cpp)."""

    in_place = FORWARD_ONLY

    def compute(self, *tensors: Tensor) -> Tensors:
        return F.softplus(tensors[0], threshold=50)


def _filler(param: Any, default: float) -> Any:
    """Return a parameter's filler, or the constant that stands where the text names none."""
    return param.filler if param.HasField("filler") else pb.FillerParameter(type="constant", value=default)


def _across(x: Tensor, factor: Tensor, axis: int) -> Tensor:
    """Return `factor` with axes of length 1 added, so that its first axis meets `axis` of x."""
    return factor.reshape((1,) * axis + tuple(factor.shape) + (1,) * (x.dim() - axis - factor.dim()))


class _Affine(Layer):
    """What Scale and Bias share: where their second operand comes from, and where it is laid."""

    bottoms = (1, 2)
    field, constant = "", 0.0

    def setup(self, shapes: List[Shape]) -> None:
        p = getattr(self.param, self.field)
        if len(shapes) == 1:
            at = self.axis(p.axis, shapes[0]) if shapes[0] else 0
            self.check(p.num_axes >= -1, f"num_axes is {p.num_axes}, it must be -1 or more")
            end = len(shapes[0]) if p.num_axes == -1 else at + p.num_axes
            self.check(end <= len(shapes[0]), f"axis {p.axis} + num_axes {p.num_axes} exceeds the axes of {shapes[0]}")
            self.operand = shapes[0][at:end]
            self.add_param(self.operand, _filler(p, self.constant))

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        operand = shapes[1] if len(shapes) > 1 else self.operand
        scalar = not shapes[0] or (len(shapes) > 1 and not operand)
        self.at = 0 if scalar else self.axis(getattr(self.param, self.field).axis, shapes[0])
        self.check(shapes[0][self.at:self.at + len(operand)] == operand,
                   f"operand of shape {operand} does not fit axis {self.at} of a bottom with shape {shapes[0]}")
        return [shapes[0]]


@register
class Scale(_Affine):
    """Product with a learned or given factor, broadcast from `axis` on; optional bias (scale_layer.cpp)."""

    in_place = ALWAYS
    saves_top, by_hand = False, True
    field, constant = "scale_param", 1.0

    def setup(self, shapes: List[Shape]) -> None:
        super().setup(shapes)
        p = self.param.scale_param
        if p.bias_term:
            operand = shapes[1] if len(shapes) > 1 else self.operand
            self.add_param(operand, p.bias_filler)
        self.by_channel = self.param.scale_param.axis == 1 and len(shapes) == 1 and len(self.operand) == 1

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        found, factors = super().top_shapes(shapes), math.prod(shapes[1] if len(shapes) > 1 else self.operand)
        # nothing in front of the factors' axes, or a factor a value: Caffe puts its product there, whatever was there before
        alone = math.prod(shapes[0][:self.at]) == 1 and factors > 1
        self.overwrites = 0 if len(shapes) == 1 and (alone or factors == math.prod(shapes[0])) else None
        return found

    def compute(self, *tensors: Tensor) -> Tensors:
        x, factor = tensors[:2]
        if self.by_channel:
            rows = Rows(x)
            lines = rows.of(x)
            free = lines if self.may_overwrite and not self.learns else None
            return rows.back(rows.affine(lines, factor, tensors[2] if len(tensors) > 2 else None, free))
        factor = _across(x, factor, self.at)
        return torch.addcmul(_across(x, tensors[2], self.at), x, factor) if len(tensors) > 2 else x * factor

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        (x, factor), (dy,) = tensors[:2], diffs
        others = [i for i in range(x.dim()) if not self.at <= i < self.at + factor.dim()]
        return [dy * _across(x, factor, self.at) if wanted[0] else None, _total(dy * x, others) if wanted[1] else None,
                *[_total(dy, others) if bias else None for bias in wanted[2:]]]


def _total(x: Tensor, axes: List[int]) -> Tensor:
    """Return the sum over some axes, which may be none."""
    return x.sum(axes) if axes else x


@register
class Bias(_Affine):
    """Sum with a learned or given term, broadcast from `axis` on (bias_layer.cpp)."""

    in_place = ALWAYS
    field, constant = "bias_param", 0.0

    def compute(self, *tensors: Tensor) -> Tensors:
        return tensors[0] + _across(tensors[0], tensors[1], self.at)

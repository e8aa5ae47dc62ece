"""Losses and Accuracy."""
import math
from typing import Any, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blob import Shape
from .base import Layer, Tensors, register

_FLT_MIN = 1.17549435e-38  # the smallest probability whose logarithm Caffe takes


def _ignored(p: Any) -> Optional[int]:
    return p.ignore_label if p.HasField("ignore_label") else None


class _Loss(Layer):
    bottoms, auto_top, is_loss = (2, 2), True, True
    no_gradient: Tuple[int, ...] = (1,)
    default_normalization = "VALID"

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(bool(shapes[0]) and shapes[0][:1] == shapes[1][:1],
                   f"bottoms have shapes {shapes[0]} and {shapes[1]}; they need the same batch size")
        return [()]

    def normalizer(self, outer: int, inner: int, valid: Tensor) -> Any:
        """Return what the sum of losses is divided by (LossParameter.normalization), at least 1."""
        p = self.param.loss_param
        mode = p.NormalizationMode.Name(p.normalization)
        if not p.HasField("normalization"):
            old = "VALID" if p.normalize else "BATCH_SIZE"
            mode = old if p.HasField("normalize") else self.default_normalization
        if mode == "VALID" and _ignored(p) is not None:
            return valid.sum().clamp(min=1)
        return max(1, {"FULL": outer * inner, "VALID": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[mode])


def _labels(layer: Layer, labels: Tensor, classes: int, ignored: Optional[int]) -> Tuple[Tensor, Tensor]:
    """Return integer labels (ignored ones as 0) and which of them count; Caffe reads outside its memory instead."""
    index = labels.to(torch.int64)
    valid = torch.ones_like(index, dtype=torch.bool) if ignored is None else index != ignored
    index = torch.where(valid, index, torch.zeros_like(index))
    if index.device.type == "cpu" and index.numel():
        low, high = int(index.min()), int(index.max())
        layer.check(low >= 0 and high < classes, f"label {low if low < 0 else high} is outside 0..{classes - 1}")
    return index, valid


class _Sloped(torch.autograd.Function):
    """A value whose gradient with respect to the scores is given."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """Return the value."""
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tuple[Optional[Tensor], ...]:
        """Return the gradient of the scores."""
        return grads[0] * ctx.saved_tensors[0], None, None


@register
class SoftmaxWithLoss(_Loss):
    """Mean of -log softmax(x)[label]; an optional second top is the softmax (softmax_loss_layer.cpp).

    The value takes the logarithm of at least FLT_MIN, so it never exceeds 87.34; the gradient knows no such limit.
    """

    tops = (1, 2)

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.at = self.axis(self.param.softmax_param.axis, shapes[0])
        self.outer, self.classes = math.prod(shapes[0][:self.at]), shapes[0][self.at]
        self.inner = math.prod(shapes[0][self.at + 1:])
        self.check(self.outer * self.inner == math.prod(shapes[1]),
                   f"scores {shapes[0]} need {self.outer * self.inner} labels, there are {math.prod(shapes[1])}")
        return [(), shapes[0]][:max(1, len(self.param.top))]

    def compute(self, *tensors: Tensor) -> Tensors:
        scores, labels = tensors
        index, valid = _labels(self, labels.reshape(self.outer, self.inner), self.classes,
                               _ignored(self.param.loss_param))
        flat = scores.reshape(self.outer, self.classes, self.inner)
        shares = F.softmax(flat.detach(), 1)
        each = -shares.gather(1, index[:, None])[:, 0].clamp(min=_FLT_MIN).log() * valid
        slope = (shares - F.one_hot(index, self.classes).movedim(-1, 1)) * valid[:, None]
        loss = _Sloped.apply(flat, each.sum(), slope) / self.normalizer(self.outer, self.inner, valid)  # type: ignore[no-untyped-call]
        return (loss, shares.reshape(scores.shape))[:max(1, len(self.param.top))]


@register
class EuclideanLoss(_Loss):
    """Half the mean over the batch of the squared distance."""

    no_gradient = ()

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(math.prod(shapes[0][1:]) == math.prod(shapes[1][1:]), f"bottoms differ in size: {shapes}")
        return super().top_shapes(shapes)

    def compute(self, *tensors: Tensor) -> Tensors:
        a, b = tensors
        return (a - b.reshape(a.shape)).square().sum() / (2 * a.shape[0])


@register
class HingeLoss(_Loss):
    """Sum of max(0, 1 - score) of the true class and max(0, 1 + score) of the others, or of their squares."""

    def compute(self, *tensors: Tensor) -> Tensors:
        scores, labels = tensors
        scores = scores.flatten(1)
        index, _ = _labels(self, labels.reshape(-1), scores.shape[1], None)
        sign = torch.ones_like(scores).scatter_(1, index[:, None], -1)
        margin = (1 + sign * scores).clamp(min=0)
        p = self.param.hinge_loss_param
        return (margin if p.norm == p.L1 else margin.square()).sum() / scores.shape[0]


@register
class SigmoidCrossEntropyLoss(_Loss):
    """Sum of the cross-entropies of sigmoid(x) and a target, by default over the batch size."""

    default_normalization = "BATCH_SIZE"

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(math.prod(shapes[0]) == math.prod(shapes[1]), f"bottoms differ in size: {shapes}")
        return super().top_shapes(shapes)

    def compute(self, *tensors: Tensor) -> Tensors:
        x, target = tensors[0], tensors[1].reshape(tensors[0].shape)
        ignored = _ignored(self.param.loss_param)
        valid = torch.ones_like(x, dtype=torch.bool) if ignored is None else target.to(torch.int64) != ignored
        each = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        return (each * valid).sum() / self.normalizer(x.shape[0], x[0].numel(), valid)


@register
class Accuracy(Layer):
    """Share of items whose true class is among the `top_k` largest scores; equal scores count against it.

    An optional second top gives the share of each class (accuracy_layer.cpp).
    """

    bottoms, tops = (2, 2), (1, 2)
    no_gradient = (0, 1)

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        p = self.param.accuracy_param
        self.at = self.axis(p.axis, shapes[0])
        self.outer, self.classes = math.prod(shapes[0][:self.at]), shapes[0][self.at]
        self.inner = math.prod(shapes[0][self.at + 1:])
        self.check(self.outer * self.inner == math.prod(shapes[1]),
                   f"scores {shapes[0]} need {self.outer * self.inner} labels, there are {math.prod(shapes[1])}")
        self.check(p.top_k <= self.classes, f"top_k is {p.top_k}, there are {self.classes} classes")
        return [(), (self.classes,)][:len(self.param.top)]

    def compute(self, *tensors: Tensor) -> Tensors:
        p = self.param.accuracy_param
        scores = tensors[0].reshape(self.outer, self.classes, self.inner)
        index, valid = _labels(self, tensors[1].reshape(self.outer, self.inner), self.classes, _ignored(p))
        better = (scores >= scores.gather(1, index[:, None])).sum(1) - 1  # the true class itself is among them
        right = (better < p.top_k) & valid
        share = right.sum() / valid.sum().clamp(min=1)
        if len(self.param.top) < 2:
            return share.to(scores.dtype)
        member = F.one_hot(index, self.classes) * valid[..., None]
        hits = (member * right[..., None]).sum((0, 1)) / member.sum((0, 1)).clamp(min=1)
        return share.to(scores.dtype), hits.to(scores.dtype)

"""Losses and Accuracy."""
import functools
import math
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import context
from ..blob import Shape
from ..netparam import blob_array, read_binary
from ..proto import caffe_pb2 as pb
from .base import Layer, Tensors, register

_FLT_MIN = 1.17549435e-38  # the smallest probability whose logarithm Caffe takes
_INFOGAIN_MIN, _CONTRASTIVE_EPS = 1e-20, 1e-4  # kLOG_THRESHOLD there, and what keeps a distance of 0 from dividing


def _ignored(p: Any) -> Optional[int]:
    return p.ignore_label if p.HasField("ignore_label") else None


class _Labelled(Layer):
    """What layers share whose second bottom are labels; one out of range ends the run, where Caffe reads outside its memory.

    On a GPU that is found out one pass later, so that this process need not wait for it.
    """

    # smallest and largest label, what waits for them, classes
    _late: Optional[Tuple[Sequence[Tensor], Callable[[], None], int]] = None

    def labels(self, labels: Tensor, classes: int, ignored: Optional[int]) -> Tuple[Tensor, Optional[Tensor]]:
        """Return integer labels within range, ignored ones as 0, and which of them count if any may not."""
        index = labels.to(torch.int64)
        valid = None if ignored is None else index != ignored
        index = index if valid is None else index * valid
        self.settle()
        if index.numel():
            self._late = (*_fetched(torch.aminmax(index)), classes)
        if not index.is_cuda:
            self.settle()
        return index.clamp(0, classes - 1) if index.is_cuda else index, valid

    def settle(self) -> None:
        if self._late is not None:
            (found, wait, classes), self._late = self._late, None
            wait()
            low, high = map(int, found)
            self.check(low >= 0 and high < classes, f"label {low if low < 0 else high} is outside 0..{classes - 1}")


def _fetched(numbers: Sequence[Tensor]) -> Tuple[Sequence[Tensor], Callable[[], None]]:
    """Start a copy of single numbers to the host; return the copy and a function that waits for it."""
    if not numbers[0].is_cuda:
        return numbers, lambda: None
    there = torch.stack(list(numbers))
    copy, event = torch.empty_like(there, device="cpu", pin_memory=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
    copy.copy_(there, non_blocking=True)
    event.record()
    return list(copy), event.synchronize


class _Loss(_Labelled):
    bottoms, auto_top, is_loss = (2, 2), True, True
    no_gradient: Tuple[int, ...] = (1,)
    default_normalization = "VALID"

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(bool(shapes[0]) and shapes[0][:1] == shapes[1][:1],
                   f"bottoms have shapes {shapes[0]} and {shapes[1]}; they need the same batch size")
        return [()]

    @functools.cached_property
    def _normalization(self) -> str:
        """LossParameter.normalization, or what an older field or nothing means."""
        p = self.param.loss_param
        if p.HasField("normalization"):
            return str(p.NormalizationMode.Name(p.normalization))
        old = "VALID" if p.normalize else "BATCH_SIZE"
        return old if p.HasField("normalize") else self.default_normalization

    def normalizer(self, outer: int, inner: int, valid: Optional[Tensor]) -> Any:
        """Return what the sum of losses is divided by, at least 1."""
        mode = self._normalization
        if mode == "VALID" and valid is not None:
            return valid.sum().clamp(min=1)
        return max(1, {"FULL": outer * inner, "VALID": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[mode])


class _Sloped(_Loss):
    """A loss whose gradients are found along with its value."""

    by_hand = True
    found: Tuple[Tensor, ...] = ()  # of the bottoms, in the last forward pass, before they are divided by a count
    count: Any = 1

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        return [slope * (diffs[0] / self.count) for slope in self.found]


@register
class SoftmaxWithLoss(_Sloped):
    """Mean of -log softmax(x)[label]; an optional second top is the softmax (softmax_loss_layer.cpp).

    The value takes the logarithm of at least FLT_MIN, so it never exceeds 87.34; the gradient knows no such limit.
    """

    tops = (1, 2)

    def given_axis(self) -> int:
        """Return the axis of the classes as the text has it."""
        return int(self.param.softmax_param.axis)

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.at = self.axis(self.given_axis(), shapes[0])
        self.outer, self.classes = math.prod(shapes[0][:self.at]), shapes[0][self.at]
        self.inner = math.prod(shapes[0][self.at + 1:])
        self.check(self.outer * self.inner == math.prod(shapes[1]),
                   f"scores {shapes[0]} need {self.outer * self.inner} labels, there are {math.prod(shapes[1])}")
        return [(), shapes[0]][:max(1, len(self.param.top))]

    def compute(self, *tensors: Tensor) -> Tensors:
        scores, labels = tensors[:2]
        index, valid = self.labels(labels.reshape(self.outer, 1, self.inner), self.classes, _ignored(self.param.loss_param))
        flat = scores.reshape(self.outer, self.classes, self.inner)
        shares = F.softmax(flat, 1)
        losses, slope = self.weigh(shares, index, *tensors[2:])
        if valid is not None:
            losses, slope = losses * valid, slope * valid
        self.found, self.count = (slope.reshape(scores.shape),), self.normalizer(self.outer, self.inner, valid)
        return (losses.sum() / self.count, shares.reshape(scores.shape))[:max(1, len(self.param.top))]

    def weigh(self, shares: Tensor, index: Tensor, *more: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the loss of each label and the gradients of all scores; shapes are outer x classes (or 1) x inner."""
        losses = -shares.gather(1, index).clamp(min=_FLT_MIN).log()
        return losses, shares.scatter(1, index, -1, reduce="add")


@register
class InfogainLoss(SoftmaxWithLoss):
    """Sum over classes k of -H[label, k] * log softmax(x)[k]: errors have weights; H is a file or the third bottom.

    With the diagonal H = diag(w) it is SoftmaxWithLoss whose classes weigh w (infogain_loss_layer.cpp).
    """

    bottoms, no_gradient = (2, 3), (1, 2)

    def given_axis(self) -> int:
        return int(self.param.infogain_loss_param.axis)

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.infogain_loss_param
        self.check(not self.param.loss_param.HasField("normalize"), "loss_param: normalize is not known; write normalization")
        self.check(len(shapes) > 2 or p.HasField("source"), "the matrix is missing: give source or a third bottom")
        matrix = torch.empty(0) if len(shapes) > 2 else torch.from_numpy(blob_array(read_binary(p.source, pb.BlobProto())))
        self.matrix = matrix.to(context.device())

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        tops = super().top_shapes(shapes)
        count = math.prod(shapes[2]) if len(shapes) > 2 else self.matrix.numel()
        self.check(count == self.classes ** 2, f"the matrix has {count} values, {self.classes} classes need {self.classes ** 2}")
        return tops

    def weigh(self, shares: Tensor, index: Tensor, *more: Tensor) -> Tuple[Tensor, Tensor]:
        matrix = (more[0] if more else self.matrix).reshape(self.classes, self.classes)
        weights = matrix[index[:, 0]].movedim(-1, 1)
        losses = -(weights * shares.clamp(min=_INFOGAIN_MIN).log()).sum(1, keepdim=True)
        return losses, shares * weights.sum(1, keepdim=True) - weights


@register
class ContrastiveLoss(_Sloped):
    """Half the mean of d^2 for pairs that belong together, of max(0, margin - d)^2 for others (contrastive_loss_layer.cpp).

    The older form, `legacy_version`, has max(0, margin - d^2).
    """

    bottoms = (3, 3)
    no_gradient, passes_over = (2,), True

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        a, b, labels = shapes
        self.check(a == b and len(a) > 1 and math.prod(a[2:]) == 1, f"bottoms have shapes {a} and {b}; both must be N x C")
        self.check(math.prod(labels) == a[0], f"{math.prod(labels)} labels for {a[0]} pairs")
        return [()]

    def compute(self, *tensors: Tensor) -> Tensors:
        p = self.param.contrastive_loss_param
        difference = (tensors[0] - tensors[1]).flatten(1)
        alike = tensors[2].reshape(-1, 1).to(torch.int64) != 0
        square = difference.square().sum(1, keepdim=True)
        distance = square if p.legacy_version else square.sqrt()
        short = (p.margin - distance).clamp(min=0)
        apart = short if p.legacy_version else short.square()
        pull = (short > 0).to(short.dtype) if p.legacy_version else short / (distance + _CONTRASTIVE_EPS)
        slope = torch.where(alike, difference, -pull * difference).reshape(tensors[0].shape)
        self.found, self.count = (slope, -slope), len(difference)
        return torch.where(alike, square, apart).sum() / (2 * len(difference))


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
        self.check(labels.numel() == len(scores), f"{labels.numel()} labels for {len(scores)} items")
        index, _ = self.labels(labels.reshape(-1), scores.shape[1], None)
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
        valid = None if ignored is None else target.to(torch.int64) != ignored
        each = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        return (each if valid is None else each * valid).sum() / self.normalizer(x.shape[0], x[0].numel(), valid)


@register
class Accuracy(_Labelled):
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
        index, valid = self.labels(tensors[1].reshape(self.outer, self.inner), self.classes, _ignored(p))
        valid = torch.ones_like(index, dtype=torch.bool) if valid is None else valid
        better = (scores >= scores.gather(1, index[:, None])).sum(1) - 1  # the true class itself is among them
        right = (better < p.top_k) & valid
        share = right.sum() / valid.sum().clamp(min=1)
        if len(self.param.top) < 2:
            return share.to(scores.dtype)
        member = F.one_hot(index, self.classes) * valid[..., None]
        hits = (member * right[..., None]).sum((0, 1)) / member.sum((0, 1)).clamp(min=1)
        return share.to(scores.dtype), hits.to(scores.dtype)

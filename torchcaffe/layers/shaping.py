"""Layers that join, cut, copy and rename the shape of blobs, and sums of several blobs."""
import functools
import math
from typing import List, Optional, Sequence

import torch
from torch import Tensor

from ..blob import Blob, Shape, share_data, share_diff
from .base import ANY, Layer, Tensors, register


class _Sharing(Layer):
    """Layers whose tops are, in another shape perhaps, their bottom's memory: what is written into one is seen in the other."""

    numbers = ANY

    def reshape(self, bottoms: List[Blob], tops: List[Blob]) -> None:
        super().reshape(bottoms, tops)
        self._share(bottoms, tops)

    def _share(self, bottoms: List[Blob], tops: List[Blob]) -> None:
        for top in tops if self.shares_data else []:
            share_data(bottoms[0], top)
            if self.shares_diff:
                share_diff(bottoms[0], top)

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        if self.shares_data:
            self._share(bottoms, tops)
        else:
            super().forward(bottoms, tops, keep_graph)

    def backward(self, bottoms: List[Blob], tops: List[Blob], retain: bool) -> None:
        if not self.shares_diff:
            super().backward(bottoms, tops, retain)
        elif self.propagate_down[0]:
            share_diff(tops[0], bottoms[0])  # again: a Flatten behind it has given its bottom another


@register
class Split(_Sharing):
    """The same blob for several readers; the net inserts it. Its gradient is the sum of theirs."""

    tops = (1, None)
    shares_data = True

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        return [shapes[0]] * len(self.param.top)

    def backward(self, bottoms: List[Blob], tops: List[Blob], retain: bool) -> None:
        if self.propagate_down[0]:
            bottoms[0].grad = functools.reduce(torch.add, [top.grad for top in tops])


def _axis_of(layer: Layer, kind: str) -> int:
    """Return the axis of a Concat or Slice, which has an older name."""
    p, older = getattr(layer.param, f"{kind}_param"), f"{kind}_dim"
    layer.check(not (p.HasField("axis") and p.HasField(older)), f"give either axis or {older}, not both")
    return int(getattr(p, older) if p.HasField(older) else p.axis)


@register
class Concat(_Sharing):
    """Bottoms put one after the other along `axis`."""

    bottoms = (1, None)

    def setup(self, shapes: List[Shape]) -> None:
        self.shares_data = self.shares_diff = len(shapes) == 1

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.at = self.axis(_axis_of(self, "concat"), shapes[0])
        rest = {(*s[:self.at], *s[self.at + 1:]) for s in shapes}
        self.check(len(rest) == 1 and len({len(s) for s in shapes}) == 1,
                   f"bottoms have shapes {shapes}; they may differ only in axis {self.at}")
        return [(*shapes[0][:self.at], sum(s[self.at] for s in shapes), *shapes[0][self.at + 1:])]

    def compute(self, *tensors: Tensor) -> Tensors:
        return torch.cat(tensors, self.at)


@register
class Slice(_Sharing):
    """A blob cut along `axis`, at the given points or into equal parts."""

    tops = (1, None)

    def setup(self, shapes: List[Shape]) -> None:
        self.shares_data = self.shares_diff = len(self.param.top) == 1

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        p, shape = self.param.slice_param, shapes[0]
        self.at = self.axis(_axis_of(self, "slice"), shape)
        size, parts = shape[self.at], len(self.param.top)
        points = [0, *p.slice_point, size]
        if not p.slice_point:
            self.check(size % parts == 0, f"{size} entries of axis {self.at} do not divide into {parts} tops")
            points = list(range(0, size + 1, size // parts))
        self.lengths = [b - a for a, b in zip(points, points[1:])]
        self.check(len(self.lengths) == parts and min(self.lengths) > 0,
                   f"slice points {list(p.slice_point)} do not cut {size} entries into {parts} tops")
        return [(*shape[:self.at], n, *shape[self.at + 1:]) for n in self.lengths]

    def compute(self, *tensors: Tensor) -> Tensors:
        return [part.clone(memory_format=torch.contiguous_format) for part in torch.split(tensors[0], self.lengths, self.at)]


@register
class Eltwise(Layer):
    """Product, weighted sum or maximum of bottoms of one shape (eltwise_layer.cpp)."""

    bottoms, numbers = (2, None), ANY
    saves_top = False

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.eltwise_param
        self.check(len(p.coeff) in (0, len(shapes)), f"{len(p.coeff)} coefficients for {len(shapes)} bottoms")
        self.check(not p.coeff or p.operation == p.SUM, "only operation: SUM takes coefficients")
        self.by_hand = p.operation == p.SUM
        self.saves_bottom = not self.by_hand

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(all(s == shapes[0] for s in shapes), f"bottoms differ in shape: {shapes}")
        return [shapes[0]]

    def compute(self, *tensors: Tensor) -> Tensors:
        p = self.param.eltwise_param
        terms = [x * c for x, c in zip(tensors, p.coeff)] if p.coeff else list(tensors)
        total = terms[0]
        for i, x in enumerate(terms[1:]):
            if p.operation == p.MAX:  # of equal values the second of the first pair wins, later ones must be larger
                total = torch.where(total > x, total, x) if i == 0 else torch.where(x > total, x, total)
            else:
                total = total * x if p.operation == p.PROD else total + x
        return total

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        if not self.by_hand:
            return super().slopes(tensors, ys, diffs, wanted)
        return [diffs[0] * c if c != 1 else diffs[0] for c in self.param.eltwise_param.coeff or [1] * len(wanted)]


@register
class Flatten(_Sharing):
    """Axes from `axis` to `end_axis` made one."""

    shares_data = shares_diff = True

    def _share(self, bottoms: List[Blob], tops: List[Blob]) -> None:
        share_data(bottoms[0], tops[0])  # its gradient is shared from the first pass back on

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        p = self.param.flatten_param
        first, last = self.axis(p.axis, shapes[0]), self.axis(p.end_axis, shapes[0], "end_axis")
        self.check(first <= last, f"axis {p.axis} comes after end_axis {p.end_axis}")
        s = shapes[0]
        return [(*s[:first], math.prod(s[first:last + 1]), *s[last + 1:])]


@register
class Reshape(_Sharing):
    """New lengths for `num_axes` axes from `axis` on; 0 keeps a length, -1 is inferred (reshape_layer.cpp)."""

    shares_data = shares_diff = True

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        p, shape = self.param.reshape_param, shapes[0]
        first = p.axis if p.axis >= 0 else len(shape) + p.axis + 1
        end = len(shape) if p.num_axes == -1 else first + p.num_axes
        self.check(0 <= first <= end <= len(shape), f"axis {p.axis} and num_axes {p.num_axes} do not fit {shape}")
        self.check(all(n or first + i < len(shape) for i, n in enumerate(p.shape.dim)),
                   f"dim 0 keeps a length that the bottom {shape} does not have")
        new = [n or shape[first + i] for i, n in enumerate(p.shape.dim)]
        self.check(new.count(-1) <= 1 and min(new, default=1) >= -1, f"dims {new}: one -1 at most, none below")
        top = [*shape[:first], *new, *shape[end:]]
        known = math.prod(n for n in top if n != -1)
        if -1 in top and known:
            top[top.index(-1)] = math.prod(shape) // known
        self.check(-1 not in top and math.prod(top) == math.prod(shape),
                   f"{tuple(top)} holds another number of values than {shape}")
        return [tuple(top)]


@register
class Tile(Layer):
    """The bottom repeated along `axis`."""

    numbers = ANY

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.at = self.axis(self.param.tile_param.axis, shapes[0])
        self.check(self.param.tile_param.tiles > 0, "tiles must be positive")
        s = shapes[0]
        return [(*s[:self.at], s[self.at] * self.param.tile_param.tiles, *s[self.at + 1:])]

    def compute(self, *tensors: Tensor) -> Tensors:
        return torch.cat([tensors[0]] * self.param.tile_param.tiles, self.at)


@register
class Silence(Layer):
    """Consume blobs that no other layer reads, so that they are not outputs of the net."""

    bottoms, tops, numbers = (1, None), (0, 0), ANY

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        return []

    def compute(self, *tensors: Tensor) -> Tensors:
        return []

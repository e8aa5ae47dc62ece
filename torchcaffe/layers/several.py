"""Several layers as one step, which costs less than a step each; every part can go on alone from where they stopped."""
from typing import Any, List, Optional, Sequence

from torch import Tensor

from ..blob import Blob, Shape
from .base import Layer, Tensors
from .neuron import ReLU


class Several(Layer):
    """What the steps of several layers share."""

    by_hand = True
    parts: Sequence[Layer] = ()

    def reshape(self, bottoms: List[Blob], tops: List[Blob]) -> None:
        for part in self.parts:
            part.shaped = None  # it has followed these bottoms, whatever it did when it last ran alone
        super().reshape(bottoms, tops)

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        self.empty()
        super().forward(bottoms, tops, keep_graph)

    def empty(self) -> None:
        """Forget what the parts kept when they last ran alone."""
        for part in self.parts:
            part.drop()
            if isinstance(part, Several):
                part.empty()

    def part(self) -> None:
        """Give each part what it would have kept by itself."""
        if self._kept:
            for layer, kept in zip(self.parts, self.shares(*self._kept)):
                layer._kept = kept
            self._kept = None

    def shares(self, tensors: List[Tensor], ys: Sequence[Tensor], kinds: Any) -> Sequence[Any]:
        """Return what each part would have kept, from what all have kept together."""
        return []


class Rectified(Several):
    """A layer and the ReLU that works in place on its top."""

    def __init__(self, layer: Layer, relu: ReLU) -> None:
        super().__init__(layer.param, layer.phase)
        self.parts = self.layer, self.relu = layer, relu
        self.blobs, self.numbers, self.enter = layer.blobs, layer.numbers, layer.enter  # type: ignore[method-assign]
        self.propagate_down, self.param_wanted = layer.propagate_down, layer.param_wanted
        self.needs_backward, self.saves_bottom = layer.needs_backward, layer.saves_bottom
        self.guards_top, self.repeatable = relu.guards_top, layer.repeatable

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        found = self.layer.top_shapes(shapes)
        self.overwrites = self.layer.overwrites
        return found

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        super().forward(bottoms, tops, keep_graph)
        if self._kept and not self.guards_top:  # what a script writes into the top counts, as with a ReLU of its own
            self._kept = self._kept[0], [tops[0].tensor], self._kept[2]

    def compute(self, *tensors: Tensor) -> Tensors:
        self.layer.learns = self.learns
        y = self.layer.compute(*tensors)
        return self.relu.compute(y if isinstance(y, Tensor) else y[0])

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        return self.layer.slopes(tensors, (), self.relu.slopes([], ys, diffs, [True]), wanted)  # type: ignore[arg-type]

    def shares(self, tensors: List[Tensor], ys: Sequence[Tensor], kinds: Any) -> Sequence[Any]:
        return (tensors, (), kinds), ([], ys, kinds)

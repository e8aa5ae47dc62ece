"""The steps of a pass over a net: a layer each, or several as one; found once for each part of it."""
from typing import Any, Dict, Iterable, List, NoReturn, Optional, Tuple, Type

import torch
from torch import Tensor

from .blob import Blob
from .errors import CaffeError
from .layers import Layer
from .layers.base import ALWAYS, EACH_TIME, FORWARD_ONLY
from .layers.dense import BatchNorm, InnerProduct
from .layers.folded import Folded, foldable
from .layers.joined import Joined
from .layers.neuron import ReLU, Scale
from .layers.several import Rectified
from .layers.shaping import Eltwise, Split
from .layers.spatial import Convolution, Pooling


class Step:
    """A layer, or several as one, with the blobs at its ends."""

    def __init__(self, layer: Any, at: int, bottoms: List[Blob], tops: List[Blob]) -> None:
        self.layer, self.at, self.bottoms, self.tops = layer, at, bottoms, tops
        self.losses = [(top, weight) for top, weight in zip(tops, layer.loss_weights) if weight]
        self.read: List[Blob] = []  # blobs that no later layer reads
        self.made: List[Blob] = []  # tops that are neither in place nor losses; a loss's gradient is its weight

    def forward(self, keep_graph: bool, losses: List[Tensor]) -> None:
        """Compute the tops, and add their losses to a list."""
        layer, bottoms = self.layer, self.bottoms
        if layer.reshapes:
            shapes = [b.shape for b in bottoms]
            if shapes != layer.shaped or layer.reshapes == EACH_TIME:
                layer.reshape(bottoms, self.tops)
                layer.shaped = shapes
        try:
            layer.forward(bottoms, self.tops, keep_graph)
        except RuntimeError as error:
            _explain(layer, error)
        for top, weight in self.losses:
            value = top.tensor
            losses.append(weight * (value.sum() if value.dim() else value))

    def backward(self, retain: bool) -> None:
        """Compute the diffs of the bottoms and parameters."""
        layer = self.layer
        if layer.in_place == FORWARD_ONLY and self.bottoms == self.tops:
            layer.fail("Caffe has no right gradient for it in place; give its top another name")
        try:
            layer.backward(self.bottoms, self.tops, retain)
        except RuntimeError as error:
            _explain(layer, error)


class Passes:
    """The steps of a net's passes."""

    def __init__(self, engine: List[Layer], blobs: List[Blob], ids: Dict[str, List[List[int]]], kept: List[int]) -> None:
        self._engine, self._blobs, self._bottoms, self._tops = engine, blobs, ids["bottom"], ids["top"]
        self._single = [self._step(i, i, layer) for i, layer in enumerate(engine)]
        self._pairs = self._made((i, 2, self._join(i)) for i in range(len(engine)))
        self._folded = self._made((i, *self._fold(i)) for i in range(len(engine)))
        self._rectified = self._made((i, *self._rectify(i)) for i in range(len(engine)))
        for i, layer in enumerate(engine):
            if isinstance(layer, ReLU) and self._bottoms[i] == self._tops[i]:
                reader = next((engine[j] for j in range(i + 1, len(engine)) if self._tops[i][0] in self._bottoms[j]), None)
                layer.owns_diff = not layer.slope and isinstance(reader, (Convolution, InnerProduct, Pooling, Split))
        self._find_readers(kept)
        self._found: Dict[Any, Tuple[List[Step], List[Step]]] = {}

    def _step(self, first: int, last: int, layer: Layer) -> Step:
        return Step(layer, last, [self._blobs[b] for b in self._bottoms[first]], [self._blobs[t] for t in self._tops[last]])

    def _made(self, found: Iterable[Tuple[int, int, Optional[Layer]]]) -> Dict[int, Step]:
        """Return the steps of several layers, by the number of the first, from that number, how many they are, and the layer."""
        return {i: self._step(i, i + count - 1, layer) for i, count, layer in found if layer}

    def _alters(self, i: int, kind: Type[Layer]) -> bool:
        """Return whether layer `i` is of a kind and works in place on what the layer before it gives; none of it is a loss."""
        return (i < len(self._engine) and isinstance(self._engine[i], kind)
                and self._tops[i - 1] == self._bottoms[i] == self._tops[i]
                and not any(weight for layer in self._engine[i - 1:i + 1] for weight in layer.loss_weights))

    def _join(self, i: int) -> Optional[Joined]:
        norm, scale = self._engine[i], self._engine[i + 1] if i + 1 < len(self._engine) else None
        fits = isinstance(norm, BatchNorm) and self._alters(i + 1, Scale) and scale.by_channel  # type: ignore[union-attr]
        return Joined(norm, scale) if fits else None  # type: ignore[arg-type]

    def _fold(self, i: int) -> Tuple[int, Optional[Folded]]:
        """Return of how many layers a convolution can be one with those behind it, and that one."""
        if not foldable(self._engine[i]):
            return 0, None
        pair, count = self._pairs.get(i + 1), 1
        norm = pair.layer if pair and pair.layer.norm.fixed and self._alters(i + 1, BatchNorm) else None
        count += 2 * (norm is not None)
        rectify = self._alters(i + count, ReLU) and not self._engine[i + count].slope  # type: ignore[attr-defined]
        return count + rectify, Folded(self._engine[i:i + count + rectify], norm, rectify)

    def _rectify(self, i: int) -> Tuple[int, Optional[Rectified]]:
        """Return of how many layers one that needs no top for its gradient can be one with the ReLU behind it, and that one."""
        pair, count = self._pairs.get(i), 1 + (i in self._pairs)
        layer = pair.layer if pair else self._engine[i]
        fits = layer.by_hand and isinstance(layer, (Convolution, InnerProduct, Eltwise, Joined)) and self._alters(i + count, ReLU)
        relu: Any = self._engine[i + count] if fits else None
        return count + 1, Rectified(layer, relu) if relu and relu.in_place == ALWAYS else None

    def _find_readers(self, kept: List[int]) -> None:
        """Find where each blob is read last, but for outputs and what is filled once or read on the way back perhaps."""
        owner = list(range(len(self._blobs)))  # of the memory that a blob shares
        for step, bottoms, tops in zip(self._single, self._bottoms, self._tops):
            for b in tops if step.layer.shares_data else []:
                owner[b] = owner[bottoms[0]]
        last = {owner[b]: i for i, bottoms in enumerate(self._bottoms) for b in bottoms}
        last.update({owner[b]: i for i, tops in enumerate(self._tops) for b in tops if i >= last.get(owner[b], i + 1)})
        stays = {owner[b] for b in kept}
        for step, bottoms, tops in zip(self._single, self._bottoms, self._tops):
            if not bottoms or step.layer.type == "Python":
                stays.update(owner[b] for b in [*bottoms, *tops])
            losses = [top for top, _ in step.losses]
            step.made = [b for b in step.tops if b not in step.bottoms and b not in losses and not step.layer.shares_diff]
        for b, i in last.items():
            if b not in stays:
                self._single[i].read.append(self._blobs[b])
        for i, step in [*self._pairs.items(), *self._folded.items(), *self._rectified.items()]:
            step.read = [blob for one in self._single[i:step.at + 1] for blob in one.read]
            step.made = self._single[i].made

    def steps(self, start: int, end: int, joined: bool, frugal: bool, graph: bool) -> Tuple[List[Step], List[Step]]:
        """Return the steps from layer `start` to `end`, and those of several layers that touch them and are to run one by one."""
        key = start, end, joined, frugal, graph
        if key not in self._found:
            steps: List[Step] = []
            i = start
            while i <= end:
                several = [found for found in (group.get(i) for group in (self._folded, self._rectified, self._pairs))
                           if joined and found and found.at <= end and self._may_join(i, found, frugal, graph)]
                steps.append((several or [self._single[i]])[0])
                i = steps[-1].at + 1
            apart = [step for group in (self._rectified, self._pairs) for i, step in group.items()
                     if step not in steps and start <= step.at and i <= end]
            self._found[key] = steps, apart
        return self._found[key]

    def _may_join(self, i: int, step: Step, frugal: bool, graph: bool) -> bool:
        """Return whether layers may run as one; with a gradient only where no gradient can be missed that lies between them."""
        layer = step.layer
        if not graph or not any(one.needs_backward for one in self._engine[i:step.at + 1]):
            return True
        if isinstance(layer, Rectified):  # the diff of its top, which Caffe's ReLU writes over, is seen where it is kept
            seen = not (layer.relu.owns_diff and layer.compute_type == torch.float32)
            return (frugal or not seen) and (i not in self._pairs or self._may_join(i, self._pairs[i], frugal, graph))
        return isinstance(layer, Joined) and (frugal or step.bottoms == step.tops)

    def backward(self, steps: List[Step]) -> List[Step]:
        """Return steps from last to first; those of several layers that ran one by one on the way forward are taken apart."""
        return [one for step in reversed(steps) for one in self._apart(step)]

    def _apart(self, step: Step) -> List[Step]:
        """Return a step, or what ran in its place on the way forward, from last to first."""
        if not isinstance(step.layer, (Joined, Rectified)) or step.layer.ran:
            return [step]
        pair = self._pairs.get(step.at - 2) if isinstance(step.layer, Rectified) else None
        return [self._single[step.at], *(self._apart(pair) if pair else [self._single[step.at - 1]])]


def _explain(layer: Layer, error: RuntimeError) -> NoReturn:
    """Say in one line which layer torch could not compute: out of memory, sizes beyond its limits; other errors stay."""
    if layer.type == "Python" or isinstance(error, CaffeError):
        raise error
    raise CaffeError(f"layer {layer.name!r} ({layer.type}): {(str(error).splitlines() or [type(error).__name__])[0]}") from error

"""The steps of a pass over a net: a layer each, or a BatchNorm and the Scale behind it as one; found once for each part of it."""
from typing import Any, Dict, List, NoReturn, Tuple

import torch
from torch import Tensor

from .blob import Blob
from .errors import CaffeError
from .layers import Layer
from .layers.base import EACH_TIME, FORWARD_ONLY
from .layers.dense import BatchNorm
from .layers.joined import Joined
from .layers.neuron import Scale


class Step:
    """A layer, or two as one, with the blobs at its ends."""

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
            losses.append(weight * top.tensor.sum())

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
        self._pairs: Dict[int, Step] = {}
        for i, (norm, scale) in enumerate(zip(engine, engine[1:])):
            if isinstance(norm, BatchNorm) and isinstance(scale, Scale) and self._meet(i, norm, scale):
                self._pairs[i] = self._step(i, i + 1, Joined(norm, scale))
        self._find_readers(kept)
        self._found: Dict[Any, Tuple[List[Step], List[Step]]] = {}

    def _step(self, first: int, last: int, layer: Layer) -> Step:
        return Step(layer, last, [self._blobs[b] for b in self._bottoms[first]], [self._blobs[t] for t in self._tops[last]])

    def _meet(self, i: int, norm: BatchNorm, scale: Scale) -> bool:
        """Return whether the Scale takes one factor a channel and works in place on what the BatchNorm gives."""
        ends = self._tops[i], self._bottoms[i + 1], self._tops[i + 1]
        return scale.by_channel and ends[0] == ends[1] == ends[2] and not any(norm.loss_weights + scale.loss_weights)

    def _find_readers(self, kept: List[int]) -> None:
        """Find where each blob is read last, but for outputs and what is filled once or read on the way back perhaps."""
        last = {b: i for i, bottoms in enumerate(self._bottoms) for b in bottoms}
        last.update({b: i for i, tops in enumerate(self._tops) for b in tops if b in last and i >= last[b]})
        stays = set(kept)
        for step, bottoms, tops in zip(self._single, self._bottoms, self._tops):
            if not bottoms or step.layer.type == "Python":
                stays.update(bottoms, tops)
            losses = [top for top, _ in step.losses]
            step.made = [b for b in step.tops if b not in step.bottoms and b not in losses]
        for b, i in last.items():
            if b not in stays:
                self._single[i].read.append(self._blobs[b])
        for i, pair in self._pairs.items():
            pair.read = self._single[i].read + self._single[i + 1].read
            pair.made = self._single[i].made

    def steps(self, start: int, end: int, joined: bool, frugal: bool) -> Tuple[List[Step], List[Step]]:
        """Return the steps from layer `start` to layer `end`, and the pairs that touch them and are to run layer by layer."""
        key = start, end, joined, frugal
        if key not in self._found:
            whole = {i: pair for i, pair in self._pairs.items() if joined and start <= i and i + 1 <= end and (
                frugal or pair.bottoms == pair.tops or not pair.layer.needs_backward)}
            # (the gradient between the two, which a pair has not, is seen only where the BatchNorm is not in place)
            steps = [whole.get(i) or self._single[i] for i in range(start, end + 1) if i - 1 not in whole]
            self._found[key] = steps, [pair for i, pair in self._pairs.items() if i not in whole and start - 1 <= i <= end]
        return self._found[key]

    def backward(self, steps: List[Step]) -> List[Step]:
        """Return steps from last to first; pairs whose layers ran one by one on the way forward are taken apart."""
        found: List[Step] = []
        for step in reversed(steps):
            apart = isinstance(step.layer, Joined) and not step.layer.ran
            found += [self._single[step.at], self._single[step.at - 1]] if apart else [step]
        return found


def _explain(layer: Layer, error: RuntimeError) -> NoReturn:
    """Say in one line which layer torch could not compute: out of memory, sizes beyond its limits; user layers' errors stay."""
    if layer.type == "Python":
        raise error
    raise CaffeError(f"layer {layer.name!r} ({layer.type}): {(str(error).splitlines() or [type(error).__name__])[0]}") from error

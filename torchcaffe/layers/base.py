"""What every layer shares: its parameters, its shapes, and how a step forward and back runs.

A layer is a class with `setup` (make parameters), `top_shapes` (Caffe's Reshape rule) and `compute` (the mathematics on
torch tensors). The gradient comes from autograd on a graph that holds this one layer: bottoms and parameters enter as
leaves, the diffs of the tops go in, the diffs of the bottoms come out. Layers that small nets are made of write it out
instead (`slopes`), as a graph a layer costs them more than its sums. So `Net.backward` can start and stop anywhere,
and every blob has its diff, as in Caffe.
"""
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple, Type, TypeVar

import torch
from torch import Tensor

from .. import context
from ..blob import Blob, Blobs, Shape, tensor_of
from ..errors import CaffeError
from ..fillers import fill
from ..netparam import blob_array

FULL, LOW, ANY = "float32", "the chosen precision", "whatever comes in"  # what a layer computes in
EACH_TIME = "each time"  # of a layer whose tops may get other shapes though its bottoms do not
# May the top be the bottom? Caffe refuses it, or reads what it has written over: in all it does, or in its gradient only.
NEVER, FORWARD_ONLY, ALWAYS = "never", "forward only", "always"
Tensors = Any  # a tensor, or one a top; what meets a protobuf field is Any to mypy
LAYERS: Dict[str, Type["Layer"]] = {}
_L = TypeVar("_L", bound=Type["Layer"])


def register(cls: _L) -> _L:
    """Make a layer class known under its class name, which is Caffe's type name."""
    LAYERS[cls.__name__] = cls
    return cls


class Layer:
    """One step of a net.

    Parameters
    ----------
    param : LayerParameter
        The layer's text, of the current syntax (V2).
    phase : int
        0 TRAIN, 1 TEST.
    """

    bottoms: Tuple[int, Optional[int]] = (1, 1)  # fewest and most bottoms
    tops: Tuple[int, Optional[int]] = (1, 1)
    auto_top = False      # losses get an unnamed top where the text names none
    is_loss = False       # the first top has loss weight 1 by default
    reshapes: Any = True  # the shapes of its tops follow from its bottoms, again whenever these change
    shaped: Optional[List[Shape]] = None  # the bottoms' shapes when that was last done
    saves_top = True      # the gradient may need the top again, so no later layer may overwrite it
    saves_bottom = True   # the gradient may need the bottoms again
    shares_data = shares_diff = False  # its tops are its bottom's memory
    overwrites: Optional[int] = None   # the parameter whose gradient is not added to what there is
    by_hand = False       # the gradient is written out in `slopes`, and needs no graph of autograd
    learns = False        # a gradient is wanted of this pass
    numbers = FULL        # what bottoms and parameters are turned into before `compute`
    in_place = NEVER      # whether the top may be the bottom
    repeatable = True     # computing again from the same bottoms changes nothing
    no_gradient: Tuple[int, ...] = ()  # bottoms that never get a gradient (labels)
    passes_over = False   # where one of them is asked for its gradient Caffe leaves it as it is, and does not end

    def __init__(self, param: Any, phase: int) -> None:
        self.param, self.phase = param, phase
        self.name: str = param.name
        self.compute_type = context.compute_type()
        self.blobs = Blobs()
        self.param_wanted: List[bool] = []       # which parameters need a gradient
        self.borrowed: List[int] = []            # which parameters are another layer's, by name
        self.propagate_down: List[bool] = []     # which bottoms need a gradient
        self.needs_backward = False
        self.may_overwrite = False               # the bottom's memory may be used for the top (in place)
        self.guards_top = False                  # the gradient needs the top, and the next layer works in place on it
        self.loss_weights: List[float] = []
        self._kept: Optional[Tuple[List[Tensor], Sequence[Tensor], List[torch.dtype]]] = None  # for the way back

    @property
    def type(self) -> str:
        """Caffe's type name."""
        return str(self.param.type)

    @property
    def public(self) -> Any:
        """What `net.layers` shows for this layer."""
        return self

    def fail(self, message: str) -> NoReturn:
        """Raise CaffeError with the layer's name and type before the message."""
        here = f"layer {self.name!r} ({self.type}): "
        raise CaffeError(message if message.startswith(here) else here + message)

    def check(self, holds: bool, message: str) -> None:
        """Raise CaffeError unless something holds."""
        if not holds:
            self.fail(message)

    # ------------------------------------------------------------ what a layer type defines
    def setup(self, shapes: List[Shape]) -> None:
        """Read the text, check it, make the parameters; `shapes` are those of the bottoms."""

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        """Return the shapes of the tops; by default that of the first bottom."""
        return [shapes[0]]

    def compute(self, *tensors: Tensor) -> Tensors:
        """Return the tops from the bottoms, followed by the parameters."""
        raise AssertionError(f"{type(self).__name__} computes nothing")

    # ------------------------------------------------------------ helpers for them
    def add_param(self, shape: Shape, filler: Any) -> None:
        """Append a parameter drawn by a filler."""
        blob = Blob(shape)
        blob.tensor = self.drawn(shape, filler).to(blob.tensor.device)
        self.blobs.append(blob)

    def take(self, blobs: Sequence[Any]) -> None:
        """Copy parameters that the layer's text holds, in the place of those that were drawn."""
        self.check(len(blobs) in (0, len(self.blobs)), f"its text holds {len(blobs)} blobs, it has {len(self.blobs)}")
        for mine, theirs in zip(self.blobs, blobs):
            array = blob_array(theirs)
            self.check(array.size == mine.count, f"its text holds a blob of shape {array.shape}, it has {mine.shape}")
            mine.tensor.copy_(tensor_of(array.reshape(mine.shape)))

    def drawn(self, shape: Shape, filler: Any) -> Tensor:
        """Return what a filler draws; an error names the layer."""
        try:
            return fill(shape, filler)
        except CaffeError as error:
            self.fail(str(error))

    def axis(self, axis: int, shape: Shape, name: str = "axis") -> int:
        """Return a possibly negative axis as one from 0."""
        self.check(-len(shape) <= axis < len(shape), f"{name} {axis} is outside a bottom with shape {shape}")
        return axis % len(shape)

    # ------------------------------------------------------------ how it runs
    def round_params(self) -> None:
        """Store the parameters as `compute` gets them."""
        for blob in self.blobs if self.numbers == LOW else []:
            blob.round(self.compute_type)

    def settle(self) -> None:
        """Raise what the last pass found, where that was not yet known."""

    def reshape(self, bottoms: List[Blob], tops: List[Blob]) -> None:
        """Give the tops the shapes that follow from the bottoms."""
        for top, shape in zip(tops, self.top_shapes([b.shape for b in bottoms])):
            top.reshape(*shape)

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        """Compute the tops; remember what the way back needs if `keep_graph`."""
        for top in tops:
            if top not in bottoms:
                top.forget()  # so that the new values can take the old ones' memory
        for top, y in zip(tops, self._run(bottoms, keep_graph and self.needs_backward, bottoms[:1] == tops[:1])):
            found = y.detach() if y.requires_grad else y
            if self.guards_top:
                top.keep(found)
            else:
                top.tensor = found

    @property
    def ran(self) -> bool:
        """True when the last pass kept what the way back needs."""
        return self._kept is not None

    def drop(self) -> None:
        """Forget the last pass."""
        self._kept = None

    def _run(self, bottoms: List[Blob], keep: bool, in_place: bool) -> Sequence[Tensor]:
        tensors = [self.enter(b.tensor) for b in bottoms]
        tensors += [self._turned(b.tensor) for b in self.blobs]
        if keep and in_place and (self.saves_bottom or self.guards_top) and bottoms[0].shown:
            tensors[0] = tensors[0].clone()  # this result, or the next, will be written over what the gradient needs
        self.learns, graph = keep, keep and not self.by_hand
        if graph:
            tensors = [t.detach().requires_grad_(wanted) for t, wanted in zip(tensors, self._wanted())]
            with torch.enable_grad():
                ys = self.compute(*tensors)
        else:
            ys = self.compute(*tensors)
        ys = (ys,) if isinstance(ys, Tensor) else ys
        self._kept = (tensors if graph or self.saves_bottom else [], ys if graph or self.saves_top else (),
                      [y.dtype for y in ys]) if keep else None
        return ys  # type: ignore[no-any-return]

    def _wanted(self) -> List[bool]:
        """Return of each bottom and parameter whether it needs a gradient."""
        return self.propagate_down + self.param_wanted

    def _turned(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the layer's number type."""
        if self.numbers == ANY:
            return tensor
        kind = torch.float32 if self.numbers == FULL else self.compute_type
        return tensor if tensor.dtype == kind else tensor.to(kind)

    def enter(self, tensor: Tensor) -> Tensor:
        """Return a bottom as `compute` gets it."""
        return self._turned(tensor)

    def backward(self, bottoms: List[Blob], tops: List[Blob], retain: bool) -> None:
        """Set the diffs of the bottoms and add to those of the parameters; `retain` allows another backward."""
        wanted = self._wanted()
        if not any(wanted):
            return
        for i in self.no_gradient:
            if i < len(bottoms) and wanted[i]:
                self.fail(f"has no gradient for bottom {i} ({self.param.bottom[i]!r})")
        tensors, ys, kinds = self._kept or self._again(bottoms, tops)
        diffs = [grad if grad.dtype == kind else grad.to(kind) for grad, kind in zip((top.grad for top in tops), kinds)]
        found = self.slopes(tensors, ys, diffs, wanted)
        for blob, grad, asked in zip(bottoms, found, wanted):
            if asked and grad is None:
                blob.clear_grad()
            elif asked:
                blob.grad = grad  # type: ignore[assignment]
        tops_memory = [diff.data_ptr() for diff in diffs]
        for i, (blob, grad) in enumerate(zip(self.blobs, found[len(bottoms):])):
            if grad is None:
                continue
            if i == self.overwrites:
                blob.clear_grad()
            # more will be added to it: where it is the diff of a top, to a copy
            blob.add_grad(grad.clone() if grad.data_ptr() in tops_memory else grad)
        if not retain:
            self._kept = None

    def _again(self, bottoms: List[Blob], tops: List[Blob]) -> Any:
        """Return what a forward pass would keep, from what the blobs hold, as in Caffe."""
        in_place = self.saves_bottom and bottoms[:1] == tops[:1]
        self.check(self.repeatable and not in_place, "backward without a forward before it; run net.forward() first")
        if not self.saves_bottom:
            return [], [top.tensor for top in tops], [top.tensor.dtype for top in tops]
        self._run(bottoms, True, False)
        return self._kept

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        """Return the gradients of bottoms and parameters where wanted, from those of the tops."""
        ends = [(y, diff) for y, diff in zip(ys, diffs) if y.requires_grad]
        found: Iterator[Optional[Tensor]] = iter(torch.autograd.grad(
            [y for y, _ in ends], [t for t in tensors if t.requires_grad], [diff for _, diff in ends], True, allow_unused=True)
            if ends else ())
        return [next(found, None) if asked else None for asked in wanted]


def check_count(layer: Layer, what: str, found: int, allowed: Tuple[int, Optional[int]]) -> None:
    """Raise CaffeError unless the number of bottoms or tops is one that the layer type takes."""
    fewest, most = allowed
    if found < fewest or (most is not None and found > most):
        wants = f"{fewest}" if fewest == most else f"at least {fewest}" if most is None else f"{fewest} to {most}"
        layer.fail(f"has {found} {what}, takes {wants}")


def elementwise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `compute` of a layer that only applies a function of one tensor."""
    return lambda self, x: function(x)

"""Caffe's Net with pycaffe's interface: layers connected by named blobs."""
import functools
import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import numpy as np
import torch
from torch import Tensor

from . import context, debug, snapshot, threads
from .blob import share_data, tensor_of
from .errors import CaffeError, UnknownLayerError
from .glog import WARNING, log
from .graph import Graph
from .layers import Layer
from .layers.inputs import Source
from .netparam import filter_net, insert_splits, message_net, read_net
from .passes import Passes
from .proto import caffe_pb2 as pb


class Net(Graph):
    """A network, built from a prototxt file.

    Parameters
    ----------
    network_file : str or NetParameter
        The prototxt's path.
    phase : int
        `TRAIN` or `TEST`. In pycaffe's older form ``Net(file, weights, phase)`` the weights come before it.
    level, stages : int, list of str
        The rest of the NetState, for the layers' include and exclude rules.
    weights : str
        A `.caffemodel` (or HDF5) to load.

    Raises
    ------
    CaffeError
        Where the text is not a net, a layer or field is not supported, shapes do not fit, or the weights do not.
    """

    def __init__(self, network_file: Any, phase: Any = None, level: Any = 0,
                 stages: Optional[List[str]] = None, weights: Optional[str] = None) -> None:
        if isinstance(phase, str):  # Net(file, weights, phase)
            weights, phase, level = phase, level, 0
        if hasattr(network_file, "SerializeToString"):
            text = message_net(network_file, "Net")
        else:
            text = read_net(os.fsdecode(network_file))
            text.state.level = 0  # as in Caffe, that of the arguments alone
            if phase is None:
                raise CaffeError("Net: the phase is missing; give TRAIN or TEST")
        if phase not in (None, pb.TRAIN, pb.TEST):
            raise CaffeError(f"Net: the phase is {phase!r}; give TRAIN or TEST")
        if phase is not None:
            text.state.phase = int(phase)
        text.state.level = level or text.state.level
        text.state.stage.extend(stages or [])
        super().__init__(insert_splits(filter_net(text)))
        # True: `forward` frees blobs that no layer reads any more, but for outputs and those asked for; a TEST net holds its
        # parameters in the precision that it computes in
        self.frugal = False
        self._borrows = False  # the parameters are another net's
        self._rounds, self._low = context.rounds_products(), context.compute_type() != torch.float32
        self._hooks: Dict[str, List[Callable[[int], Any]]] = {}  # what scripts want to be called, by when
        self._told: Set[str] = set()  # blobs of which it was said that they have no gradient
        if weights:
            self.copy_from(weights)

    # ------------------------------------------------------------ running
    @threads.shared
    def run_forward(self, start: int = 0, end: Optional[int] = None, keep_graph: bool = True, keep_blobs: bool = True) -> Tensor:
        """Run layers `start` to `end` (inclusive); return the weighted sum of their losses.

        Without `keep_graph` no backward pass can follow; without `keep_blobs` a blob is freed after its last reader.
        """
        end = len(self._engine) - 1 if end is None else end
        steps, apart = self._passes.steps(start, end, not (self.debug_info or self._hooks), not keep_blobs, keep_graph)
        for several in apart:
            (several.layer.part if keep_graph else several.layer.drop)()
        losses: List[Tensor] = []
        with context.products(self._rounds):
            for step in steps:
                self._call("before_forward", step.at)
                step.forward(keep_graph, losses)
                self._call("after_forward", step.at)
                if self.debug_info:
                    debug.forward(self, step.at)
                elif not keep_blobs:
                    for blob in step.read:
                        blob.forget()
        return functools.reduce(torch.add, losses) if losses else torch.zeros(())

    @functools.cached_property
    def _passes(self) -> Passes:
        return Passes(self._engine, self._blobs, self._ids, self._outputs)

    @threads.shared
    def run_backward(self, start: Optional[int] = None, end: int = 0, retain: bool = True, keep_blobs: bool = True) -> None:
        """Run layers `start` to `end` (inclusive) backward; `retain` allows to run them again.

        Without `keep_blobs` the diff of a blob is freed when the layer that made it has used it.
        """
        start = len(self._engine) - 1 if start is None else start
        steps, apart = self._passes.steps(end, start, not (self.debug_info or self._hooks), not keep_blobs, True)
        for several in apart:
            several.layer.part()
        with context.products(self._rounds):
            for step in self._passes.backward(steps):
                self._call("before_backward", step.at)
                if step.layer.needs_backward:
                    step.backward(retain)
                    if self.debug_info:
                        debug.backward(self, step.at)
                    elif not keep_blobs:
                        for blob in step.made:
                            blob.forget_grad()
                self._call("after_backward", step.at)

    def _call(self, when: str, layer: int) -> None:
        for function in self._hooks.get(when, ()):
            function(layer)

    def _add_hook(self, when: str, function: Callable[[int], Any]) -> None:
        """Call a function with a layer's number before or after the layer runs, or its gradient is computed."""
        self._hooks.setdefault(when, []).append(function)

    before_forward = functools.partialmethod(_add_hook, "before_forward")
    after_forward = functools.partialmethod(_add_hook, "after_forward")
    before_backward = functools.partialmethod(_add_hook, "before_backward")
    after_backward = functools.partialmethod(_add_hook, "after_backward")

    def _forward(self, start: int, end: int) -> float:
        if self.frugal and self._low and self.phase == pb.TEST and not self._borrows:
            for layer in self._engine:
                layer.round_params()
        loss = float(self.run_forward(start, end, keep_blobs=not self.frugal))
        self.settle()
        return loss

    def settle(self) -> None:
        """Raise what a GPU found in the last pass and could not say without stopping: labels out of range."""
        for layer in self._engine:
            layer.settle()

    def _backward(self, start: int, end: int) -> None:
        self.run_backward(start, end)

    def forward(self, blobs: Optional[List[str]] = None, start: Optional[str] = None, end: Optional[str] = None,
                **kwargs: Any) -> Dict[str, Any]:
        """Set inputs, run forward, return {name: data} of the outputs and of `blobs`.

        Parameters
        ----------
        blobs : list of str
            Further blobs to return.
        start, end : str
            Names of the first and last layer to run (inclusive).
        **kwargs : ndarray
            Input blobs by name: all of them or none.
        """
        first = self._layer_index(start) if start is not None else 0
        last = self._layer_index(end) if end is not None else len(self._engine) - 1
        wanted = self.top_names[end] if end is not None else self.outputs
        if kwargs:
            self._take(kwargs, self.inputs, "data")
        for name in blobs or []:
            self.blobs[name].data  # noqa: B018  (what has been shown is kept)
        if self.frugal and first:
            self._check_kept(first, last)
        self._forward(first, last)
        return {name: self.blobs[name].data for name in {*wanted, *(blobs or [])}}

    def backward(self, diffs: Optional[List[str]] = None, start: Optional[str] = None, end: Optional[str] = None,
                 **kwargs: Any) -> Dict[str, Any]:
        """Set output diffs, run backward, return {name: diff} of the inputs and of `diffs`; see `forward`."""
        first = self._layer_index(start) if start is not None else len(self._engine) - 1
        last = self._layer_index(end) if end is not None else 0
        wanted = self.bottom_names[end] if end is not None else self.inputs
        self._take(kwargs, self.outputs, "diff")
        self._backward(first, last)
        self._tell_missing([*wanted, *(diffs or [])])
        return {name: self.blobs[name].diff for name in {*wanted, *(diffs or [])}}

    def _tell_missing(self, names: List[str]) -> None:
        """Warn once about requested gradients of blobs that have none."""
        for name in {*names} - self._told:
            readers = [(layer, i) for layer, bottoms in zip(self._engine, self._ids["bottom"])
                       for i, b in enumerate(bottoms) if self._blob_names[b] == name and i not in layer.no_gradient]
            if readers and not any(layer.needs_backward and layer.propagate_down[i] for layer, i in readers):
                self._told.add(name)
                log("net.cpp:173", f"blob {name!r}: its gradient stays zero, since nothing needs it; for it, write "
                                   f"force_backward: true into the net", WARNING)

    def _check_kept(self, first: int, last: int) -> None:
        """Raise CaffeError where layers `first` to `last` read a blob that the last pass has freed."""
        made = {*self._inputs}
        for bottoms, tops in zip(self._ids["bottom"][first:last + 1], self._ids["top"][first:last + 1]):
            for b in bottoms:
                if b not in made and self._blobs[b].empty:
                    raise CaffeError(f"blob {self._blob_names[b]!r} is not there: net.frugal frees what no layer reads any more; "
                                     f"keep it by forward(blobs=[{self._blob_names[b]!r}])")
            made.update(tops)

    def _layer_index(self, name: str) -> int:
        if name not in self._layer_names:
            raise UnknownLayerError(f"net {self.name!r} has no layer {name!r}")
        return self._layer_names.index(name)

    def _take(self, arrays: Dict[str, Any], names: List[str], kind: str) -> None:
        if arrays and set(arrays) != set(names):
            raise CaffeError(f"given are {sorted(arrays)}, the net's blobs are {sorted(names)}")
        for name, array in arrays.items():
            target = getattr(self.blobs[name], kind)
            if len(array) != len(target):
                raise CaffeError(f"{name!r}: {len(array)} items given, the blob holds {len(target)}; reshape it first")
            target[...] = array

    def _batches(self, arrays: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
        size, count = self._blobs[0].shape[0], len(next(iter(arrays.values()))) if arrays else 0
        for at in range(0, count, size):
            batch = {name: np.asarray(array[at:at + size]) for name, array in arrays.items()}
            short = size - min(size, count - at)
            yield {name: np.concatenate([a, np.zeros((short, *a.shape[1:]))]) for name, a in batch.items()}

    def forward_all(self, blobs: Optional[List[str]] = None, **kwargs: Any) -> Dict[str, Any]:
        """Run `forward` over inputs of any length, batch by batch; return whole arrays."""
        parts = [{k: v.copy() for k, v in self.forward(blobs=blobs, **b).items()} for b in self._batches(kwargs)]
        count = _count(kwargs)
        return {name: np.concatenate([p[name] for p in parts])[:count] for name in parts[0]}

    def forward_backward_all(self, blobs: Optional[List[str]] = None, diffs: Optional[List[str]] = None,
                             **kwargs: Any) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        """Run `forward` and `backward` over inputs and output diffs of any length; return all blobs and diffs."""
        ins = list(self._batches({k: v for k, v in kwargs.items() if k in self.inputs}))
        outs = list(self._batches({k: v for k, v in kwargs.items() if k in self.outputs}))
        found: Tuple[List[Dict[str, Any]], List[Dict[str, Any]]] = ([], [])
        for i in range(max(len(ins), len(outs))):
            data = self.forward(blobs=blobs, **(ins[i] if i < len(ins) else {}))
            found[0].append({k: v.copy() for k, v in data.items()})
            grads = self.backward(diffs=diffs, **(outs[i] if i < len(outs) else {}))
            found[1].append({k: v.copy() for k, v in grads.items()})
        count = _count(kwargs)
        joined = [{k: np.concatenate([p[k] for p in parts])[:count] for k in parts[0]} for parts in found]
        return joined[0], joined[1]

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Give the MemoryData layer (the first layer) its pictures N x C x H x W and labels N."""
        layer = self._engine[0]
        if layer.type != "MemoryData":
            raise CaffeError(f"set_input_arrays needs a net whose first layer is MemoryData; here it is {layer.type}")
        layer.set_arrays(np.asarray(data), np.asarray(labels))  # type: ignore[attr-defined]

    def reshape(self) -> None:
        """Bring all shapes in line with those of the input blobs."""
        for i, layer in enumerate(self._engine):
            if layer.reshapes:
                layer.reshape(*self._both_ends[i])

    # ------------------------------------------------------------ parameters
    def copy_from(self, path: str) -> None:
        """Load weights by layer name; layers that the file lacks keep theirs, others in the file are ignored."""
        self.load(path, snapshot.read_weights(str(path), self.room))

    @property
    def room(self) -> snapshot.Room:
        """How many parameters each layer has; more are not read from a file."""
        return {layer.name: sum(blob.count for blob in layer.blobs) for layer in self._engine}

    def load(self, path: str, weights: snapshot.Weights) -> None:
        """Take weights that were read from a file."""
        layers, copies = self._by_name, []
        for name, arrays in weights:
            if name not in layers:
                log("net.cpp:744", f"Ignoring source layer {name}")
                continue
            layer = layers[name]
            there = [i for i, array in enumerate(arrays) if array is not None]
            layer.check({*there, *layer.borrowed} == {*range(len(layer.blobs))},
                        f"{path} holds {len(there)} blobs for it, it has {len(layer.blobs)}")
            for i in there:
                blob, array = layer.blobs[i], arrays[i]
                legacy = (1,) * (4 - len(blob.shape)) + blob.shape  # blobs of old files have four axes
                if array.shape not in (blob.shape, legacy):
                    layer.fail(f"cannot copy param {i} from {path}: shape mismatch, {array.shape} in the file, {blob.shape} "
                               f"in the net; to train this layer from scratch instead, rename it")
                copies.append((blob, array))
        for blob, array in copies:  # all of it fits: a file that does not leaves the net as it was
            blob.tensor.copy_(tensor_of(array.reshape(blob.shape)))

    def save(self, path: str, diffs: bool = False) -> None:
        """Write a `.caffemodel`."""
        snapshot.write_weights(str(path), self.name, [(la.param, la.blobs) for la in self._engine], diffs)

    def save_hdf5(self, path: str, diffs: bool = False) -> None:
        """Write the weights as HDF5."""
        snapshot.write_weights_hdf5(str(path), [(la.param, la.blobs) for la in self._engine if la.blobs], diffs)

    def load_hdf5(self, path: str) -> None:
        """Load weights written as HDF5."""
        self.copy_from(path)

    def share_with(self, other: "Net") -> None:
        """Use the parameters of another net, layer by layer of the same name, without copying."""
        self._borrows = True
        layers = self._by_name
        for source in other._engine:
            mine = layers.get(source.name)
            if mine is None:
                log("net.cpp:678", f"Ignoring source layer {source.name}")
                continue
            mine.check(len(mine.blobs) == len(source.blobs), "cannot share parameters: their numbers differ")
            for a, b in zip(source.blobs, mine.blobs):
                mine.check(a.shape == b.shape, f"cannot share parameters: shapes {a.shape} and {b.shape}")
                share_data(a, b)

    @property
    def _by_name(self) -> Dict[str, Layer]:
        """The layers by name; of several with one name the first, as in Caffe."""
        return dict(zip(reversed(self._layer_names), reversed(self._engine)))

    @property
    def position(self) -> Dict[str, int]:
        """How many batches each layer that reads data gave out; may be set before the first one."""
        return {layer.name: layer.taken for layer in self._engine if isinstance(layer, Source)}

    @position.setter
    def position(self, batches: Dict[str, int]) -> None:
        for layer in self._engine:
            if isinstance(layer, Source):
                layer.check(layer.name in batches, "the position of the data does not name it")
                layer.go_to(batches[layer.name])

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        for param in self.learnable:
            param.blob.clear_grad()


def _count(arrays: Dict[str, Any]) -> int:
    """Return the length of the arrays that were given for a net's inputs."""
    if not arrays:
        raise CaffeError("no arrays for the net's inputs are given; a net that reads its data runs by forward()")
    return len(next(iter(arrays.values())))

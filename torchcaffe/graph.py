"""How a net comes to be: its layers are set up in order, joined by named blobs (``Net::Init`` of Caffe's net.cpp)."""
import functools
from collections import Counter, OrderedDict
from typing import Any, Dict, List, Set, Tuple

import torch

from . import hints
from .blob import Blob, share_data, share_diff
from .errors import CaffeError
from .glog import WARNING, log
from .layers import LAYERS, Layer
from .layers.base import NEVER, check_count
from .proto import caffe_pb2 as pb


class Param:
    """A learnable parameter: the blob, its rates, and where it was first named."""

    def __init__(self, blob: Blob, spec: Any, layer: str, label: str) -> None:
        self.blob, self.layer, self.label = blob, layer, label
        self.lr_mult, self.decay_mult = spec.lr_mult, spec.decay_mult
        self.given = {f: spec.HasField(f) for f in ("lr_mult", "decay_mult")}

    def join(self, spec: Any, name: str) -> None:
        """Take over the rates of another layer that shares this parameter; they must not contradict."""
        for field in ("lr_mult", "decay_mult"):
            if spec.HasField(field):
                if self.given[field] and getattr(self, field) != getattr(spec, field):
                    raise CaffeError(f"shared param {name!r} has mismatched {field}")
                setattr(self, field, getattr(spec, field))
                self.given[field] = True


class Graph:
    """Layers, blobs and parameters, set up from a NetParameter that is filtered and has its splits; `Net` runs them."""

    def __init__(self, text: Any) -> None:
        self.name: str = text.name
        self.phase: int = text.state.phase
        self.debug_info: bool = text.debug_info
        self._engine: List[Layer] = []
        self._layer_names: List[str] = []
        self._blobs: List[Blob] = []
        self._blob_names: List[str] = []
        self._blob_loss_weights: List[float] = []
        self._ids: Dict[str, List[List[int]]] = {"bottom": [], "top": []}
        self._inputs: List[int] = []
        self.learnable: List[Param] = []
        self._named: Dict[str, Param] = {}
        self._where: Dict[str, int] = {}      # blob name -> number, latest
        self._needs: List[bool] = []          # blob number -> needs a gradient
        self._free: Set[str] = set()          # tops that no layer has read yet
        producers: Dict[int, Layer] = {}
        for param in text.layer:
            layer = self._add_layer(param, producers)
            made = producers.get(self._ids["bottom"][-1][0], layer) if layer.shares_diff else layer
            for i in self._ids["top"][-1]:
                producers[i] = made
        self._prune_backward()
        if text.force_backward:
            self._force_backward()
        for layer in self._engine:
            if layer.passes_over:
                layer.propagate_down = [w and i not in layer.no_gradient for i, w in enumerate(layer.propagate_down)]
        self._both_ends = [self._ends(i) for i in range(len(self._engine))]
        self._outputs = [self._where[name] for name in sorted(self._free)]
        for name, count in Counter(layer.name for layer in self._engine if layer.blobs).items():
            if count > 1:
                log("net.cpp:255", f"{count} layers {name!r} have parameters, which weights files cannot tell apart; rename them",
                    WARNING)
        log("net.cpp:255", "Network initialization done.")

    def _add_layer(self, param: Any, producers: Dict[int, Layer]) -> Layer:
        if param.type not in LAYERS:
            raise CaffeError(f"layer {param.name!r}: type {param.type!r} is not supported{hints.of_type(param.type)}")
        if not param.HasField("phase"):
            param.phase = self.phase
        layer = LAYERS[param.type](param, param.phase)
        bottoms = [self._read_blob(layer, name) for name in param.bottom]
        tops = [self._write_blob(layer, name, bottoms) for name in param.top]
        needed = (layer.tops[0] if layer.auto_top else 0) - len(tops)
        tops += [self._new_blob("(automatic)") for _ in range(needed)]
        check_count(layer, "bottoms", len(bottoms), layer.bottoms)
        check_count(layer, "tops", len(tops), layer.tops)
        layer.check(len(param.propagate_down) in (0, len(bottoms)), "propagate_down must be given for each bottom or none")
        layer.propagate_down = list(param.propagate_down) or [self._needs[i] for i in bottoms]
        if bottoms and bottoms[0] in tops and bottoms[0] in producers:  # in place: on memory that the producer keeps, or not
            before = producers[bottoms[0]]
            layer.may_overwrite, before.guards_top = not before.saves_top, before.saves_top
        self._engine.append(layer)
        self._layer_names.append(param.name)
        self._ids["bottom"].append(bottoms)
        self._ids["top"].append(tops)
        layer.setup([self._blobs[i].shape for i in bottoms])
        layer.take(param.blobs)
        layer.reshape(*self._ends(len(self._engine) - 1))
        self._set_loss_weights(layer, tops)
        self._add_params(layer)
        layer.needs_backward = any(self._needs[i] for i in bottoms) or any(layer.param_wanted)
        if layer.needs_backward:
            for i in tops:
                self._needs[i] = True
        if param.type == "Input":
            self._inputs += tops
        return layer

    def _read_blob(self, layer: Layer, name: str) -> int:
        if name not in self._where:
            layer.fail(f"unknown bottom blob {name!r}")
        self._free.discard(name)
        return self._where[name]

    def _write_blob(self, layer: Layer, name: str, bottoms: List[int]) -> int:
        if name in self._where:
            layer.check(self._where[name] in bottoms, f"top blob {name!r} is already the top of another layer")
            layer.check(layer.in_place != NEVER, f"cannot work in place; give its top {name!r} another name")
            self._free.add(name)
            return self._where[name]
        self._where[name] = len(self._blobs)
        self._free.add(name)
        return self._new_blob(name)

    def _new_blob(self, name: str) -> int:
        self._blobs.append(Blob())
        self._blob_names.append(name)
        self._blob_loss_weights.append(0)
        self._needs.append(False)
        return len(self._blobs) - 1

    def _set_loss_weights(self, layer: Layer, tops: List[int]) -> None:
        given = list(layer.param.loss_weight)
        layer.check(len(given) in (0, len(tops)), f"{len(given)} loss_weight for {len(tops)} tops; give none or one each")
        layer.loss_weights = given or [float(layer.is_loss and i == 0) for i in range(len(tops))]
        if layer.is_loss and not given:
            layer.param.loss_weight.append(1)  # as Caffe's weights files say
        for i, weight in zip(tops, layer.loss_weights):
            self._blob_loss_weights[i] = weight
            if weight:
                self._blobs[i].grad = torch.full_like(self._blobs[i].grad, weight)

    def _add_params(self, layer: Layer) -> None:
        specs = list(layer.param.param)
        layer.check(len(specs) <= len(layer.blobs), f"{len(specs)} param entries for {len(layer.blobs)} parameters")
        specs += [pb.ParamSpec()] * (len(layer.blobs) - len(specs))
        layer.param_wanted = [spec.lr_mult != 0 for spec in specs]
        for i, spec in enumerate(specs):
            if spec.name in self._named:
                self._share_param(layer, i, spec)
                continue
            found = Param(layer.blobs[i], spec, layer.name, spec.name or str(i))
            self.learnable.append(found)
            if spec.name:
                self._named[spec.name] = found

    def _share_param(self, layer: Layer, i: int, spec: Any) -> None:
        owner, mine = self._named[spec.name], layer.blobs[i]
        permissive = spec.share_mode == spec.PERMISSIVE
        fits = mine.count == owner.blob.count if permissive else mine.shape == owner.blob.shape
        layer.check(fits, f"cannot share param {spec.name!r} of layer {owner.layer!r}: its shape is {owner.blob.shape}, "
                          f"here {mine.shape} is needed")
        owner.join(spec, spec.name)
        layer.borrowed.append(i)
        if mine.shape == owner.blob.shape:
            layer.blobs[i] = owner.blob
        else:
            share_data(owner.blob, mine)
            share_diff(owner.blob, mine)

    def _prune_backward(self) -> None:
        """Drop the backward pass of what no loss depends on (second half of ``Net::Init``)."""
        under_loss: Set[int] = set()
        skipped: Set[int] = set()
        for layer, bottoms, tops in reversed(list(zip(self._engine, self._ids["bottom"], self._ids["top"]))):
            contributes = any(layer.loss_weights) or any(i in under_loss for i in tops)
            if all(i in skipped for i in tops) and layer.needs_backward:
                layer.needs_backward, layer.propagate_down = False, [False] * len(bottoms)
            if not contributes:
                layer.needs_backward, layer.propagate_down = False, [False] * len(bottoms)
            else:
                under_loss.update(bottoms)
            skipped.update(i for i, wanted in zip(bottoms, layer.propagate_down) if not wanted)

    def _force_backward(self) -> None:
        for layer in self._engine:
            layer.needs_backward = True
            layer.propagate_down = [w or i not in layer.no_gradient for i, w in enumerate(layer.propagate_down)]
            layer.param_wanted = [layer.type != "BatchNorm"] * len(layer.blobs)

    def _ends(self, i: int) -> Tuple[List[Blob], List[Blob]]:
        return [self._blobs[b] for b in self._ids["bottom"][i]], [self._blobs[t] for t in self._ids["top"][i]]

    # ------------------------------------------------------------ names, as pycaffe shows them
    @functools.cached_property
    def blobs(self) -> "OrderedDict[str, Blob]":
        """Blobs by name, in the order of their layers."""
        return OrderedDict(zip(self._blob_names, self._blobs))

    @property
    def blob_loss_weights(self) -> "OrderedDict[str, float]":
        """Loss weights of the blobs by name."""
        return OrderedDict(zip(self._blob_names, self._blob_loss_weights))

    @property
    def layers(self) -> List[Any]:
        """The layers, each with `type` and `blobs`."""
        return [layer.public for layer in self._engine]

    @property
    def layer_dict(self) -> "OrderedDict[str, Any]":
        """The layers by name."""
        return OrderedDict(zip(self._layer_names, self.layers))

    @functools.cached_property
    def params(self) -> "OrderedDict[str, Any]":
        """Lists of parameter blobs by layer name, for layers that have any."""
        return OrderedDict((layer.name, layer.blobs) for layer in self._engine if layer.blobs)

    def _named_ids(self, kind: str) -> "OrderedDict[str, List[str]]":
        names = ([self._blob_names[i] for i in ids] for ids in self._ids[kind])
        return OrderedDict(zip(self._layer_names, names))

    def _bottom_ids(self, i: int) -> List[int]:
        return self._ids["bottom"][i]

    def _top_ids(self, i: int) -> List[int]:
        return self._ids["top"][i]

    bottom_names = property(lambda self: self._named_ids("bottom"), doc="Names of each layer's bottoms.")
    top_names = property(lambda self: self._named_ids("top"), doc="Names of each layer's tops.")
    inputs = property(lambda self: [self._blob_names[i] for i in self._inputs], doc="Names of the input blobs.")
    outputs = property(lambda self: [self._blob_names[i] for i in self._outputs], doc="Names of blobs that no layer reads.")

"""Nets written in Python, as pycaffe's `NetSpec`: ``n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3)``.

`layers` makes a function of every layer type, `params` gives the values of enum fields (``P.Pooling.MAX``). The result is a
NetParameter; its text is a prototxt.
"""
from collections import Counter, OrderedDict
from typing import Any, Dict, List, Tuple, Union

from .errors import CaffeError
from .proto import caffe_pb2 as pb


class Function:
    """A layer to be written: its type, the tops that it reads, and its fields.

    Parameters
    ----------
    type_name : str
        Caffe's layer type.
    inputs : sequence of Top
        The bottoms.
    params : dict
        Fields of the layer or of the message that belongs to its type, and two that are no fields: `ntop` (number of
        tops, 1 by default) and `in_place` (the tops are the bottoms).

    Raises
    ------
    TypeError
        Where an input is not one top of another layer.
    """

    def __init__(self, type_name: str, inputs: Tuple[Any, ...], params: Dict[str, Any]) -> None:
        for i, item in enumerate(inputs):
            if not isinstance(item, Top):
                raise TypeError(f"{type_name} input {i} is not a Top (type is {type(item)})")
        self.type_name, self.inputs = type_name, inputs
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def to_proto(self) -> Any:
        """Return the NetParameter of this layer and of all that it needs."""
        return to_proto(self)


class Top:
    """Output number `n` of a layer."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> Any:
        """Return the NetParameter of the layers that make this blob."""
        return to_proto(self)


Node = Union[Top, Function]  # a Function stands for itself where it has no top


class _Writer:
    """Writes layers, each after those that it reads; names what has no name `<type><number>`."""

    def __init__(self, names: Dict[Node, str]) -> None:
        self.names = names
        self.counts: Counter[str] = Counter()
        self.written: Dict[Function, Any] = {}

    def name(self, node: Node) -> str:
        """Return the name of a blob, or of a layer without tops."""
        if node not in self.names:
            kind = (node.fn if isinstance(node, Top) else node).type_name
            self.counts[kind] += 1
            self.names[node] = f"{kind}{self.counts[kind]}"
        return self.names[node]

    def write(self, fn: Function) -> None:
        """Write a layer and, before it, the layers that it reads."""
        if fn in self.written:
            return
        layer = pb.LayerParameter(type=fn.type_name)
        for top in fn.inputs:
            self.write(top.fn)
            layer.bottom.append(self.written[top.fn].top[top.n])
        layer.top.extend(layer.bottom if fn.in_place else [self.name(top) for top in fn.tops])
        layer.name = self.name(fn.tops[0] if fn.tops else fn)
        for field, value in fn.params.items():
            _assign_field(layer, field, value)
        self.written[fn] = layer

    def net(self) -> Any:
        """Return all layers written."""
        return pb.NetParameter(layer=self.written.values())


def _write(nodes: List[Node], names: Dict[Node, str]) -> Any:
    writer = _Writer(names)
    for node in nodes:
        writer.write(node.fn if isinstance(node, Top) else node)
    return writer.net()


def to_proto(*tops: Node) -> Any:
    """Return the NetParameter of all layers that the given tops need, with names made up."""
    return _write(list(tops), {})


def param_name_dict() -> Dict[str, str]:
    """Return the field of LayerParameter that belongs to each layer type, without its `_param`."""
    fields = [f for f in pb.LayerParameter.DESCRIPTOR.fields if f.name.endswith("_param")]
    return {f.message_type.name[:-len("Parameter")]: f.name[:-len("_param")] for f in fields}


_PARAM_NAMES = param_name_dict()


def _assign_field(layer: Any, field: str, value: Any) -> None:
    """Set a field of a layer, or of its type's own message where that has one of this name."""
    own = _PARAM_NAMES.get(layer.type, "") + "_param"
    known = layer.DESCRIPTOR.fields_by_name
    try:
        if not field.endswith("param") and own in known and field in known[own].message_type.fields_by_name:
            assign_proto(getattr(layer, own), field, value)
        elif field in known:
            assign_proto(layer, field, value)
        else:
            raise CaffeError("no such field in the layer" + (f" or its {own}" if own in known else ""))
    except (CaffeError, TypeError, ValueError, AttributeError) as error:
        raise CaffeError(f"layer {layer.name!r} ({layer.type}): {field}={value!r}: {error}") from None


def assign_proto(proto: Any, name: str, value: Any) -> None:
    """Set a field of a message from Python values: lists for repeated fields (or one value alone), dicts for messages."""
    field = proto.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise CaffeError(f"{proto.DESCRIPTOR.name} has no field {name!r}")
    target = getattr(proto, name)
    if hasattr(target, "extend"):
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, dict):
                _assign_all(target.add(), item)
            else:
                target.append(item)
    elif isinstance(value, dict):
        target.SetInParent()
        _assign_all(target, value)
    else:
        setattr(proto, name, value)


def _assign_all(proto: Any, values: Dict[str, Any]) -> None:
    for name, value in values.items():
        assign_proto(proto, name, value)


class NetSpec:
    """A net whose blobs and layers are named by assignment; `tops` holds them in the order they were assigned.

    A layer is called like its first top. ``n["a/b"] = ...`` gives names that Python does not allow.
    """

    tops: "OrderedDict[str, Node]"

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Node) -> None:
        if not isinstance(value, (Top, Function)):
            raise TypeError(f"{name} is to be one top or layer, not {type(value)}; a layer with several tops needs as many names")
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["tops"][name]
        except KeyError:
            raise AttributeError(f"the NetSpec has no {name!r}") from None

    def __setitem__(self, name: str, value: Node) -> None:
        setattr(self, name, value)

    def __getitem__(self, name: str) -> Any:
        return self.tops[name]

    def to_proto(self) -> Any:
        """Return the NetParameter of everything assigned and of all that it needs."""
        return _write(list(self.tops.values()), {top: name for name, top in self.tops.items()})


class Layers:
    """Functions by layer type: each returns its top, a tuple of tops, or with ``ntop=0`` the layer itself."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def make(*inputs: Top, **params: Any) -> Any:
            fn = Function(name, inputs, params)
            return fn if fn.ntop == 0 else fn.tops[0] if fn.ntop == 1 else fn.tops
        return make


class Parameters:
    """Values of enums by message, the name without `Parameter`: ``params.Pooling.MAX``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(pb, name + "Parameter")


layers = Layers()
params = Parameters()

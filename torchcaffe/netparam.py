"""Net and solver texts: reading, upgrading old syntax, filtering by state, inserting splits."""
import math
import os
from collections import Counter
from typing import Any, Callable, Dict, Tuple

import numpy as np
from google.protobuf import message, text_format

from . import hints
from .errors import CaffeError
from .glog import WARNING, log
from .limits import MAX_AXES, MAX_COUNT, MAX_TABLE, MAX_TEXT, read_bytes
from .proto import caffe_pb2 as pb

_V1_TYPES = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "CONTRASTIVE_LOSS": "ContrastiveLoss", "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise", "EUCLIDEAN_LOSS": "EuclideanLoss", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss", "IM2COL": "Im2col", "IMAGE_DATA": "ImageData", "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct", "LRN": "LRN", "MEMORY_DATA": "MemoryData", "MVN": "MVN",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss", "RELU": "ReLU",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH",
    "WINDOW_DATA": "WindowData"}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")  # once part of data_param and its like
_NO_MODEL = {  # first bytes of what is often found in the place of a file
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
    b"<": "an HTML or XML page: the download failed; fetch the file again",
    b"PK\x03\x04": "a zip archive; unpack it", b"\x1f\x8b": "a gzip archive; unpack it"}


def read_file(path: str, most: int = MAX_TEXT) -> bytes:
    """Return the bytes of a regular file that has `most` of them at most."""
    try:
        return read_bytes(path, most)
    except OSError as error:
        raise CaffeError(f"{path}: {error.strerror} (relative to {os.getcwd()})") from None


def parse_text(text: str, into: Any, origin: str) -> Any:
    """Parse prototxt text into a message and return it."""
    try:
        text_format.Parse(text, into)
        missing = into.FindInitializationErrors()
        if missing:
            raise ValueError(f"required, but missing: {', '.join(missing)}")
        return into
    except (text_format.ParseError, message.Error, RecursionError, ValueError, SystemError) as error:
        fault = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if "surrogates not allowed" in fault or isinstance(error, SystemError):  # so protobuf ends at the name of an enum's value
            fault = "a value between quotes is not UTF-8; save the file as UTF-8"
        raise CaffeError(f"{origin}: {_V0 if _V0_FAULT in fault else fault + hints.of_fault(fault)}") from None


def read_text(path: str, into: Any) -> Any:
    """Parse a prototxt file into a message and return it; comments may hold any bytes, as for Caffe."""
    data = read_file(path)
    kind = _no_model(data)
    if kind or b"\0" in data:
        raise CaffeError(f"{path}: this is {kind or 'no text file'}")
    return parse_text(data.decode("utf-8-sig", "surrogateescape"), into, path)


def read_binary(path: str, into: Any, most: int = MAX_TABLE) -> Any:
    """Parse a binary protobuf file of `most` bytes at most into a message and return it."""
    data = read_file(path, most)
    try:
        into.ParseFromString(data)
    except message.Error as error:
        raise CaffeError(f"{path}: this is {no_message(data, into.DESCRIPTOR.name, error)}") from None
    return into


def no_message(data: bytes, kind: str, error: Exception) -> str:
    """Say by its first bytes what a file is that holds no message of a kind."""
    whole = b"\x0a" <= data[:1] < b"\x20" or data[:2] == b"\xa2\x06"  # begins as such a message does
    return _no_model(data) or ("cut off or damaged; fetch it again" if whole else f"no {kind} ({error})")


def _no_model(data: bytes) -> str:
    """Return what a file is by its first bytes where it is none of Caffe's."""
    return next((kind for start, kind in _NO_MODEL.items() if data[:100].lstrip().startswith(start)), "")


def read_net(path: str) -> Any:
    """Return the NetParameter of a prototxt file, upgraded to the current syntax."""
    return _whole(upgrade_net(read_text(path, pb.NetParameter()), path), path)


def message_net(net: Any, origin: str) -> Any:
    """Return a copy of a NetParameter, also of another caffe_pb2, upgraded to the current syntax."""
    return _whole(upgrade_net(pb.NetParameter.FromString(net.SerializeToString()), origin), origin)


def _whole(net: Any, origin: str) -> Any:
    if not net.layer:
        raise CaffeError(f"{origin}: no layers in it; is it a net's prototxt?")
    return net


def read_solver(path: str) -> Any:
    """Return the SolverParameter of a prototxt file, upgraded to the current syntax."""
    solver = read_text(path, pb.SolverParameter())
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise CaffeError(f"{path}: give either type or the old solver_type, not both")
        names = {"NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp", "ADADELTA": "AdaDelta", "ADAM": "Adam"}
        old = solver.SolverType.Name(solver.solver_type)
        solver.type = names.get(old, old)
        solver.ClearField("solver_type")
    return solver


def complete_prefix(solver: Any, path: str) -> Any:
    """Let the solver file's name complete snapshot_prefix where that is missing or a folder (upgrade_proto.cpp)."""
    stem = os.path.splitext(path)[0]
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = stem
        log("upgrade_proto.cpp:1108", f"snapshot_prefix was not specified and is set to {stem}")
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.basename(stem))
        log("upgrade_proto.cpp:1113", f"snapshot_prefix was a directory and is replaced to {solver.snapshot_prefix}")
    return solver


# ---------------------------------------------------------------- old syntax
_V0_FAULT = '"caffe.V1LayerParameter" has no field named "layer"'
_V0 = ("uses the V0 syntax of 2013 (`layers { layer { ... } }`), not supported; turn it into the current one with Caffe's "
       "upgrade_net_proto_text (its weights with upgrade_net_proto_binary)")


def upgrade_net(net: Any, origin: str) -> Any:
    """Bring a NetParameter to the current syntax in place (upgrade_proto.cpp) and return it."""
    if net.layers:
        if net.layer:
            raise CaffeError(f"{origin}: has both `layer` and the old `layers`; use `layer` only")
        for old in net.layers:
            if not old.HasField("type") and not old.name:
                raise CaffeError(f"{origin}: {_V0}")
            _upgrade_v1_layer(old, net.layer.add(), origin)
            _each_old_field(net.layer[-1], _move)
        net.ClearField("layers")
    for layer in net.layer:
        _each_old_field(layer, _ignore)
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0
    _upgrade_input(net, origin)
    return net


def _upgrade_v1_layer(old: Any, new: Any, origin: str) -> None:
    known = set(new.DESCRIPTOR.fields_by_name)
    for field, value in old.ListFields():
        if field.name == "type":
            name = old.LayerType.Name(value)
            new.type = _V1_TYPES.get(name, name.capitalize())
        elif field.name in ("param", "blob_share_mode", "blobs_lr", "weight_decay"):
            target = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}
            while len(new.param) < len(value):
                new.param.add()
            for spec, item in zip(new.param, value):
                setattr(spec, target[field.name], item)
        elif field.name not in known:
            raise CaffeError(f"{origin}: layer {old.name!r}: field {field.name} is not supported")
        elif isinstance(value, str):
            setattr(new, field.name, value)
        elif isinstance(value, message.Message):
            getattr(new, field.name).CopyFrom(value)
        else:
            getattr(new, field.name).extend(value)


def _each_old_field(layer: Any, do: Callable[[Any, Any, str], None]) -> None:
    """Do something to each field of a data layer whose place is transform_param now; clear it."""
    for name in ("data_param", "image_data_param", "window_data_param"):
        for field in _TRANSFORM_FIELDS if layer.HasField(name) else ():
            source = getattr(layer, name)
            if source.HasField(field):
                do(layer, source, field)
                source.ClearField(field)


def _move(layer: Any, source: Any, field: str) -> None:
    setattr(layer.transform_param, field, getattr(source, field))


def _ignore(layer: Any, source: Any, field: str) -> None:
    log("upgrade_proto.cpp:640", f"layer {layer.name!r} ({layer.type}): {field} is ignored, as in Caffe; move it to "
                                 f"transform_param {{ {field}: ... }}", WARNING)


def _upgrade_input(net: Any, origin: str) -> None:
    if not net.input:
        return
    shapes = [list(s.dim) for s in net.input_shape]
    shapes = shapes or [list(net.input_dim[i:i + 4]) for i in range(0, len(net.input_dim), 4)]
    if shapes:
        if len(shapes) != len(net.input) or (net.input_dim and len(net.input_dim) % 4):
            raise CaffeError(f"{origin}: {len(net.input)} inputs, but shapes for {len(shapes)}")
        layer = pb.LayerParameter(name="input", type="Input", top=net.input)
        for shape in shapes:
            layer.input_param.shape.add(dim=shape)
        rest = list(net.layer)
        del net.layer[:]
        net.layer.extend([layer, *rest])
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)


# ---------------------------------------------------------------- state
def meets(state: Any, rule: Any) -> bool:
    """Return whether a NetState meets a rule."""
    return not ((rule.HasField("phase") and rule.phase != state.phase)
                or (rule.HasField("min_level") and state.level < rule.min_level)
                or (rule.HasField("max_level") and state.level > rule.max_level)
                or not set(rule.stage) <= set(state.stage)
                or set(rule.not_stage) & set(state.stage))


def filter_net(net: Any) -> Any:
    """Return a copy of a net with the layers that its own NetState includes (``Net::FilterNet``)."""
    kept = []
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise CaffeError(f"layer {layer.name!r}: give either include or exclude rules, not both")
        rules = layer.include or layer.exclude
        met = any(meets(net.state, rule) for rule in rules)
        if met == bool(layer.include):
            kept.append(layer)
    filtered = pb.NetParameter()
    filtered.CopyFrom(net)
    del filtered.layer[:]
    filtered.layer.extend(kept)
    return filtered


# ---------------------------------------------------------------- splits
def insert_splits(net: Any) -> Any:
    """Return a copy in which a blob with several readers passes a Split layer (insert_splits.cpp).

    A top with a loss weight counts its loss as a reader, as in Caffe.
    """
    latest: Dict[str, Tuple[int, int]] = {}           # blob name -> (layer, top) that wrote it last
    source: Dict[Tuple[int, int], Tuple[int, int]] = {}
    readers: Counter[Tuple[int, int]] = Counter()
    weight: Dict[Tuple[int, int], float] = {}
    for i, layer in enumerate(net.layer):
        for j, name in enumerate(layer.bottom):
            if name not in latest:
                raise CaffeError(f"layer {layer.name!r}: unknown bottom blob {name!r}; no layer before it has that top")
            source[i, j] = latest[name]
            readers[latest[name]] += 1
        for j, name in enumerate(layer.top):
            latest[name] = (i, j)
        for j, w in enumerate(list(layer.loss_weight)[:len(layer.top)]):
            weight[latest[layer.top[j]]] = w
            readers[latest[layer.top[j]]] += bool(w)
    return _with_splits(net, source, readers, weight)


def _with_splits(net: Any, source: Any, readers: Any, weight: Any) -> Any:
    out = pb.NetParameter()
    out.CopyFrom(net)
    del out.layer[:]
    used: Counter[Tuple[int, int]] = Counter()
    for i, original in enumerate(net.layer):
        layer = out.layer.add()
        layer.CopyFrom(original)
        for j, name in enumerate(layer.bottom):
            top = source[i, j]
            if readers[top] > 1:
                layer.bottom[j] = _split_blob(net.layer[top[0]].name, name, top[1], used[top])
                used[top] += 1
        for j, name in enumerate(original.top):
            count, w = readers[i, j], weight.get((i, j), 0)
            if count > 1:
                split = out.layer.add(name=f"{name}_{original.name}_{j}_split", type="Split", bottom=[name])
                split.top.extend(_split_blob(original.name, name, j, k) for k in range(count))
                if w:
                    split.loss_weight.extend([w] + [0] * (count - 1))
                    layer.ClearField("loss_weight")
                    used[i, j] += 1
    return out


def _split_blob(layer: str, blob: str, top: int, number: int) -> str:
    return f"{blob}_{layer}_{top}_split_{number}"


# ---------------------------------------------------------------- blobs
def blob_shape(proto: Any) -> Tuple[int, ...]:
    """Return the shape of a BlobProto; the old form has num, channels, height, width."""
    old = any(proto.HasField(f) for f in ("num", "channels", "height", "width"))
    return check_shape((proto.num, proto.channels, proto.height, proto.width) if old else tuple(proto.shape.dim))


def check_shape(shape: Tuple[int, ...]) -> Tuple[int, ...]:
    """Return a blob's shape; refuse what Caffe would: too many axes, negative ones, too many values."""
    if len(shape) > MAX_AXES or min(shape, default=0) < 0 or math.prod(n for n in shape if n) > MAX_COUNT:
        found = f"{len(shape)} axes" if len(shape) > MAX_AXES else f"shape {shape}"
        raise CaffeError(f"a blob of {found}, expected at most {MAX_AXES} axes, none of them negative, and {MAX_COUNT} values")
    return shape


def blob_array(proto: Any, diff: bool = False) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return the values (or gradients) of a BlobProto in its shape."""
    values = (proto.diff or proto.double_diff) if diff else (proto.data or proto.double_data)
    shape = blob_shape(proto)
    if len(values) != math.prod(shape):
        raise CaffeError(f"a blob of shape {shape} holds {len(values)} values")
    return np.fromiter(values, np.float32, len(values)).reshape(shape)

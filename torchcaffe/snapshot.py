"""Caffe's weight and solver-state files: `.caffemodel`, `.solverstate`, and both as HDF5.

Blobs are read and written as whole byte strings: a packed repeated float and a bytes field look the same on the wire, so a
second copy of the schema with ``bytes`` in place of the numbers parses a 500 MB file without making 130 million Python floats.
"""
import contextlib
import fcntl
import functools
import json
import math
import os
import re
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from . import hdf5, wire
from .errors import CaffeError
from .glog import WARNING, log
from .limits import check_target
from .netparam import blob_array, read_file
from .proto import caffe_pb2 as pb
from .proto.build import build
from .proto.schema import SCHEMA

Array = Any
Weights = List[Tuple[str, List[Array]]]
Room = Dict[str, int]
_HISTORY = "history"
_PART = ".snapshot"  # suffix of files that are being written; resumable downloads end in .part


@functools.cache
def _raw() -> Dict[str, Any]:
    """Return the messages with BlobProto's numbers as bytes."""
    return build(re.sub(r"float\*! (data|diff)", r"bytes \1", SCHEMA))


def write_whole(path: str, data: bytes) -> None:
    """Write a file under a temporary name in the same folder, flush it to the disk, then rename it."""
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}{_PART}")
    try:
        check_target(path)
        _remove_parts(folder)
        with open(temporary, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # ends with the process
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        _sync_folder(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        hint = "" if os.path.isdir(folder) else "; does the folder exist?"
        raise CaffeError(f"cannot write {path}: {error.strerror}{hint}") from None


def _remove_parts(folder: str) -> None:
    """Remove what killed processes left: files whose writer no longer holds them."""
    for entry in os.scandir(folder):
        if entry.name.startswith(".") and entry.name.endswith(_PART) and entry.is_file():
            with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _raw_array(proto: Any, shape: Tuple[int, ...]) -> Array:
    if len(proto.data) == 4 * math.prod(shape):
        return np.frombuffer(proto.data, "<f4").reshape(shape)
    return blob_array(pb.BlobProto.FromString(proto.SerializeToString()))  # not packed, in pieces, or double


def _fill(proto: Any, values: Array, diff: Array = None) -> None:
    proto.shape.dim.extend(values.shape)
    proto.data = np.ascontiguousarray(values, "<f4").tobytes()
    if diff is not None:
        proto.diff = np.ascontiguousarray(diff, "<f4").tobytes()


def read_weights(path: str, room: Optional[Room] = None) -> Weights:
    """Return [(layer name, [arrays])] of a weights file, in file order; None stands for an array that it leaves out (HDF5).

    Parameters
    ----------
    path : str
        A `.caffemodel`, or one in HDF5.
    room : dict, optional
        How many values the layers take that shall be filled. Other layers are not read, nor are blobs that do not fit:
        they come as zeros of their shape that take no memory.
    """
    if is_hdf5(path):
        with hdf5.opened(path, "weights") as file:
            return [(name, _datasets(items, room, name)) for name, items in hdf5.layers(file).items()]
    with wire.reading(path, "NetParameter") as reader:
        layers = _distinct(reader.layers())
        return [(layer.name, _blobs(reader, layer.blobs, room, layer.name)) for layer in layers]


def read_shapes(path: str) -> Dict[str, List[Tuple[int, ...]]]:
    """Return the shapes of the blobs of each layer that has some in a weights file."""
    if is_hdf5(path):
        with hdf5.opened(path, "weights") as file:
            return {name: [hdf5.shape_of(item) for item in items if item] for name, items in hdf5.layers(file).items()}
    with wire.reading(path, "NetParameter") as reader:
        return {layer.name: [blob.shape for blob in layer.blobs] for layer in _distinct(reader.layers()) if layer.blobs}


def _distinct(layers: List[wire.StoredLayer]) -> List[wire.StoredLayer]:
    """Return the layers of a file; refuse ambiguous layer names."""
    if layers and not any(layer.name for layer in layers) and not layers[0].current:
        raise CaffeError("weights in the V0 format of 2013, not supported; turn them into current ones with Caffe's "
                         "upgrade_net_proto_binary")
    names = Counter(layer.name for layer in layers if layer.blobs)
    for name, count in names.items():
        if count > 1:
            raise CaffeError(f"{count} layers {name!r} with weights, expected one; rename them")
    return layers


def _fits(name: str, shapes: List[Tuple[int, ...]], room: Optional[Room]) -> bool:
    return room is None or sum(map(math.prod, shapes)) <= room.get(name, -1)


def _absent(shapes: List[Tuple[int, ...]]) -> List[Array]:
    return [np.broadcast_to(np.float32(0), shape) for shape in shapes]


def _datasets(items: List[Any], room: Optional[Room], name: str) -> List[Array]:
    shapes = [hdf5.shape_of(item) if item else None for item in items]
    there = [shape for shape in shapes if shape is not None]
    if not _fits(name, there, room):
        return _absent(there)
    return [hdf5.values(item) if item else None for item in items]


def _blobs(reader: wire.Reader, blobs: List[wire.StoredBlob], room: Optional[Room], name: str) -> List[Array]:
    shapes = [blob.shape for blob in blobs]
    return [_blob(reader, blob) for blob in blobs] if _fits(name, shapes, room) else _absent(shapes)


def _blob(reader: wire.Reader, blob: wire.StoredBlob) -> Array:
    _check_bytes(blob)
    return _raw_array(_raw()["BlobProto"].FromString(reader.content(blob.start, blob.end)), blob.shape)


def _check_bytes(blob: wire.StoredBlob) -> None:
    """Refuse a blob whose message holds much besides its values and gradients, which may be doubles."""
    if blob.end - blob.start > 20 * math.prod(blob.shape) + wire.MAX_SMALL:
        raise CaffeError(f"a blob of shape {blob.shape} takes {blob.end - blob.start} bytes; fetch the file again")


def write_weights(path: str, name: str, layers: List[Tuple[Any, List[Any]]], diffs: bool) -> None:
    """Write the layers' texts and blobs; `layers` is [(LayerParameter, [Blob])]."""
    net = _raw()["NetParameter"](name=name)
    for param, blobs in layers:
        layer = net.layer.add()
        layer.ParseFromString(param.SerializeToString())
        del layer.blobs[:]
        for blob in blobs:
            _fill(layer.blobs.add(), blob.tensor.cpu().numpy(), blob.grad.cpu().numpy() if diffs else None)
    write_whole(path, net.SerializeToString())


def is_hdf5(path: str) -> bool:
    """Return whether a file is HDF5, by its first bytes."""
    with wire.reading(path, "HDF5 file") as reader:
        return reader.content(0, 8) == b"\x89HDF\r\n\x1a\n"


def write_weights_hdf5(path: str, layers: List[Tuple[Any, List[Any]]], diffs: bool) -> None:
    """Write blobs to the groups /data/<layer>/<number> (and /diff) of an HDF5 file."""
    def fill(file: Any) -> None:
        for kind in ("data", "diff") if diffs else ("data",):
            for param, blobs in layers:
                group = hdf5.layer_group(file, kind, param.name)
                for i, blob in enumerate(blobs):
                    group[str(i)] = (blob.tensor if kind == "data" else blob.grad).cpu().numpy()
    write_whole(path, hdf5.written(fill))


def read_state(path: str, room: Optional[int] = None) -> Tuple[int, str, int, List[Array]]:
    """Return (iteration, weights file, current step, history) of a solver state; see `read_weights` for `room`."""
    limit = None if room is None else {_HISTORY: room}
    found = (_read_state_hdf5 if is_hdf5(path) else _read_state_binary)(path, limit)
    for name, count in (("iteration", found[0]), ("current step", found[2])):
        if not 0 <= count < 2**31:
            raise CaffeError(f"{path}: the {name} is {count}, expected 0 to {2**31 - 1}; take another state")
    return found


def _read_state_binary(path: str, room: Optional[Room]) -> Tuple[int, str, int, List[Array]]:
    with wire.reading(path, "SolverState") as reader:
        if not reader.has_number(wire.ITERATION):  # looked for first: the rest of a .caffemodel is large
            raise CaffeError("no solver state (no iteration number in it); give the .solverstate, not the .caffemodel")
        blobs = reader.history()
        state = _raw()["SolverState"].FromString(reader.rest(wire.HISTORY))
        return state.iter, state.learned_net, state.current_step, _blobs(reader, blobs, room, _HISTORY)


def _read_state_hdf5(path: str, room: Optional[Room]) -> Tuple[int, str, int, List[Array]]:
    with hdf5.opened(path, "a solver state") as file:
        group = hdf5.member(file, _HISTORY)
        history = [hdf5.member(group, str(i)) for i in range(len(group))]
        return (hdf5.whole_number(file, "iter"), hdf5.text(file, "learned_net"), hdf5.whole_number(file, "current_step"),
                _datasets(history, room, _HISTORY))


def write_state(path: str, iteration: int, learned_net: str, step: int, history: List[Any]) -> None:
    """Write a solver state; `history` is a list of tensors."""
    arrays = [h.cpu().numpy() for h in history]
    if path.endswith(".h5"):
        def fill(file: Any) -> None:
            file["iter"], file["current_step"] = np.int32(iteration), np.int32(step)
            name = learned_net.encode()
            file["learned_net"] = np.array(name, f"S{len(name) + 1}")  # Caffe reads up to a zero byte
            group = file.create_group(_HISTORY)
            for i, array in enumerate(arrays):
                group[str(i)] = array
        write_whole(path, hdf5.written(fill))
        return
    state = _raw()["SolverState"](iter=iteration, learned_net=learned_net, current_step=step)
    for array in arrays:
        _fill(state.history.add(), array)
    write_whole(path, state.SerializeToString())


def write_position(path: str, positions: List[Dict[str, int]]) -> None:
    """Write how many batches each data layer gave out, one {layer: batches} a net."""
    write_whole(path, json.dumps(positions).encode())


def read_position(state: str, count: int) -> List[Dict[str, int]]:
    """Return the positions that `write_position` wrote for a solver state, of `count` nets; empty where there are none."""
    path = re.sub(r"\.solverstate(\.h5)?$", ".datastate", state)
    if not os.path.exists(path):
        log("solver.cpp:505", f"No {path}: data start at record 0, as in Caffe", WARNING)
        return []
    try:
        found = json.loads(read_file(path))
        positions = [{str(name): int(batches) for name, batches in net.items()} for net in found]
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CaffeError(f"{path}: not a position of the data: {error}") from None
    if path == state or len(positions) != count or any(n < 0 for net in positions for n in net.values()):
        raise CaffeError(f"{path}: not a position of the data for {count} nets")
    return positions

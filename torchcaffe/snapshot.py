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
import tempfile
from typing import Any, Dict, List, Tuple

import numpy as np
from google.protobuf import message

from .errors import CaffeError
from .log import WARNING, log
from .netparam import blob_array, blob_shape, read_binary, read_file
from .proto import caffe_pb2 as pb
from .proto.build import build
from .proto.schema import SCHEMA

Array = Any
Weights = List[Tuple[str, List[Array]]]
_PART = ".snapshot"  # how the names of files end that are being written; downloads that can go on end in .part


@functools.cache
def _raw() -> Dict[str, Any]:
    """Return the messages with BlobProto's numbers as bytes."""
    return build(re.sub(r"float\*! (data|diff)", r"bytes \1", SCHEMA))


def write_whole(path: str, data: bytes) -> None:
    """Write a file under a temporary name beside its own, bring it to the disk, then rename it."""
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}{_PART}")
    try:
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
        if entry.name.startswith(".") and entry.name.endswith(_PART):
            with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _raw_array(proto: Any, path: str) -> Array:
    shape = blob_shape(proto)
    if len(proto.data) == 4 * math.prod(shape):
        return np.frombuffer(proto.data, "<f4").reshape(shape)
    try:
        return blob_array(pb.BlobProto.FromString(proto.SerializeToString()))  # not packed, in pieces, or double
    except (CaffeError, message.Error) as error:
        raise CaffeError(f"{path}: {error}") from None


def _fill(proto: Any, values: Array, diff: Array = None) -> None:
    proto.shape.dim.extend(values.shape)
    proto.data = np.ascontiguousarray(values, "<f4").tobytes()
    if diff is not None:
        proto.diff = np.ascontiguousarray(diff, "<f4").tobytes()


def read_weights(path: str) -> Weights:
    """Return [(layer name, [arrays])] of a weights file, in file order."""
    if is_hdf5(path):
        return _read_weights_hdf5(path)
    net = read_binary(path, _raw()["NetParameter"]())
    layers = net.layer or net.layers
    if net.layers and not any(layer.name for layer in net.layers):
        raise CaffeError(f"{path}: weights in the V0 format of 2013, not supported; turn them into current ones with Caffe's "
                         "upgrade_net_proto_binary")
    return [(layer.name, [_raw_array(blob, path) for blob in layer.blobs]) for layer in layers]


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
    return read_file(path, 8) == b"\x89HDF\r\n\x1a\n"


def h5py_module() -> Any:
    """Return h5py, which not every installation has."""
    try:
        import h5py
    except ImportError:
        raise CaffeError("HDF5 files need the Python package h5py: pip install h5py") from None
    return h5py


def _read_weights_hdf5(path: str) -> Weights:
    h5py = h5py_module()
    found: Dict[str, Dict[int, Array]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, _, index = name.rpartition("/")
            found.setdefault(layer, {})[int(index)] = np.array(item, np.float32)
    try:
        with h5py.File(path, "r") as file:
            file["data"].visititems(visit)
    except (OSError, KeyError, ValueError) as error:
        raise CaffeError(f"{path}: not weights in HDF5: {error}") from None
    return [(layer, [blobs[i] for i in sorted(blobs)]) for layer, blobs in found.items()]


def _hdf5_file(path: str, fill: Any) -> None:
    h5py = h5py_module()
    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, "file.h5")
        with h5py.File(temporary, "w") as file:
            fill(file)
        write_whole(path, read_file(temporary))


def write_weights_hdf5(path: str, layers: List[Tuple[Any, List[Any]]], diffs: bool) -> None:
    """Write blobs to the groups /data/<layer>/<number> (and /diff) of an HDF5 file."""
    def fill(file: Any) -> None:
        for kind in ("data", "diff") if diffs else ("data",):
            for param, blobs in layers:
                group = file.require_group(f"{kind}/{param.name}")
                for i, blob in enumerate(blobs):
                    group[str(i)] = (blob.tensor if kind == "data" else blob.grad).cpu().numpy()
    _hdf5_file(path, fill)


def read_state(path: str) -> Tuple[int, str, int, List[Array]]:
    """Return (iteration, weights file, current step, history) of a solver state."""
    if is_hdf5(path):
        try:
            with h5py_module().File(path, "r") as file:
                learned = file["learned_net"][()] if "learned_net" in file else b""
                history = [np.array(file["history"][str(i)], np.float32) for i in range(len(file["history"]))]
                return int(file["iter"][()]), bytes(learned).decode(), int(file["current_step"][()]), history
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CaffeError(f"{path}: not a solver state in HDF5: {error}") from None
    state = read_binary(path, _raw()["SolverState"]())
    if not state.HasField("iter"):
        raise CaffeError(f"{path}: no solver state (no iteration number in it); give the .solverstate, not the .caffemodel")
    return state.iter, state.learned_net, state.current_step, [_raw_array(b, path) for b in state.history]


def write_state(path: str, iteration: int, learned_net: str, step: int, history: List[Any]) -> None:
    """Write a solver state; `history` is a list of tensors."""
    arrays = [h.cpu().numpy() for h in history]
    if path.endswith(".h5"):
        def fill(file: Any) -> None:
            file["iter"], file["current_step"] = np.int32(iteration), np.int32(step)
            file["learned_net"] = np.bytes_(learned_net.encode())
            group = file.create_group("history")
            for i, array in enumerate(arrays):
                group[str(i)] = array
        _hdf5_file(path, fill)
        return
    state = _raw()["SolverState"](iter=iteration, learned_net=learned_net, current_step=step)
    for array in arrays:
        _fill(state.history.add(), array)
    write_whole(path, state.SerializeToString())


def write_position(path: str, positions: List[Dict[str, int]]) -> None:
    """Write how many batches each data layer gave out, one {layer: batches} a net."""
    write_whole(path, json.dumps(positions).encode())


def read_position(state: str, count: int) -> List[Dict[str, int]]:
    """Return what `write_position` wrote beside a solver state, for `count` nets; nothing where there is none."""
    path = re.sub(r"\.solverstate(\.h5)?$", ".datastate", state)
    if not os.path.exists(path):
        log("solver.cpp:505", f"No {path}: data start at record 0, as in Caffe", WARNING)
        return []
    try:
        found = json.loads(read_file(path))
        positions = [{str(name): int(batches) for name, batches in net.items()} for net in found]
    except (ValueError, TypeError, AttributeError) as error:
        raise CaffeError(f"{path}: not a position of the data: {error}") from None
    if path == state or len(positions) != count or any(n < 0 for net in positions for n in net.values()):
        raise CaffeError(f"{path}: not a position of the data for {count} nets")
    return positions

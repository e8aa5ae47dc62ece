"""Caffe's weights and solver states as HDF5: groups data/<layer>/<number>, diff/<layer>/<number>, history/<number>.

A file is looked at before it is read: links out of it, other kinds of values, shapes that need more memory than is there for
them are answered in one line.
"""
import contextlib
import os
import tempfile
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np

from .errors import CaffeError
from .limits import MAX_TEXT, open_regular
from .netparam import check_shape

MAX_OBJECTS = 100_000  # in a file; large nets have a thousand
MAX_DEPTH = 16         # of groups in groups: names of layers with a slash are some
Array = Any


def h5py_module() -> Any:
    """Return h5py, which not every installation has."""
    try:
        import h5py
    except ImportError:
        raise CaffeError("HDF5 files need the Python package h5py: pip install h5py") from None
    return h5py


@contextlib.contextmanager
def opened(path: str, kind: str) -> Iterator[Any]:
    """Open an HDF5 file for reading; say in one line what is wrong with it."""
    h5py = h5py_module()
    try:
        with open_regular(path) as handle, h5py.File(handle, "r") as file:  # by its name HDF5 would lock it, which a writer does
            yield file
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RuntimeError, AttributeError, CaffeError) as error:
        told = str(error.args[0] if isinstance(error, KeyError) and error.args else error)  # the text of a KeyError has quotes
        raise CaffeError(f"{path}: not {kind} in HDF5: {' '.join(told.split())[:300]}") from None


def member(group: Any, name: str) -> Any:
    """Return what a group has under a name, by a link that stays in the file."""
    h5py, item = h5py_module(), group
    for part in name.split("/"):
        if not isinstance(item, h5py.Group):
            raise KeyError(f"{item.name} is no group")
        link = item.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise KeyError(f"{part!r} of {item.name} is {'a link, expected the data itself' if link else 'missing'}")
        item = item[part]
    return item


def values(dataset: Any) -> Array:
    """Return a dataset whose shape was looked at, as float32."""
    return np.asarray(dataset[()], np.float32)


def shape_of(dataset: Any) -> Tuple[int, ...]:
    """Return the shape of a dataset of numbers."""
    if not isinstance(dataset, h5py_module().Dataset) or dataset.shape is None:
        raise ValueError(f"{dataset.name} is no array")
    if dataset.dtype.kind not in "iuf" or dataset.is_virtual or dataset.external:
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, or lies in other files; expected numbers")
    return check_shape(dataset.shape)


def whole_number(file: Any, name: str) -> int:
    """Return a number that a solver counts by."""
    item = member(file, name)
    if shape_of(item) not in ((), (1,)) or item.dtype.kind not in "iu":
        raise ValueError(f"{name} is no whole number")
    return int(item[()].item())


def text(file: Any, name: str) -> str:
    """Return a text that may be missing."""
    if name not in file:
        return ""
    item = member(file, name)
    if not isinstance(item, h5py_module().Dataset) or item.shape not in ((), (1,)):
        raise ValueError(f"{name} is no text")
    if item.dtype.kind != "S" or item.dtype.itemsize > MAX_TEXT:  # the length of a variable-length text is unknown before reading
        raise ValueError(f"{name} is no text of a known length")
    found = item[()].item() if item.shape else item[()]
    return bytes(found).decode()


def datasets(group: Any, prefix: str = "", depth: int = 0, seen: Any = None) -> Iterator[Tuple[str, Any]]:
    """Yield (path, dataset) of all that is in a group."""
    seen = [] if seen is None else seen
    if not isinstance(group, h5py_module().Group):
        raise ValueError(f"{group.name} is no group")
    for name in group:
        seen.append(name)
        if depth > MAX_DEPTH or len(seen) > MAX_OBJECTS:
            raise ValueError(f"more than {MAX_OBJECTS} objects, or groups in more than {MAX_DEPTH} groups")
        item = member(group, name)
        if isinstance(item, h5py_module().Group):
            yield from datasets(item, f"{prefix}{name}/", depth + 1, seen)
        else:
            yield prefix + name, item


def layers(file: Any) -> Dict[str, List[Any]]:
    """Return the datasets of each layer of a weights file by number; Caffe leaves out, here None, what is another layer's too."""
    found: Dict[str, Dict[int, Any]] = {}
    for path, dataset in datasets(member(file, "data")):
        layer, _, number = path.rpartition("/")
        if not number.isdecimal() or int(number) > MAX_OBJECTS:
            raise ValueError(f"{path!r} is no <layer>/<number>")
        found.setdefault(layer, {})[int(number)] = dataset
    return {layer: [blobs.get(number) for number in range(max(blobs) + 1)] for layer, blobs in found.items()}


def written(fill: Callable[[Any], None]) -> bytes:
    """Return the bytes of a file that a function fills."""
    h5py = h5py_module()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file.h5")
        with h5py.File(path, "w") as file:
            fill(file)
        with open(path, "rb") as written_file:
            return written_file.read()


def layer_group(file: Any, kind: str, layer: str) -> Any:
    """Make the group of a layer; refuse a name that HDF5 reads as another one, or that is there already."""
    parts = layer.split("/")
    try:
        group = None if "\0" in layer or "" in parts or "." in parts else file.require_group(f"{kind}/{layer}")
    except (TypeError, ValueError):  # a blob is there
        group = None
    if group is None or "0" in group:
        raise CaffeError(f"layer {layer!r}: its name cannot stand in HDF5, or another has it; rename it, or write a .caffemodel")
    return group

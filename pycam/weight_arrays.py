"""Published weights as plain arrays, an ``.npz`` file or one of Keras, made into a ``.caffemodel`` (D19, D25).

The shapes of all arrays are looked at before the values of any are read.
"""
import contextlib
import re
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from data_tools.files import listing, write_atomic
from torchcaffe import hdf5
from torchcaffe.errors import CaffeError
from torchcaffe.limits import open_regular
from torchcaffe.netparam import check_shape
from torchcaffe.proto import caffe_pb2

from .errors import CamError

Shape = Tuple[int, ...]
Arrays = Dict[str, List[np.ndarray]]  # the parameters of each layer, in the order of Caffe's blobs
SUFFIXES = ("_w", "_b")  # of the arrays with a layer's weights and bias
HDF5 = b"\x89HDF"  # how such a file begins
_KERAS_LAYER = re.compile(r"block(\d)_conv(\d)")  # Caffe's conv\1_\2
_NO_NPZ = (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, MemoryError, SyntaxError, tokenize.TokenError,
           zipfile.BadZipFile, zlib.error)


class Stored(NamedTuple):
    """An array in a file: its shape as Caffe has it, and what reads its values."""

    shape: Shape
    values: Callable[[], np.ndarray]


def read(path: Path, layers: Optional[Iterable[str]] = None) -> Arrays:
    """Return the parameters in a file, by layer.

    Parameters
    ----------
    path : Path
        ``.npz`` with float arrays ``<layer>_w`` and ``<layer>_b`` of Caffe's shapes (a convolution's are outputs x inputs /
        groups x height x width, for BGR pictures), or the ``.h5`` file of Keras' VGG-16 (height x width x inputs x outputs,
        BGR too).
    layers : iterable of str, optional
        The layers to read; all by default.

    Raises
    ------
    CamError
        If the file cannot be read, holds no such arrays, or values that are not finite.
    """
    with _stored(path) as stored:
        found = {layer: [np.asarray(part.values(), np.float32) for part in stored[layer]]
                 for layer in (stored if layers is None else layers)}
    broken = [layer for layer, blobs in found.items() if not all(np.isfinite(blob).all() for blob in blobs)]
    if broken:
        raise CamError(f"{path}: values that are not finite in {listing(broken)}")
    return found


def shapes(path: Path) -> Dict[str, List[Shape]]:
    """Return the shapes of the parameters in a file, by layer; no values are read."""
    with _stored(path) as stored:
        return {layer: [part.shape for part in parts] for layer, parts in stored.items()}


def is_keras(path: Path) -> bool:
    """Tell whether a file is of the form in which Keras keeps weights, whatever its name."""
    try:
        with open_regular(path) as file:
            return bool(file.read(len(HDF5)) == HDF5)
    except OSError as error:
        raise CamError(f"{path}: cannot be read ({error.strerror}); expected weights") from error


@contextlib.contextmanager
def _stored(path: Path) -> Iterator[Dict[str, List[Stored]]]:
    with _keras(path) if is_keras(path) else _npz(path) as found:
        if not found:
            raise CamError(f"{path}: no arrays named <layer>{SUFFIXES[0]} and <layer>{SUFFIXES[1]}")
        yield found


@contextlib.contextmanager
def _npz(path: Path) -> Iterator[Dict[str, List[Stored]]]:
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            names = {name[:-len(".npy")] for name in archive.namelist() if name.endswith(".npy")}
            layers = sorted(name[:-len(SUFFIXES[0])] for name in names if name.endswith(SUFFIXES[0]))
            yield {layer: [_member(archive, layer + suffix) for suffix in SUFFIXES if layer + suffix in names]
                   for layer in layers}
    except (*_NO_NPZ, CaffeError) as error:
        raise CamError(f"{path}: neither an .npz file of plain arrays nor an .h5 file of Keras: {error}") from error


def _member(archive: zipfile.ZipFile, name: str) -> Stored:
    """Look at the header of an array."""
    def values() -> np.ndarray:
        with archive.open(f"{name}.npy") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array

    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read_header(file)
    if kind.kind not in "fiu":
        raise ValueError(f"{name} holds {kind}; expected numbers")
    return Stored(check_shape(shape), values)


@contextlib.contextmanager
def _keras(path: Path) -> Iterator[Dict[str, List[Stored]]]:
    try:
        with hdf5.opened(str(path), "Keras' VGG-16") as file:
            layers = {name: _KERAS_LAYER.fullmatch(name) for name in file}
            yield {found.expand(r"conv\1_\2"): _parameters(hdf5.member(file, name)) for name, found in layers.items() if found}
    except CaffeError as error:
        raise CamError(str(error)) from error


def _parameters(group: Any) -> List[Stored]:
    """Return weights and bias as Caffe has them."""
    def turned(dataset: Any) -> Stored:
        shape = hdf5.shape_of(dataset)
        axes = (3, 2, 0, 1) if len(shape) == 4 else range(len(shape))
        return Stored(tuple(shape[axis] for axis in axes), lambda: hdf5.values(dataset).transpose(axes))
    return sorted((turned(dataset) for _, dataset in hdf5.datasets(group)), key=lambda part: len(part.shape), reverse=True)


def write(arrays: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Write a ``.caffemodel`` with these layers alone: Caffe leaves all others of a network as its fillers made them."""
    model = caffe_pb2.NetParameter(name=ascii(path.stem)[1:-1])
    for layer, blobs in arrays.items():
        added = model.layer.add(name=layer)
        for values in blobs:
            blob = added.blobs.add()
            blob.shape.dim.extend(values.shape)
            blob.data.extend(values.ravel())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, model.SerializeToString())

"""Published weights as plain arrays, an ``.npz`` file or one of Keras, made into a ``.caffemodel`` (D19, D25)."""
import re
import zipfile
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from data_tools.files import listing, write_atomic
from torchcaffe.proto import caffe_pb2

from .errors import CamError

Arrays = Dict[str, List[np.ndarray]]  # the parameters of each layer, in the order of Caffe's blobs
SUFFIXES = ("_w", "_b")  # of the arrays with a layer's weights and bias
HDF5 = b"\x89HDF"  # how such a file begins
_KERAS_LAYER = re.compile(r"block(\d)_conv(\d)")  # Caffe's conv\1_\2


def read(path: Path) -> Arrays:
    """Return the parameters in a file, by layer.

    Parameters
    ----------
    path : Path
        ``.npz`` with float arrays ``<layer>_w`` and ``<layer>_b`` of Caffe's shapes (a convolution's are outputs x inputs /
        groups x height x width, for BGR pictures), or the ``.h5`` file of Keras' VGG-16 (height x width x inputs x outputs,
        BGR too).

    Raises
    ------
    CamError
        If the file cannot be read, holds no such arrays, or values that are not finite.
    """
    found = _read_keras(path) if is_keras(path) else _read_npz(path)
    if not found:
        raise CamError(f"{path}: no arrays named <layer>{SUFFIXES[0]} and <layer>{SUFFIXES[1]}")
    broken = [layer for layer, blobs in found.items() if not all(np.isfinite(blob).all() for blob in blobs)]
    if broken:
        raise CamError(f"{path}: values that are not finite in {listing(broken)}")
    return found


def is_keras(path: Path) -> bool:
    """Tell whether a file is of the form in which Keras keeps weights, whatever its name."""
    with open(path, "rb") as file:
        return file.read(len(HDF5)) == HDF5


def shapes(path: Path) -> Dict[str, List[Tuple[int, ...]]]:
    """Return the shapes of the parameters in a file, by layer."""
    return {layer: [blob.shape for blob in blobs] for layer, blobs in read(path).items()}


def _read_npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            layers = [name[:-len(SUFFIXES[0])] for name in file.files if name.endswith(SUFFIXES[0])]
            return {layer: [file[layer + suffix].astype(np.float32) for suffix in SUFFIXES if layer + suffix in file.files]
                    for layer in layers}
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise CamError(f"{path}: neither an .npz file of plain arrays nor an .h5 file of Keras: {error}") from error


def _read_keras(path: Path) -> Arrays:
    import h5py  # no other command needs it

    try:
        with open(path, "rb") as opened, h5py.File(opened, "r") as file:  # by its name HDF5 would lock it, which a download does
            layers = {name: _KERAS_LAYER.fullmatch(name) for name in file}
            return {found.expand(r"conv\1_\2"): _from_keras([np.asarray(values) for values in file[name].values()])
                    for name, found in layers.items() if found}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CamError(f"{path}: not Keras' VGG-16: {error}") from error


def _from_keras(arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Return weights and bias as Caffe has them."""
    return [np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array, np.float32)
            for array in sorted(arrays, key=np.ndim, reverse=True)]


def write(arrays: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Write a ``.caffemodel`` with these layers alone: Caffe leaves all others of a network as its fillers made them."""
    model = caffe_pb2.NetParameter(name=path.stem)
    for layer, blobs in arrays.items():
        added = model.layer.add(name=layer)
        for values in blobs:
            blob = added.blobs.add()
            blob.shape.dim.extend(values.shape)
            blob.data.extend(values.ravel())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, model.SerializeToString())

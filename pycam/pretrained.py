"""Turn pretrained weights kept as plain arrays into a ``.caffemodel`` (D19)."""
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.files import listing

from .errors import CamError

SUFFIXES = ("_w", "_b")  # weights and bias of a layer, in the order of Caffe's blobs


def fill(net: Any, arrays: Path) -> None:
    """Set the parameters of a network from an ``.npz`` file.

    Parameters
    ----------
    net : Net
        Network of either engine.
    arrays : Path
        For every layer with parameters ``<layer>_w`` and ``<layer>_b``: float arrays of Caffe's shapes (a convolution's
        are outputs x inputs / groups x height x width, for BGR pictures). Other arrays of the file are not used.

    Raises
    ------
    CamError
        If the file cannot be read, lacks an array, or holds one of another shape.
    """
    try:
        with np.load(arrays, allow_pickle=False) as found:
            wanted = {name + suffix: blob for name, blobs in net.params.items() for suffix, blob in zip(SUFFIXES, blobs)}
            missing = sorted(set(wanted) - set(found.files))
            if missing:
                raise CamError(f"{arrays}: lacks {listing(missing)}; the network needs <layer>_w and <layer>_b of each layer")
            for name, blob in wanted.items():
                values = found[name]
                if values.shape != tuple(blob.data.shape):
                    raise CamError(f"{arrays}: {name} has shape {values.shape}; the network needs {tuple(blob.data.shape)}")
                blob.data[...] = values.astype(np.float32)
    except (ValueError, zipfile.BadZipFile) as error:
        raise CamError(f"{arrays}: not an .npz file of plain arrays: {error}") from error


def save(net: Any, path: Path) -> None:
    """Write the network's weights as a ``.caffemodel``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        net.save(str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

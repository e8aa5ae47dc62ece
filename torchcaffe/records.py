"""Where pictures come from: the records of an LMDB, and picture files."""
import math
import os
import weakref
from typing import Any, Iterator, Tuple

import cv2
import lmdb
import numpy as np

from . import pictures
from .data import Array
from .errors import CaffeError
from .limits import MAX_PICTURE, read_bytes
from .proto import caffe_pb2 as pb


def decode(datum: Any, param: Any) -> Array:
    """Return the picture of a Datum as C x H x W, uint8 or float32."""
    if not datum.encoded:
        shape = (datum.channels, datum.height, datum.width)
        values = datum.data  # a copy
        flat = np.frombuffer(values, np.uint8) if values else np.array(datum.float_data, np.float32)
        if flat.size != math.prod(shape) or min(shape) < 1:
            raise CaffeError(f"a Datum of {shape} holds {flat.size} values")
        return flat.reshape(shape)
    flag = cv2.IMREAD_COLOR if param.force_color else cv2.IMREAD_GRAYSCALE if param.force_gray else cv2.IMREAD_UNCHANGED
    try:
        picture = pictures.decode(datum.data, flag)
    except pictures.PictureError as error:
        raise CaffeError(f"an encoded Datum: {error}") from None
    if picture.dtype != np.uint8:
        raise CaffeError(f"an encoded Datum holds a picture of {picture.dtype}, expected 8 bits")
    return np.atleast_3d(picture).transpose(2, 0, 1)


_open: "weakref.WeakValueDictionary[Tuple[int, int], Any]" = weakref.WeakValueDictionary()  # one a file and process


def open_lmdb(source: str) -> Any:
    """Open an LMDB for reading; no lock file, so read-only folders do."""
    path = os.path.join(source, "data.mdb")
    if not os.path.isfile(path):
        raise CaffeError(f"source {source!r}: no LMDB there; expected a folder with data.mdb, relative to {os.getcwd()}")
    file = os.stat(path)
    try:
        env = _open.get((file.st_dev, file.st_ino)) or lmdb.open(os.fsencode(source), readonly=True, lock=False, readahead=True)
        _open[file.st_dev, file.st_ino] = env
        whole = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if file.st_size < whole:  # reading a mapped file past its end would kill the process
            raise CaffeError(f"source {source!r}: not a whole LMDB ({file.st_size} of {whole} bytes); make it again")
        with env.begin() as txn:
            if not txn.cursor().first():
                raise CaffeError(f"source {source!r}: the LMDB is empty")
    except lmdb.Error as error:
        raise CaffeError(f"source {source!r}: not a whole LMDB ({error}); make it again") from None
    return env


def records(env: Any, source: str) -> Iterator[Any]:
    """Yield the Datums of an LMDB in key order, over and over."""
    datum = pb.Datum()
    try:
        with env.begin(buffers=True) as txn:
            while True:
                for key, value in txn.cursor():
                    try:
                        datum.ParseFromString(bytes(value))
                    except Exception:
                        raise CaffeError(f"source {source!r}: record {bytes(key)!r} is no Datum") from None
                    yield datum
    except lmdb.Error as error:
        raise CaffeError(f"source {source!r}: not a whole LMDB ({error}); make it again") from None


def read_picture(path: str, height: int, width: int, color: bool) -> Array:
    """Return a picture file as C x H x W uint8, resized if height and width are given (``ReadImageToCVMat``)."""
    try:  # cv2.imread requires UTF-8 names; this one may not be
        picture = pictures.decode(read_bytes(path, MAX_PICTURE), cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE)
    except OSError as error:
        raise CaffeError(f"could not load {path!r}: {error.strerror}") from None
    except pictures.PictureError as error:
        raise CaffeError(f"could not load {path!r}: {error}") from None
    if height and width:
        picture = cv2.resize(picture, (width, height))
    return np.atleast_3d(picture).transpose(2, 0, 1)

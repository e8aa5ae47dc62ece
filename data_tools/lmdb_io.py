"""Caffe's records: Datum messages in an LMDB, in the form that Caffe's Data layer reads."""
from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Iterable, Iterator, List, Tuple

import lmdb
import numpy as np
from google.protobuf.message import DecodeError

from data_tools.errors import DataError
from data_tools.files import JPEG_QUALITY, decode_image, encode_image
from torchcaffe.proto import caffe_pb2

ENCODINGS = ("jpg", "png", "raw")
BATCH = 128            # records a transaction
PAGE = 4096            # bytes; LMDB gives a record's value whole pages
DATA_FILE = "data.mdb"
Record = Tuple[bytes, bytes]  # key, serialized Datum


def encode_datum(image: np.ndarray, label: int, encoding: str = "raw", quality: int = JPEG_QUALITY) -> bytes:
    """Make a serialized Datum.

    Parameters
    ----------
    image : ndarray
        H x W x 3 uint8, BGR.
    label : int
        Index into `isic.CLASSES`.
    encoding : str
        ``raw``: the bytes C x H x W, channels in the order B, G, R; ``jpg`` or ``png``: a file's bytes, which Caffe
        decodes with OpenCV into the same order.
    quality : int
        Of the JPEG.
    """
    height, width, channels = image.shape
    raw = encoding == "raw"
    content = image.transpose(2, 0, 1).tobytes() if raw else encode_image(image, f".{encoding}", quality)
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, label=label, encoded=not raw, data=content)
    return bytes(datum.SerializeToString())


def decode_datum(value: bytes, name: str) -> Tuple[np.ndarray, int]:
    """Read a serialized Datum; `name` is its name in the error message.

    Returns
    -------
    image : ndarray
        H x W x 3 uint8, BGR.
    label : int
        Index into `isic.CLASSES`.
    """
    datum = caffe_pb2.Datum()
    try:
        datum.ParseFromString(value)
    except DecodeError as error:
        raise DataError(f"{name}: holds no Datum ({error})") from error
    if datum.encoded:
        return decode_image(datum.data, name), int(datum.label)
    shape = (datum.channels, datum.height, datum.width)
    if len(datum.data) != shape[0] * shape[1] * shape[2]:
        raise DataError(f"{name}: {len(datum.data)} bytes of pixels, expected {shape[0]} x {shape[1]} x {shape[2]}")
    return np.frombuffer(datum.data, np.uint8).reshape(shape).transpose(1, 2, 0), int(datum.label)


def stored_size(value: bytes) -> int:
    """Return the bytes that a record takes in an LMDB: whole pages, and a share of the tree."""
    return -(-(len(value) + 16) // PAGE) * PAGE + 128


def write_records(folder: Path, records: Iterable[Record], map_size: int) -> int:
    """Write an LMDB into a folder; it is on the disk after `files.flush`.

    Parameters
    ----------
    folder : Path
        Where ``data.mdb`` is made; no lock file is left.
    records : iterable of (bytes, bytes)
        Keys in ascending order, values.
    map_size : int
        Bytes to start with; doubled as often as needed.

    Returns
    -------
    int
        Number of records.
    """
    remaining, count = iter(records), 0
    try:
        with lmdb.open(os.fsencode(folder), map_size=map_size, lock=False, sync=False, metasync=False) as database:
            for batch in iter(lambda: list(itertools.islice(remaining, BATCH)), []):
                _put(database, batch)
                count += len(batch)
    except lmdb.Error as error:
        raise DataError(f"{folder}: LMDB cannot write record {count} or one soon after it ({error})") from error
    return count


def _put(database: lmdb.Environment, batch: List[Record]) -> None:
    while True:
        try:
            with database.begin(write=True) as transaction:
                for key, value in batch:
                    if not transaction.put(key, value, append=True, overwrite=False):
                        raise DataError(f"record key {key!r} is not above the one before it")
            return
        except lmdb.MapFullError:
            database.set_mapsize(2 * database.info()["map_size"])


def read_records(folder: Path) -> Iterator[Tuple[bytes, bytes]]:
    """Yield the records of an LMDB in the order of their keys."""
    with _open(folder) as database, database.begin() as transaction:
        yield from transaction.cursor()


def _open(folder: Path) -> lmdb.Environment:
    if not (Path(folder) / DATA_FILE).is_file():
        raise DataError(f"{folder}: no {DATA_FILE} in it; expected the folder of an LMDB")
    try:
        return lmdb.open(os.fsencode(folder), readonly=True, lock=False)
    except lmdb.Error as error:
        raise DataError(f"{folder}: LMDB cannot open it ({error})") from error

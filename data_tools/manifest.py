"""``manifest.json`` beside an LMDB's data: what is in it, how it was made, and how to see that it is still whole."""
from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Dict, Iterable, List, Tuple

import msgspec
from tqdm import tqdm

from data_tools.errors import DataError
from data_tools.files import PIECE, sha256_file, sha256_part, sha256_pieces, write_atomic
from data_tools.isic import CLASSES, count_classes
from data_tools.lmdb_io import DATA_FILE, decode_datum, read_records
from data_tools.parallel import Workers
from data_tools.records import Count, Name, Value, read_json, read_row, read_rows

NAME = "manifest.json"
PICTURES = "pictures.csv"  # what the records were made of: a line "image_id,label,SHA-256 of the file" a picture
VERSION = 2
AGAIN = "make the LMDB again"
TOGETHER = 4  # hashes of pieces of the data file that are made at a time


@dataclass(frozen=True)
class Manifest:
    """What an LMDB holds.

    `shape` is (height, width) of the records, `channel_order` that of the stored bytes. `source_ids_sha256` is of the
    sorted image ids, `order_sha256` of the records' keys and labels in their order, `data_sha256` of ``data.mdb``
    (see `sha256_data`), `pictures_sha256` of the list of the pictures with the hash of each.
    """

    version: int
    records: Count
    per_class: Dict[str, Count]
    pictures: Count
    pictures_per_class: Dict[str, Count]
    shape: Annotated[List[Count], msgspec.Meta(min_length=2, max_length=2)]
    channel_order: str
    seed: Count
    parameters: Dict[str, Value]
    decisions: List[str]
    source_ids_sha256: str
    order_sha256: str
    data_bytes: Count
    data_sha256: str
    pictures_sha256: str


@dataclass(frozen=True)
class Picture:
    """A line of `PICTURES`: a picture, its label, the hash of its file."""

    image_id: Name
    label: Count
    sha256: str


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of an LMDB's folder."""
    write_atomic(Path(folder) / NAME, (json.dumps(asdict(manifest), indent=2) + "\n").encode())


def load(folder: Path) -> Manifest:
    """Read an LMDB's manifest, whatever became of the data."""
    return read_json(Path(folder) / NAME, Manifest, "an LMDB made by data_tools", AGAIN)


def read(folder: Path) -> Manifest:
    """Read an LMDB's manifest, and see that the data file is there and has the size that was written.

    This is quick; `verify` looks at every record.
    """
    manifest, path = load(folder), Path(folder) / NAME
    if manifest.version != VERSION:
        raise DataError(f"{path}: version {manifest.version}, expected {VERSION}; {AGAIN}")
    data = Path(folder) / DATA_FILE
    size = data.stat().st_size if data.is_file() else 0
    if size != manifest.data_bytes:
        raise DataError(f"{data}: {size} bytes, expected {manifest.data_bytes}; cut off or replaced, make it again")
    return manifest


def sha256_data(folder: Path, pool: Workers) -> str:
    """Return what `files.sha256_pieces` does of a data file, computed by several processes."""
    path = Path(folder) / DATA_FILE
    count = -(-path.stat().st_size // PIECE)
    with contextlib.closing(pool.map(functools.partial(_sha256_pieces, path=path), range(count), count, TOGETHER)) as pieces:
        return hashlib.sha256(b"".join(pieces)).hexdigest()


def _sha256_pieces(numbers: List[int], path: Path) -> List[bytes]:
    with open(path, "rb") as file:
        return [sha256_part(file, number * PIECE, PIECE) for number in numbers]


def sha256_lines(lines: Iterable[str]) -> str:
    """Return the hexadecimal SHA-256 of lines, each ended by a newline."""
    digest = hashlib.sha256()
    add_lines(digest, lines)
    return digest.hexdigest()


def add_lines(digest: hashlib._Hash, lines: Iterable[str]) -> None:
    """Add lines to a hash, each ended by a newline."""
    for line in lines:
        digest.update(f"{line}\n".encode())


def order_line(key: bytes, label: int) -> str:
    """Return the line that stands for a record in `order_sha256`."""
    return f"{key.decode()} {label}"


def picture_line(image_id: str, label: int, digest: str) -> str:
    """Return the line of `PICTURES` for a picture."""
    return f"{image_id},{label},{digest}"


def read_pictures(folder: Path) -> Dict[str, str]:
    """Return the hash of each picture's file by image id, in their order."""
    path, columns = Path(folder) / PICTURES, tuple(field.name for field in fields(Picture))
    rows = (read_row(path, line, row, Picture, columns, AGAIN) for line, row in read_rows(path, "the list of an LMDB's pictures"))
    return {row.image_id: row.sha256 for row in rows}


def summary(folder: Path, made: Manifest) -> str:
    """Return a line about an LMDB."""
    classes = ", ".join(f"{name} {count}" for name, count in made.per_class.items())
    return f"{folder}: {made.records} records of {made.pictures} pictures, {made.data_bytes / 1e6:.1f} MB, {classes}"


def verify(folder: Path) -> Manifest:
    """Hold an LMDB against its manifest: bytes, pictures, count, order, and that every record decodes to the right shape.

    The file's hash comes first, because LMDB can crash on a damaged file.
    """
    manifest = read(folder)
    sums = {DATA_FILE: sha256_pieces(Path(folder) / DATA_FILE), PICTURES: sha256_file(Path(folder) / PICTURES)}
    for name, expected in ((DATA_FILE, manifest.data_sha256), (PICTURES, manifest.pictures_sha256)):
        if sums[name] != expected:
            raise DataError(f"{folder}: {name} is not the file that the manifest describes; make the LMDB again")
    lines, labels = _check_records(folder, manifest)
    found = (len(lines), sha256_lines(lines), count_classes(labels))
    if found != (manifest.records, manifest.order_sha256, manifest.per_class):
        raise DataError(f"{folder}: {len(lines)} records {count_classes(labels)}, expected {manifest.records} "
                        f"{manifest.per_class} in the order that was written; make the LMDB again")
    return manifest


def _check_records(folder: Path, manifest: Manifest) -> Tuple[List[str], List[int]]:
    """Decode every record; return the lines that stand for them in `order_sha256`, and their labels."""
    lines: List[str] = []
    labels: List[int] = []
    for key, value in tqdm(read_records(folder), "verify", manifest.records, unit="record", disable=None):
        image, label = decode_datum(value, f"{folder}: record {key.decode()}")
        if label not in range(len(CLASSES)) or list(image.shape[:2]) != manifest.shape:
            raise DataError(f"{folder}: record {key.decode()} has label {label} and shape {image.shape[:2]}, "
                            f"expected 0 to {len(CLASSES) - 1} and {tuple(manifest.shape)}")
        lines.append(order_line(key, label))
        labels.append(label)
    return lines, labels

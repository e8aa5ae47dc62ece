"""The ISIC-2017 classes, label files and folders, and the same form for our own picture folders.

A *source folder* holds pictures ``<image_id>.(jpg|jpeg|png)`` and ``groundtruth.csv`` in the challenge's form.
"""
from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from data_tools.errors import DataError
from data_tools.files import listing, write_atomic
from data_tools.records import read_rows, shorten

CLASSES = ("melanoma", "seborrheic_keratosis", "nevus")  # a label is an index into this
SPLITS = ("train", "val", "test")
GROUNDTRUTH = "groundtruth.csv"
OFFICIAL_NAMES = {"train": "Training", "val": "Validation", "test": "Test_v2"}
SUFFIXES = (".jpg", ".jpeg", ".png")
OTHER_SUFFIXES = (".bmp", ".dib", ".jp2", ".jpe", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp")  # OpenCV reads them
CONVERT = "import cv2, sys; [cv2.imwrite(name.rpartition('.')[0] + '.png', cv2.imread(name)) for name in sys.argv[1:]]"
NO_PICTURES = ("_superpixels", "_segmentation", "_hair")  # ends of the names of masks; in 2016 it was _Segmentation
ID = "image_id"
HEADER = (ID, *CLASSES[:2])
TABLE = f"a CSV file with one row a picture, {','.join(HEADER)}"
_IMAGE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
ISIC_2017, ISIC, MADE_UP, MADE_UP_PREFIX = "ISIC-2017", "ISIC pictures", "made-up pictures", "SYN_"
_ISIC_ID = re.compile(r"ISIC_\d{7}")  # the whole archive's, of every year
_OFFICIAL = {  # SHA-256 of the sorted ids, a line each
    "3beb9655e6718b313f2a0386ac31d0961ff14bbc8d3a20c080cb1e81c450190c": "train",
    "b613df27e71f83bcce1cb1c5da1451ed8501232eedd912bd0797e1fd498012cd": "val",
    "8e7a85c979aef0597511c5d99791b2af10e62f0cf064ddfad7786583d09cbc03": "test",
}
_SUFFIX = re.compile(r"\.(jpe?g|png)$", re.IGNORECASE)
_VALUE = re.compile(r"([01])(\.0*)?")


class Sample(NamedTuple):
    """One picture of a split: its id, its label (index into `CLASSES`), its file."""

    image_id: str
    label: int
    path: Path


def find_split(root: Path, split: str) -> Tuple[Path, Path]:
    """Find a split's picture folder and label file below the folder of a data set.

    Known layouts: the official one (``ISIC-2017_Training_Data`` with its CSV beside it), ``images256/train``, and
    ``train``; the CSV under its official name beside the folder or in ``groundtruth``, or as ``groundtruth.csv`` in
    the folder itself.

    Returns
    -------
    tuple of Path
        The folder with the pictures, the CSV file.
    """
    root, name = Path(root), OFFICIAL_NAMES[split]
    official = f"ISIC-2017_{name}_Part3_GroundTruth.csv"
    folders = [root / f"ISIC-2017_{name}_Data", root / "images256" / split, root / split]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise DataError(f"{root}: no pictures of split {split}; looked for the folders {_relative(folders, root)}")
    tables = [folder / GROUNDTRUTH, root / official, root / "groundtruth" / official]
    table = next((table for table in tables if table.is_file()), None)
    if table is None:
        raise DataError(f"{root}: no labels of split {split}; looked for {_relative(tables, root)}")
    return folder, table


def _relative(paths: Iterable[Path], root: Path) -> str:
    return ", ".join(str(path.relative_to(root)) for path in paths)


def load_samples(image_dir: Path, groundtruth: Optional[Path] = None) -> List[Sample]:
    """List the pictures that a label file names, in its order.

    Parameters
    ----------
    image_dir : Path
        Folder of the pictures; ones that the label file does not name are left out.
    groundtruth : Path, optional
        The label file; ``groundtruth.csv`` of the folder by default.
    """
    table = Path(groundtruth) if groundtruth else Path(image_dir) / GROUNDTRUTH
    labels, pictures = read_groundtruth(table), find_pictures(image_dir)
    missing = [image_id for image_id in labels if image_id not in pictures]
    if missing:
        _refuse_other_formats(image_dir, missing)
    if len(missing) == len(labels):
        raise DataError(f"{table}: none of its {len(labels)} ids is a picture in {image_dir}; is it of another split?")
    if missing:
        raise DataError(f"{image_dir}: {len(missing)} of {len(labels)} pictures of {table} are missing: "
                        f"{listing(missing)}")
    return [Sample(image_id, label, pictures[image_id]) for image_id, label in labels.items()]


def picture_inputs(samples: Iterable[Sample]) -> Dict[str, Path]:
    """Return the files of samples by names with their id and class, as inputs of a step."""
    return {f"{sample.image_id} {CLASSES[sample.label]}": sample.path for sample in samples}


def find_pictures(image_dir: Path) -> Dict[str, Path]:
    """Map image ids to picture files of a folder, leaving out masks and superpixels."""
    if not Path(image_dir).is_dir():
        raise DataError(f"{image_dir}: no such folder; expected one with pictures <image_id>.jpg or .png")
    with os.scandir(image_dir) as entries:  # a tenth of the time of Path.iterdir
        names = sorted(entry.name for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.is_file())
    pictures: Dict[str, Path] = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        if stem.lower().endswith(NO_PICTURES) or name.startswith("."):
            continue
        if stem in pictures:
            raise DataError(f"{image_dir}: both {pictures[stem].name} and {name} are there; keep one of them")
        pictures[stem] = Path(image_dir, name)
    if not pictures:
        _refuse_other_formats(image_dir)
    return pictures


def _refuse_other_formats(image_dir: Path, image_ids: Optional[Sequence[str]] = None) -> None:
    """Say how to convert pictures that are there in other formats; any, or those of some ids."""
    wanted = None if image_ids is None else set(image_ids)
    names = sorted(path.name for path in Path(image_dir).iterdir()
                   if path.suffix.lower() in OTHER_SUFFIXES and (wanted is None or path.stem in wanted))
    if names:
        files = f"{shlex.quote(str(image_dir))}/*{Path(names[0]).suffix}"
        raise DataError(f"{image_dir}: {len(names)} pictures are no {', '.join(SUFFIXES)} files: {listing(names)}; convert them: "
                        f'python -c "{CONVERT}" {files}')


def read_groundtruth(path: Path) -> Dict[str, int]:
    """Read a label file in the challenge's form, ``image_id,melanoma,seborrheic_keratosis``, perhaps with ``nevus``.

    Values are 0 or 1, also as 0.0 and 1.0; without a column nevus, both 0 means nevus. ``image`` may stand for ``image_id``, the
    name of its file for an id.

    Returns
    -------
    dict
        Label (index into `CLASSES`) by image id, in the order of the file.
    """
    rows = read_rows(path, TABLE)
    _, first = next(rows)
    named = [name.lower() for name in first]
    header = named if ID in named else [ID if name == "image" else name for name in named]
    twice = sorted({name for name in (*HEADER, CLASSES[2]) if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: {len(twice)} columns stand there twice: {listing(twice)}; keep one of each")
    absent = [name for name in HEADER if name not in header]
    if absent:
        raise DataError(f"{path}: no column {', '.join(absent)}; found {shorten(','.join(first))}, expected {','.join(HEADER)}")
    columns = [header.index(name) for name in (ID, *CLASSES) if name in header]
    labels: Dict[str, int] = {}
    repeated: List[str] = []
    for line, row in rows:
        if len(row) <= max(columns) or any(row[len(header):]):
            raise DataError(f"{path}: line {line} has {len(row)} fields, expected {len(header)}")
        image_id, *values = (row[column] for column in columns)
        image_id = _SUFFIX.sub("", image_id)
        check_id(image_id, f"{path}: line {line}")
        if image_id in labels:
            repeated.append(image_id)
        labels[image_id] = _label(values, f"{path}: line {line} ({image_id})")
    if repeated:
        raise DataError(f"{path}: {len(repeated)} ids stand there twice: {listing(repeated)}")
    if not labels:
        raise DataError(f"{path}: has a header but no rows; expected one row a picture")
    return labels


def check_id(image_id: str, where: str) -> None:
    """Refuse an image id that could not safely be a file name."""
    if not _IMAGE_ID.fullmatch(image_id) or ".." in image_id:
        raise DataError(f"{where}: image id {image_id[:60]!r}; expected letters, digits, '_', '-', '.' (100 at most)")


def _label(values: List[str], where: str) -> int:
    found = [_VALUE.fullmatch(value) for value in values]
    marked = [number for number, value in enumerate(found) if value and value.group(1) == "1"]
    if not all(found):
        raise DataError(f"{where}: values {','.join(values)}, expected 0 or 1")
    if len(marked) > 1 or (len(values) == len(CLASSES) and not marked):
        raise DataError(f"{where}: values {','.join(values)}, expected one class a picture")
    return marked[0] if marked else CLASSES.index("nevus")


def write_groundtruth(path: Path, labels: Dict[str, int]) -> None:
    """Write a label file in the challenge's form; `labels` are indices into `CLASSES` by image id."""
    lines = [",".join(HEADER)]
    lines += [f"{image_id},{float(label == 0)},{float(label == 1)}" for image_id, label in labels.items()]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def official_split(image_ids: Iterable[str]) -> Optional[str]:
    """Return the split of ISIC-2017 that pictures are, by their ids; None for others, and for a part of a split."""
    return _OFFICIAL.get(hashlib.sha256("\n".join(sorted(image_ids)).encode()).hexdigest())


def data_set(image_ids: Iterable[str]) -> str:
    """Return what pictures are, by their ids: a split of ISIC-2017, others of its archive, made-up ones, or somebody's own."""
    ids = list(image_ids)
    if official_split(ids):
        return ISIC_2017
    known = ((ISIC, _ISIC_ID), (MADE_UP, re.compile(rf"{MADE_UP_PREFIX}\d+")))
    return next((name for name, pattern in known if all(map(pattern.fullmatch, ids))), "own pictures")


def count_classes(labels: Iterable[int]) -> Dict[str, int]:
    """Count labels by class name, in the order of `CLASSES`."""
    counts = dict.fromkeys(CLASSES, 0)
    for label in labels:
        counts[CLASSES[label]] += 1
    return counts


def refuse_unreadable(problems: Dict[str, str], total: int) -> None:
    """Raise one error for all pictures that could not be read; `problems` holds the reasons by image id."""
    if problems:
        reason = next(iter(problems.values()))
        raise DataError(f"{len(problems)} of {total} pictures cannot be read: {listing(list(problems))}; {reason}")

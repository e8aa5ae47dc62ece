"""Prediction files: ``image_id,melanoma,seborrheic_keratosis,nevus``; rows are joined by image id, never by order."""
import csv
import io
import math
import os
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from data_tools.files import listing, write_atomic
from data_tools.isic import CLASSES, read_groundtruth

from .errors import CamError

ID_NAMES = ("image_id", "image")
SCORED = CLASSES[:2]  # the challenge's two questions: melanoma or not, seborrheic keratosis or not


def write(path: Path, rows: Iterable[Tuple[str, Sequence[float]]], classes: Sequence[str] = CLASSES) -> None:
    """Write rows of (image id, probabilities) at full precision: rounding makes ties, and ties move the AUC.

    Give ``SCORED`` as the classes for the challenge's own three-column submission file.
    """
    lines = [",".join((ID_NAMES[0], *classes))]
    lines += [",".join((image_id, *(repr(float(p)) for p, _ in zip(probs, classes)))) for image_id, probs in rows]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def prepare(path: Path) -> None:
    """Make the folder of an output before the work begins; raise a CamError when nothing can be written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise CamError(f"{path}: cannot be written; expected the name of a file in a folder of yours")


def read(path: Path) -> Dict[str, Tuple[float, ...]]:
    """Read a prediction file: with a header (``image_id`` or ``image`` first) or without.

    Returns
    -------
    dict
        Image id -> melanoma, seborrheic keratosis and, where the file has them, further probabilities in [0, 1].

    Raises
    ------
    CamError
        Names the line or the ids: wrong columns, duplicate ids, values that are no numbers, NaN, or outside [0, 1].
    """
    rows = _rows(path)
    columns = _columns(path, rows[0][1])
    if not _is_number(rows[0][1][1]):
        rows = rows[1:]
    found: Dict[str, Tuple[float, ...]] = {}
    for number, row in rows:
        if len(row) <= max(columns):
            raise CamError(f"{path}: line {number} has {len(row)} columns; expected image_id,{','.join(SCORED)}")
        if row[0] in found:
            raise CamError(f"{path}: {row[0]} appears twice (again in line {number}); expected one row a picture")
        found[row[0]] = tuple(_probability(path, number, row[column]) for column in columns)
    if not found:
        raise CamError(f"{path}: no predictions in the file; expected one row a picture")
    return found


def _rows(path: Path) -> List[Tuple[int, List[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CamError(f"{path}: no such prediction file; make it with `python -m pycam predict`") from None
    except UnicodeDecodeError as error:
        raise CamError(f"{path}: not a text file ({error.reason}); expected a CSV of predictions") from error
    reader = csv.reader(io.StringIO(text))
    rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if any(row)]
    if not rows or len(rows[0][1]) < 1 + len(SCORED):
        found = ",".join(rows[0][1]) if rows else "nothing"
        raise CamError(f"{path}: expected the columns image_id,{','.join(SCORED)}, found {found}")
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(path: Path, first: List[str]) -> List[int]:
    """Return the column numbers of the classes: by name where there is a header, else by position."""
    if _is_number(first[1]):
        return list(range(1, 1 + min(len(CLASSES), len(first) - 1)))
    missing = [name for name in SCORED if name not in first]
    if missing or first[0] not in ID_NAMES:
        raise CamError(f"{path}: the header is {','.join(first)}; expected image_id,{','.join(CLASSES)}")
    return [first.index(name) for name in CLASSES if name in first]


def _probability(path: Path, number: int, text: str) -> float:
    value = float(text) if _is_number(text) else math.nan
    if not 0 <= value <= 1:
        raise CamError(f"{path}: line {number} has {text!r}; expected a probability between 0 and 1")
    return value


def align(truth: Mapping[str, int], predicted: Mapping[str, Sequence[float]], path: Path) -> np.ndarray:
    """Return the scored probabilities in the truth's order: N x 2 float64.

    Raises
    ------
    CamError
        Names the ids that have no prediction, or predictions that are for no picture of the truth.
    """
    missing = [image_id for image_id in truth if image_id not in predicted]
    extra = [image_id for image_id in predicted if image_id not in truth]
    if missing or extra:
        problems = [f"{len(ids)} {what} ({listing(ids)})" for ids, what in
                    ((missing, "without a prediction"), (extra, "not in the ground truth")) if ids]
        raise CamError(f"{path}: of {len(truth)} pictures in the ground truth, {' and '.join(problems)}; "
                       "expected predictions for exactly these pictures")
    return np.array([predicted[image_id][:len(SCORED)] for image_id in truth], np.float64)


def read_pair(truth_csv: Path, path: Path, other: Optional[Path] = None) -> Tuple[np.ndarray, List[np.ndarray]]:
    """Read the ground truth and one or two prediction files.

    Returns
    -------
    labels : ndarray
        N int64 class numbers.
    probs : list of ndarray
        For each file N x 2 float64 in the same order.
    """
    truth = read_groundtruth(truth_csv)
    paths = [path] if other is None else [path, other]
    return np.array(list(truth.values())), [align(truth, read(p), p) for p in paths]

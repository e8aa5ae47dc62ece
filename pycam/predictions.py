"""Prediction files: a row a picture, its id and a probability for each class; rows are joined by id, never by order.

The header names the columns, as ours does (``image_id,melanoma,seborrheic_keratosis,nevus``). The challenge's submissions had
any header or none: three columns without a class' name are image id, melanoma, seborrheic keratosis.
"""
import csv
import errno
import io
import itertools
import math
import os
import re
import sys
from array import array
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from data_tools.files import listing, write_atomic
from data_tools.isic import CLASSES, HEADER, ID, TABLE, read_groundtruth
from data_tools.records import read_rows, shorten
from torchcaffe.limits import check_target

from .errors import CamError

SCORED = CLASSES[:2]  # the challenge's two questions: melanoma or not, seborrheic keratosis or not
_SHORT = {"image": ID, "id": ID, "m": CLASSES[0], "mel": CLASSES[0], "sk": CLASSES[1], "n": CLASSES[2], "nv": CLASSES[2]}
_AROUND = re.compile(r".*[/\\]|\.(jpe?g|png)$", re.IGNORECASE)  # folders before an id and the end of a file's name
_DIGITS = re.compile(r"(?<!\d)\d{7}(?!\d)")  # the number in ISIC_0012086, by which the challenge matched rows


def write(path: Path, rows: Iterable[Tuple[str, Sequence[float]]], classes: Sequence[str] = CLASSES) -> None:
    """Write rows of (image id, probabilities) at full precision: rounding makes ties, and ties move the AUC.

    Give ``SCORED`` as the classes for the challenge's own three-column submission file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # a picture's name may have a comma
    writer.writerow((ID, *classes))
    writer.writerows((image_id, *(repr(float(p)) for p, _ in zip(probs, classes))) for image_id, probs in rows)
    write_atomic(path, text.getvalue().encode())


def prepare(*paths: Optional[Path]) -> None:
    """Make the folders of outputs before the work begins; raise a CamError when one cannot be written."""
    for path in filter(None, paths):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            check_target(path)
            if not os.access(path.parent, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise CamError(f"{path}: cannot be written ({error.strerror}); expected the name of a file in a folder of yours"
                           ) from error


def read(path: Path) -> Dict[str, Tuple[float, ...]]:
    """Read a prediction file.

    Returns
    -------
    dict
        Image id -> melanoma, seborrheic keratosis and, where the file has it, nevus: probabilities in [0, 1].

    Raises
    ------
    CamError, DataError
        Names the line or the ids: other columns, repeated ids, values that are no probabilities.
    """
    ids, probs = _read(path)
    return dict(zip(ids, map(tuple, probs.tolist())))


def _read(path: Path) -> Tuple[List[str], np.ndarray]:
    """Return image ids and probabilities, N x 2 or 3: a third of the memory of `read` for millions of rows."""
    ids: List[str] = []
    values = array("d")
    bad: Dict[str, str] = {}
    for line, image_id, texts in _rows(path):
        shares = [_share(text) for text in texts]
        if any(map(math.isnan, shares)):
            wrong = next(text for text, share in zip(texts, shares) if math.isnan(share))
            bad.setdefault(image_id, f"line {line} has {wrong!r}")
        ids.append(image_id)
        values.extend(shares)
    _refuse_repeated(path, ids)
    if bad:
        raise CamError(f"{path}: {next(iter(bad.values()))}; expected a probability between 0 and 1; "
                       f"so it is with {listing(list(bad))}")
    return ids, np.array(values).reshape(len(ids), -1)


def _rows(path: Path) -> Iterator[Tuple[int, str, List[str]]]:
    """Yield line number, image id and the classes' fields of each row."""
    rows = read_rows(path, TABLE)
    head = next(rows)
    titled = all(_number(field) is None for field in head[1])
    columns = _columns(path, head[1], titled)
    line = 0
    for line, fields in rows if titled else itertools.chain([head], rows):
        if len(fields) != len(head[1]):
            raise CamError(f"{path}: line {line} has {len(fields)} columns, the first one has {len(head[1])}")
        image_id, *texts = (fields[column] for column in columns)
        yield line, _AROUND.sub("", image_id), texts
    if not line:
        raise CamError(f"{path}: no rows below the header; expected one row a picture")


def _columns(path: Path, first: Sequence[str], titled: bool) -> List[int]:
    """Return the places of the id and the classes in a row, by the names in the first one or by position."""
    names = [_SHORT.get(name, name) for name in (re.sub(r"[^a-z0-9]+", "_", field.lower()) for field in first if titled)]
    named = [name for name in CLASSES if name in names]
    if not named and len(first) == len(HEADER):
        if titled:
            print(f"note: {path}: the header {','.join(first)} names no class; read as {','.join(HEADER)}", file=sys.stderr)
        return [0, 1, 2]
    start = names.index(ID) if ID in names else 0
    if not set(SCORED) <= set(named) or any(names.count(name) > 1 for name in (ID, *named)) or names[start] in named:
        raise CamError(f"{path}: starts with {shorten(','.join(first))}; expected the header {','.join(HEADER)}[,{CLASSES[2]}], "
                       "or no header and three columns")
    return [start, *(names.index(name) for name in named)]


def _number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None


def _share(text: str) -> float:
    """Return the probability that a field holds; NaN where it holds none."""
    value = _number(text)
    return value if value is not None and 0 <= value <= 1 else math.nan


def _refuse_repeated(path: Path, ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        repeated = sorted(image_id for image_id, count in Counter(ids).items() if count > 1)
        raise CamError(f"{path}: {len(repeated)} pictures appear twice: {listing(repeated)}; expected one row a picture")


def align(truth: Mapping[str, int], predicted: Mapping[str, Sequence[float]], path: Path) -> np.ndarray:
    """Return the scored probabilities in the truth's order: N x 2 float64.

    An id that the truth does not have is matched by its seven digits, as the 2017 challenge did.

    Raises
    ------
    CamError
        Names the ids that have no prediction, or predictions that are for no picture of the truth.
    """
    return np.array(list(predicted.values()), np.float64)[_order(truth, list(predicted), path), :len(SCORED)]


def _order(truth: Mapping[str, int], ids: List[str], path: Path) -> Union[slice, List[int]]:
    """Return the places of the truth's pictures among some ids."""
    if ids == list(truth):
        return slice(None)
    if not all(image_id in truth for image_id in ids):
        known = {_challenge_number(image_id): image_id for image_id in truth}
        ids = [i if i in truth else known.get(_challenge_number(i) or "", i) for i in ids]
        _refuse_repeated(path, ids)
    places = {image_id: place for place, image_id in enumerate(ids)}
    missing = [image_id for image_id in truth if image_id not in places]
    extra = [image_id for image_id in places if image_id not in truth]
    if missing or extra:
        problems = [f"{len(ids)} {what} ({listing(ids)})" for ids, what in
                    ((missing, "without a prediction"), (extra, "not in the ground truth")) if ids]
        raise CamError(f"{path}: of {len(truth)} pictures in the ground truth, {' and '.join(problems)}; "
                       "expected predictions for exactly these pictures")
    return [places[image_id] for image_id in truth]


def _challenge_number(image_id: str) -> Optional[str]:
    found = _DIGITS.search(image_id)
    return found.group() if found else None


def read_pair(truth_csv: Path, *paths: Path) -> Tuple[np.ndarray, List[np.ndarray]]:
    """Read the ground truth and prediction files of its pictures.

    Returns
    -------
    labels : ndarray
        N int64 class numbers.
    probs : list of ndarray
        For each file N x 2 float64 in the same order.
    """
    truth = read_groundtruth(truth_csv)
    found = []
    for path in paths:
        ids, probs = _read(path)
        found.append(probs[_order(truth, ids, path), :len(SCORED)])
    return np.array(list(truth.values())), found

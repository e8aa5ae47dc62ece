"""Prediction files: ``image_id,melanoma,seborrheic_keratosis,nevus``; rows are joined by image id, never by order."""
import math
import os
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from data_tools.files import listing, write_atomic
from data_tools.isic import CLASSES

from .dialects import ID, challenge_number, number, read_table, refuse_repeated
from .dialects import SCORED as SCORED
from .errors import CamError


def write(path: Path, rows: Iterable[Tuple[str, Sequence[float]]], classes: Sequence[str] = CLASSES) -> None:
    """Write rows of (image id, probabilities) at full precision: rounding makes ties, and ties move the AUC.

    Give ``SCORED`` as the classes for the challenge's own three-column submission file.
    """
    lines = [",".join((ID, *classes))]
    lines += [",".join((image_id, *(repr(float(p)) for p, _ in zip(probs, classes)))) for image_id, probs in rows]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def prepare(path: Path) -> None:
    """Make the folder of an output before the work begins; raise a CamError when nothing can be written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise CamError(f"{path}: cannot be written; expected the name of a file in a folder of yours")


def read(path: Path) -> Dict[str, Tuple[float, ...]]:
    """Read a prediction file in any dialect of `pycam.dialects`.

    Returns
    -------
    dict
        Image id -> melanoma, seborrheic keratosis and, where the file has it, nevus: probabilities in [0, 1].

    Raises
    ------
    CamError
        Names the line or the ids: wrong columns, repeated ids, values that are no numbers, NaN, or outside [0, 1].
    """
    table = read_table(path)
    found: Dict[str, Tuple[float, ...]] = {}
    bad: List[Tuple[str, str]] = []
    for line, image_id, texts in table.rows:
        values = [number(text) for text in texts]
        bad += [(image_id, f"line {line} has {text!r}") for text, value in zip(texts, values) if not _is_share(value)]
        found[image_id] = tuple(math.nan if value is None else value for value in values)
    if bad:
        raise CamError(f"{path}: {bad[0][1]}; expected a probability between 0 and 1; so it is with "
                       f"{listing(list(dict(bad)))}")
    return found


def _is_share(value: Optional[float]) -> bool:
    return value is not None and 0 <= value <= 1


def read_truth(path: Path) -> Dict[str, int]:
    """Read the labels of a ground truth in any dialect of `pycam.dialects`: 0 or 1, also as 0.0, 1.000 and so on.

    Returns
    -------
    dict
        Image id -> class number; a picture that is neither melanoma nor seborrheic keratosis is a nevus.

    Raises
    ------
    CamError
        Names the line of a value that is neither 0 nor 1, or of a picture with two classes.
    """
    labels: Dict[str, int] = {}
    for line, image_id, texts in read_table(path).rows:
        values = [number(text) for text in texts]
        if any(value not in (0, 1) for value in values):
            raise CamError(f"{path}: line {line} ({image_id}) has {','.join(texts)}; expected 0 or 1 for each class")
        if values.count(1) > 1 or (len(values) == len(CLASSES) and not any(values)):
            raise CamError(f"{path}: line {line} ({image_id}) has {','.join(texts)}; expected one class a picture")
        labels[image_id] = values.index(1) if 1 in values else CLASSES.index("nevus")
    return labels


def align(truth: Mapping[str, int], predicted: Mapping[str, Sequence[float]], path: Path) -> np.ndarray:
    """Return the scored probabilities in the truth's order: N x 2 float64.

    An id that the truth does not have is matched by its seven digits, as the 2017 challenge did.

    Raises
    ------
    CamError
        Names the ids that have no prediction, or predictions that are for no picture of the truth.
    """
    known = {challenge_number(image_id): image_id for image_id in truth}
    names = [i if i in truth else known.get(challenge_number(i) or "", i) for i in predicted]
    refuse_repeated(path, names)
    values = dict(zip(names, predicted.values()))
    missing = [image_id for image_id in truth if image_id not in values]
    extra = [image_id for image_id in values if image_id not in truth]
    if missing or extra:
        problems = [f"{len(ids)} {what} ({listing(ids)})" for ids, what in
                    ((missing, "without a prediction"), (extra, "not in the ground truth")) if ids]
        raise CamError(f"{path}: of {len(truth)} pictures in the ground truth, {' and '.join(problems)}; "
                       "expected predictions for exactly these pictures")
    return np.array([values[image_id][:len(SCORED)] for image_id in truth], np.float64)


def read_pair(truth_csv: Path, *paths: Path) -> Tuple[np.ndarray, List[np.ndarray]]:
    """Read the ground truth and prediction files of its pictures.

    Returns
    -------
    labels : ndarray
        N int64 class numbers.
    probs : list of ndarray
        For each file N x 2 float64 in the same order.
    """
    truth = read_truth(truth_csv)
    return np.array(list(truth.values())), [align(truth, read(path), path) for path in paths]

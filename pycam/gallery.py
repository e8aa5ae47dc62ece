"""Which pictures a report shows, chosen by rule, and what is shown of each."""
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Sequence

import cv2
import numpy as np

from data_tools.files import listing, read_image
from data_tools.isic import CLASSES, find_pictures

from .cam import place
from .crops import Row, row_box
from .errors import CamError
from .predict import BATCH, predict_with_maps
from .regions import Box

SHOWN = 4  # pictures a class
FAILURES = 6
LONG_SIDE = 360  # of a picture in the report

Probabilities = Mapping[str, Sequence[float]]  # image id -> a probability for each class


class Example(NamedTuple):
    """One picture and what stage 1 made of it.

    Attributes
    ----------
    image_id, label, probs
        Its id, its true class, and C probabilities.
    image : ndarray
        H x W x 3 uint8 BGR, scaled down to be shown.
    cams : ndarray
        C x H x W float32, a map for each class.
    row : dict
        Its row of boxes.csv.
    box : Box
        Where the crop lies in `image`.
    crop : ndarray
        h x w x 3 uint8 BGR.
    """

    image_id: str
    label: int
    probs: Sequence[float]
    image: np.ndarray
    cams: np.ndarray
    row: Row
    box: Box
    crop: np.ndarray


def spread(labels: Mapping[str, int], probs: Probabilities, count: int = SHOWN) -> List[str]:
    """Choose pictures without taste: of each class ``count``, evenly spaced in the rank of the true class' probability.

    Returns image ids, class by class, from the most to the least certain.
    """
    chosen: List[str] = []
    for number in range(len(CLASSES)):
        ranked = sorted((i for i in labels if labels[i] == number), key=lambda i: (-probs[i][number], i))
        places = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
        chosen += [ranked[round(place)] for place in places]
    return chosen


def most_wrong(labels: Mapping[str, int], probs: Probabilities) -> List[str]:
    """Return the ids whose most probable class is wrong, the surest first."""
    wrong = [i for i in labels if int(np.argmax(probs[i])) != labels[i]]
    return sorted(wrong, key=lambda i: (-max(probs[i]), i))


def examples(net: Any, folder: Path, ids: Sequence[str], labels: Mapping[str, int], probs: Probabilities,
             boxes: Mapping[str, Row]) -> List[Example]:
    """Gather what is shown of validation pictures.

    Parameters
    ----------
    net : Net
        The deploy network of stage 1.
    folder : Path
        Folder of the run: pictures in ``clean/val``, crops in ``crops/val``.
    ids : sequence of str
        The pictures.
    labels, probs, boxes : mapping
        By image id: true class, probabilities, row of boxes.csv.
    """
    pictures, crops = find_pictures(folder / "clean" / "val"), find_pictures(folder / "crops" / "val")
    absent = [i for i in ids if i not in pictures or i not in crops or i not in boxes]
    if absent:
        raise CamError(f"{folder}: no picture, box or crop of {listing(absent)} in clean/val and crops/val; "
                       "make them with `python -m pycam crops`")
    shown: List[Example] = []
    for start in range(0, len(ids), BATCH):
        part = ids[start:start + BATCH]
        images = [read_image(pictures[i]) for i in part]
        for i, image, maps in zip(part, images, predict_with_maps(net, images)[1]):
            small = shrink(image)
            size = (small.shape[0], small.shape[1])
            box = scale_box(row_box(boxes[i]), size[0] / image.shape[0], size[1] / image.shape[1])
            shown.append(Example(i, labels[i], probs[i], small, place(maps, size), boxes[i], box,
                                 shrink(read_image(crops[i]))))
    return shown


def shrink(image: np.ndarray, long_side: int = LONG_SIDE) -> np.ndarray:
    """Scale an H x W x 3 picture down until its longer side fits; a smaller one stays as it is."""
    scale = long_side / max(image.shape[:2])
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def scale_box(box: Box, vertical: float, horizontal: float) -> Box:
    """Return a box in the coordinates of a resized picture."""
    factors = (vertical, horizontal, vertical, horizontal)
    return Box(*(round(edge * factor) for edge, factor in zip(box, factors)))

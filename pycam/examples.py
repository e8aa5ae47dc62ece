"""The pictures of a run's folder, read at first access; and pictures chosen by rule."""
from functools import cached_property
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from data_tools.files import listing, read_image
from data_tools.isic import CLASSES, GROUNDTRUTH, find_pictures, read_groundtruth
from data_tools.steps import find_record

from . import predictions
from .cam import merge, select
from .cells import Cells, lay
from .crops import BOXES, Row, read_boxes
from .errors import CamError
from .forward import BATCH, Network, ahead, predict_with_maps
from .region_rule import RegionRule, read_recorded
from .regions import Box

SHOWN = 4  # pictures a class
FAILURES = 6
LONG_SIDE = 360  # of a picture in the report
STAGES = ("Stage 1", "Stage 1+2")  # names of the two outputs in every report

Probabilities = Mapping[str, Sequence[float]]  # image id -> a probability for each class


class Example(NamedTuple):
    """One picture and what both stages made of it.

    Attributes
    ----------
    image_id, label
        Its id, its true class.
    probs, final
        C probabilities of stage 1 and of stage 2.
    image : ndarray
        H x W x 3 uint8 BGR, scaled down to be shown.
    cams, followed : ndarray
        C x H x W float32, a map for each class; H x W float32, the map that the crop follows.
    row : Row
        Its row of boxes.csv.
    box : Box
        Where the crop lies in `image`.
    crop : ndarray
        h x w x 3 uint8 BGR.
    cells : Cells
        Where the maps' cells lie in `image`.
    """

    image_id: str
    label: int
    probs: Sequence[float]
    final: Sequence[float]
    image: np.ndarray
    cams: np.ndarray
    followed: np.ndarray
    row: Row
    box: Box
    crop: np.ndarray
    cells: Cells

    @property
    def map_name(self) -> str:
        """What the followed map is of, in words."""
        return self.row.followed.replace("_", " ")


class Run:
    """The folder of a run; each property reads its file once and raises an error that says what is missing.

    Parameters
    ----------
    folder, split
        Pictures in ``clean/SPLIT``, crops in ``crops/SPLIT``, predictions in ``results``.
    open_net : callable
        Returns the deploy network of stage 1, for the maps.
    """

    def __init__(self, folder: Path, open_net: Callable[[], Network], split: str = "val") -> None:
        self.folder, self.split, self._open_net = folder, split, open_net
        self.clean, self.cut = folder / "clean" / split, folder / "crops" / split
        self.files = {name: folder / "results" / f"stage{number}_{split}.csv" for number, name in enumerate(STAGES, 1)}

    @cached_property
    def labels(self) -> Dict[str, int]:
        """True classes by image id."""
        return read_groundtruth(self.clean / GROUNDTRUTH)

    @cached_property
    def stage1(self) -> Probabilities:
        """Probabilities of stage 1 by image id."""
        return self._predictions(STAGES[0])

    @cached_property
    def stage2(self) -> Probabilities:
        """Probabilities of stage 2 by image id."""
        return self._predictions(STAGES[1])

    @cached_property
    def truth(self) -> np.ndarray:
        """True classes, N int, in the order of `labels`."""
        return np.array(list(self.labels.values()))

    @cached_property
    def probs(self) -> Dict[str, np.ndarray]:
        """Name of each stage -> N x C probabilities in the order of `labels`."""
        return {name: np.array([found[i] for i in self.labels]) for name, found in zip(STAGES, (self.stage1, self.stage2))}

    def other(self, split: str) -> "Run":
        """Return the same run for the pictures of another split."""
        return Run(self.folder, self._open_net, split)

    def _predictions(self, stage: str) -> Probabilities:
        path = self.files[stage]
        probs = predictions.read(path)
        predictions.align(self.labels, probs, path)
        if any(len(row) != len(CLASSES) for row in probs.values()):
            raise CamError(f"{path}: no column {CLASSES[-1]}; expected the file that `python -m pycam predict` writes")
        return probs

    @cached_property
    def boxes(self) -> Dict[str, Row]:
        """Rows of boxes.csv by image id."""
        return read_boxes(self.cut / BOXES)

    @cached_property
    def pictures(self) -> Dict[str, Path]:
        """Files of the pictures by image id."""
        return find_pictures(self.clean)

    @cached_property
    def crops(self) -> Dict[str, Path]:
        """Files of the crops by image id."""
        return find_pictures(self.cut)

    @cached_property
    def rule(self) -> RegionRule:
        """The rule by which the crops were cut."""
        record = find_record(self.cut)
        known = read_recorded(record.pictures, self.cut) if record else None
        if known is None:
            raise CamError(f"{self.cut}: no record tells how the crops were cut; make them again with `python -m pycam crops`")
        return known[0]

    @cached_property
    def answers(self) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
        """What stage 1 says of the rule's views by image id: C probabilities, V x C x h x w maps as small as they are made."""
        network = self.network
        found: Dict[str, Tuple[np.ndarray, np.ndarray]] = {}
        for part in ahead(lambda i: network.views(read_image(self.pictures[i]), self.rule.views), list(self.labels), BATCH):
            ids, pictures = zip(*part)
            found.update(zip(ids, zip(*predict_with_maps(network, pictures))))
        return found

    @cached_property
    def network(self) -> Network:
        """The network of stage 1."""
        return self._open_net()

    def check(self) -> None:
        """Raise a CamError that names the pictures that have no file, crop or box."""
        absent = [i for i in self.labels if not (i in self.pictures and i in self.crops and i in self.boxes)]
        if absent:
            raise CamError(f"{self.folder}: no picture, box or crop of {listing(absent)} in {self.clean} and {self.cut}; "
                           "make them with `python -m pycam crops`")

    def example(self, image_id: str, long_side: int = LONG_SIDE) -> Example:
        """Gather what is shown of a picture, scaled down to `long_side` pixels."""
        image = read_image(self.pictures[image_id])
        small = shrink(image, long_side)
        size = (small.shape[0], small.shape[1])
        row = self.boxes[image_id]
        box = scale_box(row.box, size[0] / image.shape[0], size[1] / image.shape[1])
        probs, views_cams = self.answers[image_id]
        name = row.followed  # or the rule, where all classes have a part
        chosen = views_cams[:, CLASSES.index(name)] if name in CLASSES else select(name, views_cams, probs)[0]
        cams, followed = (merge(some, size, self.rule.placement, self.network.grid) for some in (views_cams, chosen))
        return Example(image_id, self.labels[image_id], self.stage1[image_id], self.stage2[image_id], small, cams, followed, row,
                       box, shrink(read_image(self.crops[image_id]), long_side),
                       lay(chosen.shape[-2:], size, self.rule.views, self.rule.placement, self.network.grid))


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


def median_melanoma(labels: Mapping[str, int], probs: Probabilities) -> str:
    """Return the melanoma of middle rank in its own probability: neither the best nor the worst of a run."""
    ranked = sorted((i for i in labels if labels[i] == 0), key=lambda i: (-probs[i][0], i))
    if not ranked:
        raise CamError("no melanoma among the validation pictures; expected one to show the way of a picture")
    return ranked[len(ranked) // 2]


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

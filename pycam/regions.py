"""From a class activation map to the box that stage 2 looks at (D09). Pure arrays."""
from typing import List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

CAM_THRESHOLD = 0.2  # D09: share of the map's maximum, as in the CAM paper's text
CROP_MARGIN = 0.1  # D09: added on each side, as a share of the region's longer side
CROP_MIN_SIDE = 0.25  # D09: of the picture's shorter side; smaller regions are widened to it
REGION = "region"  # the reason of a box that a map gave
FLAT_RANGE = 1e-6  # a map whose range is below this share of its maximum shows no region
RULES = ("threshold", "released", "otsu")  # D09, D21
GROUNDS = ("none", "min", "median")  # D21

RELEASED_THRESHOLDS = (20, 100, 110)  # on a 0-255 map, as the CAM authors ran their program
RELEASED_DISTANCE = 10  # of a distance transform scaled to 255
RELEASED_BORDER = 5  # their boxes stay this many pixels away from the right and bottom edge
RELEASED_OVERLAP = 0.5  # of the larger box


class Box(NamedTuple):
    """Half-open integer pixels of the original image: rows y0 to y1 - 1, columns x0 to x1 - 1."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def size(self) -> Tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    def covers(self, size: Tuple[int, int]) -> bool:
        """Tell whether the box is the whole picture of a height and width."""
        return tuple(self) == (0, 0, *size)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the box's pixels of an H x W (x 3) array, as a view."""
        return image[self.y0:self.y1, self.x0:self.x1]


class Region(NamedTuple):
    """A box and why it is what it is: ``region``, or what made it the whole picture."""

    box: Box
    reason: str


def tight_region(cam: np.ndarray, rule: str = "threshold", *, threshold: float = CAM_THRESHOLD,
                 ground: str = "none") -> Region:
    """Return the box of a map's strongest region as it is, neither squared nor widened (D09, D21).

    Parameters
    ----------
    cam : ndarray
        H x W float, one class, at the size of the original picture.
    rule : str
        ``threshold`` and ``otsu``: the box of the connected part (8 neighbours) above `level` that holds the maximum.
        ``released``: the first box of `released_boxes`.
    threshold : float
        For the rule ``threshold``: share of the maximum.
    ground : str
        For the rule ``threshold``: what is taken off the map first, ``none``, its ``min`` or its ``median``.
    """
    problem = degenerate(cam)
    if problem is not None:
        return Region(Box(0, 0, *cam.shape), problem)
    if rule == "released":
        return Region(released_boxes(to_grey(cam))[0], REGION)
    return Region(strongest_component(cam, level(cam, rule, threshold=threshold, ground=ground)), REGION)


def level(cam: np.ndarray, rule: str = "threshold", *, threshold: float = CAM_THRESHOLD, ground: str = "none") -> float:
    """Return the value above which a map is region; see `tight_region`. For ``released``, the lowest of its three.

    The value is below the maximum, whatever the rule says, so that a region is never empty; infinite where the map
    shows none.
    """
    if degenerate(cam) is not None:
        return float("inf")
    high, low = float(cam.max()), float(cam.min())
    if rule == "otsu":
        grey = cv2.threshold(to_grey(cam), 0, 255, cv2.THRESH_OTSU)[0] + 0.5  # levels are rounded: the next begins here
        found = low + (high - low) * grey / 255
    elif rule == "released":
        found = low + (high - low) * RELEASED_THRESHOLDS[0] / 255
    else:
        base = 0.0 if ground == "none" else low if ground == "min" else float(np.median(cam))
        found = base + threshold * (high - base)
    return min(found, float(np.nextafter(cam.max(), cam.min())))


def degenerate(cam: np.ndarray) -> Optional[str]:
    """Return why a map shows no region, or None."""
    if not np.isfinite(cam).all():
        return "not finite"
    highest, lowest = float(cam.max()), float(cam.min())
    if highest <= 0:
        return "nowhere positive"
    return "flat" if highest - lowest <= FLAT_RANGE * highest else None


def strongest_component(cam: np.ndarray, lowest: float) -> Box:
    """Return the tight box of the part above a value, below the maximum, that holds the (first) maximum."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((cam > lowest).astype(np.uint8))
    x, y, width, height = (int(v) for v in stats[labels.flat[int(cam.argmax())], :4])
    return Box(y, x, y + height, x + width)


def square_up(box: Box, size: Tuple[int, ...], margin: float = CROP_MARGIN) -> Box:
    """Grow a box to a square with its margin and smallest side, moved to lie inside a picture of this size."""
    side = max(max(box.size) * (1 + 2 * margin), CROP_MIN_SIDE * min(size))
    (y0, y1), (x0, x1) = (_span(start, stop, side, limit) for start, stop, limit in
                          ((box.y0, box.y1, size[0]), (box.x0, box.x1, size[1])))
    return Box(y0, x0, y1, x1)


def _span(start: int, stop: int, side: float, limit: int) -> Tuple[int, int]:
    length = min(int(np.ceil(side)), limit)
    first = int(np.floor((start + stop - length) / 2 + 0.5))
    first = min(max(first, 0), limit - length)
    return first, first + length


def to_grey(cam: np.ndarray) -> np.ndarray:
    """Scale a map's range to 0-255 (H x W uint8), the form the released rule reads."""
    low, high = float(cam.min()), float(cam.max())
    return np.asarray(np.rint((cam.astype(np.float64) - low) * (255 / (high - low))), np.uint8)  # 255 / 1e-38 is no float32


def released_boxes(grey: np.ndarray) -> List[Box]:
    """Return the boxes that the CAM authors' released program finds, largest first.

    Their program differs from their paper's text. For each of three thresholds it takes the distance to the nearest
    pixel below the threshold, scaled so that the largest is 255, keeps what is above 10, and boxes every outer and
    inner contour. Boxes are sorted by area; of two that overlap by more than half of the larger, the later is
    dropped (the one that follows a dropped box is not compared in that round, as in their program).

    Parameters
    ----------
    grey : ndarray
        H x W uint8, from `to_grey`.
    """
    boxes = [_clip_released(cv2.boundingRect(contour), grey.shape)
             for threshold in RELEASED_THRESHOLDS for contour in _released_contours(grey > threshold)]
    boxes.sort(key=_area, reverse=True)
    for i, box in enumerate(boxes):  # the list shrinks behind i
        j = i + 1
        while j < len(boxes):
            if _overlap(box, boxes[j]) > int(RELEASED_OVERLAP * max(_area(box), _area(boxes[j]))):
                del boxes[j]
            j += 1
    return boxes


def _released_contours(mask: np.ndarray) -> List[np.ndarray]:
    binary = mask.astype(np.uint8)
    if mask.any() and not mask.all():
        distance = cv2.distanceTransform(binary, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        binary = (np.floor(distance * (255 / distance.max()) + 0.5) > RELEASED_DISTANCE).astype(np.uint8)
    return list(cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[-2])


def _clip_released(rect: Sequence[int], size: Tuple[int, ...]) -> Box:
    x, y, width, height = rect
    bottom, right = size[0] - RELEASED_BORDER, size[1] - RELEASED_BORDER
    y0, x0 = min(y, bottom), min(x, right)
    return Box(y0, x0, y0 + max(0, min(height, bottom - y)), x0 + max(0, min(width, right - x)))


def _area(box: Box) -> int:
    return box.size[0] * box.size[1]


def _overlap(a: Box, b: Box) -> int:
    height, width = min(a.y1, b.y1) - max(a.y0, b.y0), min(a.x1, b.x1) - max(a.x0, b.x0)
    return max(0, height) * max(0, width)

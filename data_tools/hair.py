"""Find and remove dark hair: DullRazor (Lee et al., *Computers in Biology and Medicine* 27(6), 1997).

Both methods keep the steps of 1997: close the picture with line-shaped elements, subtract, keep what is thin and long,
interpolate across the hair from both sides, smooth with an adaptive median (the last two are in ``hair_fill``).

``"letter"`` follows the text: three line elements, a threshold, straight rays for the length. It loses curved and
oblique hair. ``"along"`` (D18, the default) measures length along the skeleton of the hair instead, branch by branch,
and closes with more directions, so that pigment network and lesion edges stay and curved hair goes.
Bright hair is outside both; ruler marks look like hair to both.
"""
from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import cv2
import numpy as np

from data_tools.errors import DataError
from data_tools.hair_branches import FRAME, thin_and_long
from data_tools.hair_fill import REFERENCE, disc, fill_hair

# All lengths are pixels of a picture whose longer side has REFERENCE pixels, and scale with it.
WORK_LIMIT = 800          # D18: larger pictures are searched at REFERENCE; edges are found again at full size

BRIDGE, BRIDGE_ANGLES = 17, 8    # D18: line elements that span a hair, so that closing fills it
ALONG, ALONG_ANGLES = 25, 16     # D18: line elements that fit along a hair, so that closing keeps it
CALM, SMALL = 5, 0.7      # D18: window, px, that averages bright specks away before bridging; 3 where the unit is below SMALL px
WEAK = 11                 # D18: grey levels of contrast that make a candidate
EDGE = 0.54               # D18: hair ends where contrast falls below this share of its core

KNOT = 15                 # D18: where hairs cross, the middle of the knot is too wide to be bridged
TIP = 8                   # D18: round tips lie this near to what was found
DARK = 0.4                # D18: ... and are brighter than it by this share of its contrast at most
CLEAR = 60                # D18: ... which is this large; else pigment may be as dark

DIAGONAL = 2 ** 0.5
LETTER_LINE, LETTER_DIAGONAL = 11, 1 + 6 * DIAGONAL  # Lee: eleven ones in a row; seven on the diagonal
LETTER_REFERENCE = 512    # D18: Lee's lengths are taken as pixels of a picture of this size
LETTER_THRESHOLD = 24     # D18: published nowhere
LETTER_LONG = 51          # Lee: the longest straight run of pixels through a hair pixel has more than 50
LETTER_SHORT = 11         # Lee: the three others have fewer than 10 (an element has an odd number)


def remove_hair(image: np.ndarray, *, method: str = "along") -> Tuple[np.ndarray, np.ndarray]:
    """Find dark hair and interpolate the skin beneath it (DullRazor; D18).

    Parameters
    ----------
    image : ndarray, H x W x 3 uint8, BGR
        Any size; the lengths scale with the longer side. It is not changed.
    method : {"along", "letter"}
        Measure a hair's length along its skeleton, or along straight rays as in 1997.

    Returns
    -------
    clean : ndarray, H x W x 3 uint8, BGR
        The picture without hair. Without a find it equals ``image`` bit for bit; otherwise pixels farther from the
        mask than `data_tools.hair_fill.touched` reaches do.
    mask : ndarray, H x W bool
        True where hair was found, before any dilation for the filling.

    Raises
    ------
    DataError
        If ``image`` is not such an array or ``method`` is unknown.
    """
    _check(image, method)
    image = np.ascontiguousarray(image)
    mask = METHODS[method](image)
    return fill_hair(image, mask, letter=method == "letter"), mask


def _check(image: np.ndarray, method: str) -> None:
    if method not in METHODS:
        raise DataError(f"hair removal: method {method!r} is unknown; use one of {', '.join(METHODS)}")
    if not isinstance(image, np.ndarray):
        raise DataError(f"hair removal: found {type(image).__name__}, expected a BGR array H x W x 3 of uint8")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"hair removal: found an array {' x '.join(map(str, image.shape))} of {image.dtype}, "
                        "expected H x W x 3 of uint8 (BGR); read the picture with cv2.imread")


def _reduced(image: np.ndarray) -> Tuple[np.ndarray, float]:
    """Shrink pictures above WORK_LIMIT to REFERENCE; return the picture and the size of a reference pixel in it."""
    longer = max(image.shape[:2])
    if longer <= WORK_LIMIT:
        return image, longer / REFERENCE
    factor = REFERENCE / longer
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), 1.0


def _enlarged(plane: np.ndarray, image: np.ndarray, interpolation: int) -> np.ndarray:
    return cv2.resize(plane, image.shape[1::-1], interpolation=interpolation)


def _line(length: float, angle: float) -> np.ndarray:
    """Draw a line-shaped structuring element, centred, some `length` px from end to end (3 pixels at least)."""
    right, down = np.cos(angle), np.sin(angle)
    major = max(abs(right), abs(down))
    reach = max(1, round((length - 1) / 2 * major))
    step = np.arange(-reach, reach + 1)
    element = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    element[reach + np.rint(step * down / major).astype(int), reach + np.rint(step * right / major).astype(int)] = 1
    return element


def _find_along(image: np.ndarray) -> np.ndarray:
    """Find hair by closing in many directions and by length along the skeleton; return H x W bool."""
    small, unit = _reduced(image)
    value = _value(small)
    skin, lines = _skin_level(value, unit), _line_level(value, unit)
    contrast = cv2.subtract(skin, lines)
    core = cv2.GaussianBlur(cv2.dilate(contrast, np.ones((5, 5), np.uint8)), (5, 5), 0)
    margin = cv2.max(cv2.convertScaleAbs(core, alpha=EDGE), np.full_like(core, WEAK))
    dark = (contrast > margin).astype(np.uint8)
    frame = _frame(dark)
    candidates = cv2.subtract(dark, frame)
    found = thin_and_long(candidates, contrast, unit) & candidates
    whole, level = _completed(found, np.where(frame, skin, value), skin, cv2.subtract(skin, margin), unit)
    if small is image:
        return np.asarray((value < level) & (whole > 0))
    body = _enlarged(cv2.dilate(whole, np.ones((3, 3), np.uint8)), image, cv2.INTER_NEAREST)
    return np.asarray((_value(image) < _enlarged(level, image, cv2.INTER_LINEAR)) & (body > 0))


def _completed(hair: np.ndarray, value: np.ndarray, skin: np.ndarray, level: np.ndarray,
               unit: float) -> Tuple[np.ndarray, np.ndarray]:
    """Add round tips and the middle of knots: what touches hair and is nearly as dark.

    Returns where hair is (H x W uint8) and the grey level of its edge (H x W uint8).
    """
    gap = cv2.morphologyEx(hair, cv2.MORPH_CLOSE, disc(KNOT * unit)) > 0
    rest = np.flatnonzero(cv2.dilate(hair, disc(2 * TIP * unit + 1)) > hair)
    size = (2 * round(TIP * unit) + 1,) * 2
    area, dark, bright = (cv2.boxFilter(plane, cv2.CV_32F, size, normalize=False).ravel()[rest]
                          for plane in (hair, value * hair, skin * hair))
    area = np.maximum(area, 1)
    brightest = cv2.dilate(skin, np.ones(size, np.uint8)).ravel()[rest]
    edge: np.ndarray = level.copy()
    edge.ravel()[rest] = np.where(gap.ravel()[rest], EDGE * dark / area + (1 - EDGE) * brightest,
                                  np.where(bright - dark > CLEAR * area, (1 - DARK) * dark + DARK * bright, 0) / area)
    whole = hair.copy()
    whole.ravel()[rest] = value.ravel()[rest] < edge.ravel()[rest]
    count, part = cv2.connectedComponents(whole)
    touching = np.zeros(count, np.uint8)
    touching[part[hair > 0]] = 1
    return touching[part], edge



def _frame(dark: np.ndarray) -> np.ndarray:
    """Mark those of the outermost FRAME rows and columns that are dark for the most part (H x W uint8)."""
    frame = np.zeros_like(dark)
    for lines, marked in (dark, frame), (dark.T, frame.T):
        for i in {*range(min(FRAME, len(lines))), *range(max(0, len(lines) - FRAME), len(lines))}:
            if lines[i].mean() > 0.5:
                marked[i] = 1
    return frame


def _value(image: np.ndarray) -> np.ndarray:
    """Take the brightest channel: hair is dark in all three, pigment, vessels and ink are not."""
    blue, green, red = cv2.split(image)
    return cv2.max(cv2.max(blue, green), red)


def _skin_level(value: np.ndarray, unit: float) -> np.ndarray:
    """Close across the hair (generalized grayscale closing): the largest of several directions, H x W uint8."""
    pad = round(BRIDGE * unit) + 1
    window = (CALM if unit > SMALL else 3,) * 2
    calm = cv2.copyMakeBorder(cv2.blur(value, window), pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    skin = calm
    for i in range(BRIDGE_ANGLES):
        element = _line(BRIDGE * unit, np.pi * i / BRIDGE_ANGLES)
        skin = cv2.max(skin, cv2.morphologyEx(calm, cv2.MORPH_CLOSE, element))
    return skin[pad:-pad, pad:-pad]


def _line_level(value: np.ndarray, unit: float) -> np.ndarray:
    """Close along the hair: the smallest of many directions fills all that is dark but not a line, H x W uint8."""
    pad = round(ALONG * unit / 2) + 1
    dark = cv2.copyMakeBorder(value, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)  # hair may go on outside
    thick = cv2.erode(dark, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))  # a line of 1 px may bend by 1 px
    lines = np.full_like(dark, 255)
    for i in range(ALONG_ANGLES):
        element = _line(ALONG * unit, np.pi * i / ALONG_ANGLES)
        lines = cv2.min(lines, cv2.morphologyEx(thick, cv2.MORPH_CLOSE, element))
    return cv2.max(lines[pad:-pad, pad:-pad], value)


def _find_letter(image: np.ndarray) -> np.ndarray:
    """Find hair as the text of 1997 says: three closings, a threshold, straight rays; return H x W bool."""
    small, unit = _reduced(image)
    unit *= REFERENCE / LETTER_REFERENCE
    elements = [_line(LETTER_LINE * unit, 0), _line(LETTER_LINE * unit, np.pi / 2),
                _line(LETTER_DIAGONAL * unit, np.pi / 4)]
    closed = [cv2.morphologyEx(small, cv2.MORPH_CLOSE, element) for element in elements]
    difference = cv2.absdiff(small, cv2.max(cv2.max(closed[0], closed[1]), closed[2]))
    candidates = (difference.max(axis=2) > LETTER_THRESHOLD).astype(np.uint8)
    hair = _straight_and_thin(candidates, unit)
    return (hair if small is image else _enlarged(hair, image, cv2.INTER_NEAREST)) > 0


def _straight_and_thin(candidates: np.ndarray, unit: float) -> np.ndarray:
    """Keep pixels with one straight run of LETTER_LONG and three shorter than LETTER_SHORT (H x W uint8).

    A pixel lies on a run of n pixels exactly when an opening with a line of n pixels keeps it.
    """
    long: List[np.ndarray] = []
    wide: List[np.ndarray] = []
    for i in range(4):
        stride = DIAGONAL if i % 2 else 1.0
        for runs, pixels in (long, LETTER_LONG), (wide, LETTER_SHORT):
            element = _line(1 + (pixels * unit - 1) * stride, np.pi / 4 * i)
            runs.append(cv2.morphologyEx(candidates, cv2.MORPH_OPEN, element))
    hair: np.ndarray = np.zeros_like(candidates)
    for i in range(4):
        hair |= long[i] & ~np.maximum.reduce(wide[:i] + wide[i + 1:])
    return hair


METHODS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {"along": _find_along, "letter": _find_letter}

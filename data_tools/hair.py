"""Find and remove dark hair: DullRazor (Lee et al., *Computers in Biology and Medicine* 27(6), 1997).

Both methods keep the steps of 1997: close the picture with line-shaped elements, subtract, keep what is thin and long,
interpolate across the hair from both sides, smooth with an adaptive median (the last two are in ``hair_fill``).

``"letter"`` follows the text: three line elements, a threshold, straight rays for the length. It loses curved and
oblique hair. ``"along"`` (D18, the default) measures length along the skeleton of the hair instead, branch by branch,
and closes with more directions, so that pigment network and lesion edges stay and curved hair goes.
Bright hair is outside both; ruler marks look like hair to both.
"""
from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Tuple

import cv2
import numpy as np
from skimage.morphology import skeletonize

from data_tools.errors import DataError
from data_tools.hair_fill import REFERENCE, disc, fill_hair

# All lengths are pixels of a picture whose longer side has REFERENCE pixels, and scale with it.
WORK_LIMIT = 800          # D18: larger pictures are searched at REFERENCE; edges are found again at full size

BRIDGE, BRIDGE_ANGLES = 17, 8    # D18: line elements that span a hair, so that closing fills it
ALONG, ALONG_ANGLES = 31, 16     # D18: line elements that fit along a hair, so that closing keeps it
CALM = 5                  # D18: window, px of the picture, that averages bright specks away before bridging
WEAK = 14                 # D18: grey levels of contrast that make a candidate
EDGE = 0.42               # D18: hair ends where contrast falls below this share of its core

KNOT = 15                 # D18: where hairs cross, the middle of the knot is too wide to be bridged
SPUR = 6                  # D18: shorter dead ends of the skeleton are roughness of the edge
MIN_BRANCH = 16           # D18: a branch of this length is evidence of hair
SURE = 45                 # D18: ... and of this length needs no company
STRONG, FAINT = 30, 20    # D18: mean contrast of a branch, and of a branch of SURE length
STRAIGHT = 0.8            # D18: a branch spans this share of its length (of BEND at most)
BEND = 45
SLENDER = 3               # D18: length / width of a branch
MAX_WIDTH = 14
CUT = 5                   # D18: a hair cut off by the picture's edge goes on outside: its length counts this often
FRAME = 2                 # D18: px; a line along the picture's edge is a frame, not hair
AROUND = 40               # D18: half window in which hair and tangle are compared
ALONE, COMPANY = 0.25, 0.33  # D18: share of the skeleton around that must be long, for long and for short branches
THIN = 5                  # D18: narrower hair lies this near to its skeleton
NEAR = 8                  # D18: ... and wider hair this near; gaps up to twice this are one hair
MIN_LENGTH = 30           # D18: all branches of a hair together

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
    mask = _METHODS[method](image)
    return fill_hair(image, mask, letter=method == "letter"), mask


def _check(image: np.ndarray, method: str) -> None:
    if method not in _METHODS:
        raise DataError(f"hair removal: method {method!r} is unknown; use one of {', '.join(_METHODS)}")
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
    candidates = (contrast > margin).astype(np.uint8)
    hair = _thin_and_long(candidates, contrast, unit) & candidates
    knot = disc(KNOT * unit)
    whole = cv2.morphologyEx(hair, cv2.MORPH_CLOSE, knot)
    around = cv2.subtract(cv2.dilate(skin, knot), cv2.dilate(margin, knot))
    level: np.ndarray = np.where(whole > hair, around, cv2.subtract(skin, margin))  # hair is what is darker
    if small is image:
        return (value < level) & (whole > 0)
    whole = _enlarged(cv2.dilate(whole, np.ones((3, 3), np.uint8)), image, cv2.INTER_NEAREST)
    return (_value(image) < _enlarged(level, image, cv2.INTER_LINEAR)) & (whole > 0)


def _value(image: np.ndarray) -> np.ndarray:
    """Take the brightest channel: hair is dark in all three, pigment, vessels and ink are not."""
    blue, green, red = cv2.split(image)
    return cv2.max(cv2.max(blue, green), red)


def _skin_level(value: np.ndarray, unit: float) -> np.ndarray:
    """Close across the hair (generalized grayscale closing): the largest of several directions, H x W uint8."""
    pad = round(BRIDGE * unit) + 1
    calm = cv2.copyMakeBorder(cv2.blur(value, (CALM, CALM)), pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    skin = calm
    for i in range(BRIDGE_ANGLES):
        element = _line(BRIDGE * unit, np.pi * i / BRIDGE_ANGLES)
        skin = cv2.max(skin, cv2.morphologyEx(calm, cv2.MORPH_CLOSE, element))
    return skin[pad:-pad, pad:-pad]


def _line_level(value: np.ndarray, unit: float) -> np.ndarray:
    """Close along the hair: the smallest of many directions fills all that is dark but not a line, H x W uint8."""
    thick = cv2.erode(value, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))  # a line of 1 px may bend by 1 px
    lines = np.full_like(value, 255)
    for i in range(ALONG_ANGLES):
        element = _line(ALONG * unit, np.pi * i / ALONG_ANGLES)
        lines = cv2.min(lines, cv2.morphologyEx(thick, cv2.MORPH_CLOSE, element))
    return cv2.max(lines, value)


def _thin_and_long(candidates: np.ndarray, contrast: np.ndarray, unit: float) -> np.ndarray:
    """Verify candidates branch by branch of their skeleton; return H x W uint8, 1 around what is hair (D18).

    Long, straight and strong branches are hair, short ones where such branches prevail around them.
    """
    lines: np.ndarray = skeletonize(candidates > 0)  # type: ignore[no-untyped-call]
    skeleton = _without_spurs(lines.astype(np.uint8), SPUR * unit)
    branches = _measure(skeleton, candidates, contrast, unit)
    long = _is_long(branches)
    company = _company(branches, long, skeleton, unit)
    short = (company > COMPANY) & (branches.strength >= STRONG) & ~branches.framed
    hair = np.where(long, (company > ALONE) | (branches.reach > SURE), short)
    hair[0] = False
    return _body(branches, hair, unit)


class _Branches(NamedTuple):
    """The pieces of a skeleton between ends and forks; label 0 is where there is none; lengths are in units."""

    labels: np.ndarray    # H x W
    pixels: np.ndarray    # N flat indices
    label: np.ndarray     # N, their labels
    times: np.ndarray     # one value a label, here and below: CUT where cut off by the picture's edge, else 1
    reach: np.ndarray     # length, times times
    width: np.ndarray
    straight: np.ndarray  # bool
    strength: np.ndarray  # mean contrast
    framed: np.ndarray    # bool: runs along the picture's edge

    def drawn(self, chosen: np.ndarray) -> np.ndarray:
        """Draw the branches whose labels are chosen (H x W uint8)."""
        plane: np.ndarray = np.zeros(self.labels.shape, np.uint8)
        plane.ravel()[self.pixels[chosen[self.label]]] = 1
        return plane


def _measure(skeleton: np.ndarray, candidates: np.ndarray, contrast: np.ndarray, unit: float) -> _Branches:
    branches: np.ndarray = skeleton & (_arms(skeleton) <= 2)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(branches)
    pixels = np.flatnonzero(branches > 0)
    label = labels.ravel()[pixels]
    y, x = np.divmod(pixels, labels.shape[1])
    edge = np.minimum(np.minimum(y, labels.shape[0] - 1 - y), np.minimum(x, labels.shape[1] - 1 - x))
    half_width = cv2.distanceTransform(candidates, cv2.DIST_L2, 3).ravel()[pixels]
    times = np.where(_mean(edge < MAX_WIDTH * unit / 2, label, count) > 0, CUT, 1)
    length = stats[:, cv2.CC_STAT_AREA]
    span = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    return _Branches(
        labels=labels, pixels=pixels, label=label, times=times, reach=length * times / unit,
        width=2 * _mean(half_width, label, count) / unit,
        straight=span >= STRAIGHT * np.minimum(length, BEND * unit),
        strength=_mean(contrast.ravel()[pixels], label, count),
        framed=_mean(edge < FRAME, label, count) > 0.5)


def _mean(values: np.ndarray, label: np.ndarray, count: int) -> np.ndarray:
    """Average the values of each label."""
    return np.bincount(label, values, minlength=count) / np.maximum(1, np.bincount(label, minlength=count))


def _is_long(branches: _Branches) -> np.ndarray:
    reach, width = branches.reach, branches.width
    shape = (reach >= MIN_BRANCH) & (reach >= SLENDER * width) & (width <= MAX_WIDTH) & branches.straight
    long: np.ndarray = shape & ~branches.framed & (branches.strength >= np.where(reach > SURE, FAINT, STRONG))
    long[0] = False
    return long


def _company(branches: _Branches, long: np.ndarray, skeleton: np.ndarray, unit: float) -> np.ndarray:
    """Return the share of the skeleton around each branch that is long: high among hair, low in pigment network."""
    size = (2 * round(AROUND * unit) + 1,) * 2
    part, whole = (cv2.boxFilter(plane, cv2.CV_32F, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
                   for plane in (branches.drawn(long), skeleton))
    share = part.ravel()[branches.pixels] / np.maximum(whole.ravel()[branches.pixels], 1)
    return _mean(share, branches.label, len(long))


def _body(branches: _Branches, hair: np.ndarray, unit: float) -> np.ndarray:
    """Widen the branches that are hair to its body; drop groups that are short altogether (H x W uint8)."""
    thin = cv2.dilate(branches.drawn(hair & (branches.width < THIN)), disc(2 * THIN * unit + 1))
    thick = cv2.dilate(branches.drawn(hair & (branches.width >= THIN)), disc(2 * NEAR * unit + 1))
    count, group = cv2.connectedComponents(cv2.dilate(branches.drawn(hair), disc(2 * NEAR * unit + 1)))
    chosen = hair[branches.label]
    pixels, label = branches.pixels[chosen], branches.label[chosen]
    total = np.bincount(group.ravel()[pixels], branches.times[label], minlength=count)
    good = (total >= MIN_LENGTH * unit).astype(np.uint8)
    return np.asarray(cv2.bitwise_or(thin, thick) & good[group])


def _without_spurs(skeleton: np.ndarray, spur: float) -> np.ndarray:
    """Drop the dead ends shorter than `spur`."""
    arms = _arms(skeleton)
    branches: np.ndarray = skeleton & (arms <= 2)
    pixels = np.flatnonzero(branches > 0)
    label = cv2.connectedComponents(branches)[1].ravel()[pixels]
    ends = np.bincount(label, arms.ravel()[pixels] == 1)
    drop = (np.bincount(label) < spur) & (ends > 0)
    pruned: np.ndarray = skeleton.copy()
    pruned.ravel()[pixels[drop[label]]] = 0
    return pruned


def _arms_of(code: int) -> int:
    """Count the lines that leave a pixel whose eight neighbours, clockwise, are the bits of `code`."""
    bits = [code >> i & 1 for i in range(8)]
    in_block = any(bits[i] and bits[i + 1] and bits[(i + 2) % 8] for i in (0, 2, 4, 6))  # 2 x 2: where lines cross
    return 3 if in_block else sum(bits[i] < bits[(i + 1) % 8] for i in range(8))


_NEIGHBOURS = np.array([[1, 2, 4], [128, 0, 8], [64, 32, 16]], np.float32)  # bit values, clockwise from top left
_ARMS = np.array([_arms_of(code) for code in range(256)], np.uint8)


def _arms(skeleton: np.ndarray) -> np.ndarray:
    """Return 1 at ends of the skeleton, 2 along lines, 3 or more at forks, 0 elsewhere (H x W uint8)."""
    code = cv2.filter2D(skeleton, -1, _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT)
    return cv2.multiply(cv2.LUT(code, _ARMS), skeleton)


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


_METHODS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {"along": _find_along, "letter": _find_letter}

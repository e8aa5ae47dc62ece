"""Tell hair from what is merely dark and thin, branch by branch of the skeleton (Lee et al. 1997, verification; D18)."""
from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from data_tools.hair_fill import disc

# Lengths are pixels of a picture whose longer side has 640 pixels, and scale with it by `unit`.
SPUR = 6                  # D18: shorter dead ends of the skeleton are roughness of the edge
MIN_BRANCH = 16           # D18: a shorter branch is hair by company alone
REACH, UPTO = 0.2, 100    # D18: evidence of hair is a branch's mean contrast and this share of its length, of UPTO at most
FAINT = 18                # D18: mean contrast that ink and vessels, bright in one channel, do not reach
LONG = 32                 # D18: a branch with so much evidence is company
AMONG = 28                # D18: company all around is as good as so much evidence
ENOUGH = 44               # D18: a branch with so much is hair
STRONG = 25               # D18: mean contrast of a branch that is hair by company alone
STRAIGHT = 0.8            # D18: a branch spans this share of its length (of BEND at most)
BEND = 45
SLENDER = 3               # D18: length / width of a branch
MAX_WIDTH = 14
CUT = 5                   # D18: a hair cut off by the picture's edge goes on outside: its length counts this often
STUB, STUB_STRENGTH = 30, 70  # D18: ... and this often with such a contrast, as little of it may be inside
FRAME = 2                 # D18: px; a line along the picture's edge is a frame, not hair
AROUND = 40               # D18: half window in which hair and tangle are compared
COMPANY = 0.2             # D18: ... this share of the skeleton around it is long, straight and strong
THIN = 5                  # D18: narrower hair lies this near to its skeleton
NEAR = 8                  # D18: ... and wider hair this near; gaps up to twice this are one hair
MIN_LENGTH = 30           # D18: all branches of a hair together


def thin_and_long(candidates: np.ndarray, contrast: np.ndarray, unit: float) -> np.ndarray:
    """Verify candidates branch by branch of their skeleton; return H x W uint8, 1 around what is hair (D18).

    A slender and straight branch is hair by its contrast, its length and the hair around it together; another one where
    it is strong and there is hair around it.
    """
    skeleton = _skeleton(candidates, unit)
    branches = _measure(skeleton, candidates, contrast, unit)
    slender = _is_slender(branches)
    evidence = branches.strength + REACH * np.minimum(branches.reach, UPTO)
    company = _company(branches, slender & (evidence >= LONG), skeleton, unit)
    short = (company > COMPANY) & (branches.strength >= STRONG) & ~branches.framed
    hair = np.where(slender, evidence + AMONG * company >= ENOUGH, short)
    hair[0] = False
    return _body(branches, hair, unit)


class _Branches(NamedTuple):
    """The pieces of a skeleton between ends and forks; label 0 is where there is none; lengths are in units."""

    labels: np.ndarray    # H x W
    pixels: np.ndarray    # N flat indices
    label: np.ndarray     # N, their labels
    times: np.ndarray     # one value a label, here and below: CUT or STUB where cut off by the edge, else 1
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
    strength = _mean(contrast.ravel()[pixels], label, count)
    cut = _mean(edge < MAX_WIDTH * unit / 2, label, count) > 0
    times = np.where(cut, np.where(strength >= STUB_STRENGTH, STUB, CUT), 1)
    length = stats[:, cv2.CC_STAT_AREA]
    span = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    return _Branches(
        labels=labels, pixels=pixels, label=label, times=times, reach=length * times / unit,
        width=2 * _mean(half_width, label, count) / unit,
        straight=span >= STRAIGHT * np.minimum(length, BEND * unit),
        strength=strength, framed=(_mean(edge < FRAME, label, count) > 0.5) & (length > SPUR * unit))


def _mean(values: np.ndarray, label: np.ndarray, count: int) -> np.ndarray:
    """Average the values of each label."""
    return np.bincount(label, values, minlength=count) / np.maximum(1, np.bincount(label, minlength=count))


def _is_slender(branches: _Branches) -> np.ndarray:
    reach, width = branches.reach, branches.width
    shape = (reach >= MIN_BRANCH) & (reach >= SLENDER * width) & (width <= MAX_WIDTH) & branches.straight
    return np.asarray(shape & ~branches.framed & (branches.strength >= FAINT))


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


def _skeleton(candidates: np.ndarray, unit: float) -> np.ndarray:
    """Thin candidates to lines of 1 px that reach the picture's edge (H x W uint8)."""
    from skimage.morphology import skeletonize  # takes half a second, which only the processes that look for hair shall cost

    pad = round(MAX_WIDTH * unit / 2)
    inner = slice(pad, -pad or None)
    padded = cv2.copyMakeBorder(candidates, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    lines: np.ndarray = skeletonize(padded > 0)  # type: ignore[no-untyped-call]
    return _without_spurs(lines[inner, inner].astype(np.uint8), SPUR * unit)


def _without_spurs(skeleton: np.ndarray, spur: float) -> np.ndarray:
    """Drop the dead ends shorter than `spur`."""
    arms = _arms(skeleton)
    branches: np.ndarray = skeleton & (arms <= 2)
    pixels = np.flatnonzero(branches > 0)
    label = cv2.connectedComponents(branches)[1].ravel()[pixels]
    arms[[0, -1]] = arms[:, [0, -1]] = 0  # what the picture's edge cuts off goes on outside
    ends = np.bincount(label, arms.ravel()[pixels] == 1)
    cut = np.bincount(label, arms.ravel()[pixels] == 0)
    drop = (np.bincount(label) < spur) & (ends > 0) & (cut == 0)
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

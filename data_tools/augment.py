"""The paper's augmentation (section 2.1): quarter turns, a horizontal flip, five patches. Pure functions of arrays."""
from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from data_tools.errors import DataError

SIZE = 256                # D03
PATCH_SIZE = 224          # D03
ROTATIONS = (0, 90, 180)  # D01
CORNERS = ("tl", "tr", "bl", "br")
PATCHES: Dict[str, Tuple[str, ...]] = {  # D02
    "five": (*CORNERS, "centre"),
    "centre": ("centre",),
    "whole": ("whole",),
}
# A quarter turn is a transpose and a flip, which the horizontal flip changes: (degrees, flip) -> code of cv2.flip.
_FLIPS = {(0, False): None, (90, False): 0, (180, False): -1, (270, False): 1,
          (0, True): 1, (90, True): -1, (180, True): 0, (270, True): None}


def picture_side(patch: int) -> int:
    """Return the side that a picture is resized to before patches of a side are cut out: 256 for 224, in proportion (D03)."""
    return round(patch * SIZE / PATCH_SIZE)


class Variant(NamedTuple):
    """One way to make a record of a picture: turn counter-clockwise by `degrees`, then flip, then cut a patch."""

    degrees: int
    flip: bool
    patch: str

    @property
    def name(self) -> str:
        """Short name for record keys, such as ``r090_flip_tl``."""
        return f"r{self.degrees:03d}_{'flip' if self.flip else 'keep'}_{self.patch}"


def variants(rotations: Sequence[int], flip: bool, patches: str) -> List[Variant]:
    """List every combination; the paper's (D01, D02) are 3 rotations x 2 flips x 5 patches = 30 a picture."""
    wrong = [degrees for degrees in rotations if degrees not in (0, 90, 180, 270)]
    if wrong or len(set(rotations)) != len(rotations) or not rotations:
        raise DataError(f"rotations {','.join(map(str, rotations))}: expected different ones of 0, 90, 180, 270")
    return [Variant(degrees, flipped, patch)
            for degrees in rotations for flipped in ((False, True) if flip else (False,)) for patch in PATCHES[patches]]


def resize_square(image: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Resize a whole picture to a square without keeping its aspect (D03).

    Parameters
    ----------
    image : ndarray
        H x W x 3 uint8, BGR.
    size : int
        Side of the result.

    Returns
    -------
    ndarray
        size x size x 3 uint8, BGR; area averaging when the picture shrinks, linear interpolation when it grows.
    """
    if image.shape[:2] == (size, size):
        return image
    shrinks = image.shape[0] > size or image.shape[1] > size
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def apply(square: np.ndarray, variant: Variant, patch_size: int = PATCH_SIZE) -> np.ndarray:
    """Make one record's picture.

    Parameters
    ----------
    square : ndarray
        S x S x 3 uint8, BGR.
    variant : Variant
        What to do; the patch ``whole`` keeps the full S x S.
    patch_size : int
        Side of the other patches, at most S.

    Returns
    -------
    ndarray
        A contiguous copy, patch_size x patch_size x 3 (or S x S x 3) uint8, BGR.
    """
    side = square.shape[0] if variant.patch == "whole" else patch_size
    y, x = _source_corner(square.shape[0], side, variant)
    patch = square[y:y + side, x:x + side]
    turned, code = cv2.transpose(patch) if variant.degrees in (90, 270) else patch, _FLIPS[variant.degrees, variant.flip]
    turned = turned if code is None else cv2.flip(turned, code)
    return np.array(patch, order="C") if turned is patch else np.asarray(turned)


def _source_corner(size: int, side: int, variant: Variant) -> Tuple[int, int]:
    """Return (y, x) of a patch before turning and flipping; to turn a patch is quicker than to cut a turned picture.

    A quarter turn counter-clockwise takes the patch at (x, far - y) to (y, x).
    """
    far = size - side
    y, x = patch_offset(size, side, variant.patch)
    if variant.flip:
        x = far - x
    for _ in range(variant.degrees // 90):
        y, x = x, far - y
    return y, x


def patch_offset(size: int, patch_size: int, patch: str) -> Tuple[int, int]:
    """Return (y, x) of a patch's top left pixel; the centre is rounded down as by Caffe's own centre crop."""
    far = size - patch_size
    if patch == "centre":
        return far // 2, far // 2
    return far * (patch[0] == "b"), far * (patch[1] == "r")

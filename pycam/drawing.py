"""Draw maps and boxes on pictures."""
from typing import Tuple

import cv2
import numpy as np

from .regions import Box

OVERLAY = 0.7  # weight of the colour where a map is at its top
Colour = Tuple[int, int, int]  # BGR
WHITE, DARK = (255, 255, 255), (30, 30, 30)


def overlay(image: np.ndarray, cam: np.ndarray, top: float) -> np.ndarray:
    """Lay a map in colour over its picture; where the map is not positive the picture stays as it is.

    Parameters
    ----------
    image : ndarray
        H x W x 3 uint8 BGR.
    cam : ndarray
        H x W float.
    top : float
        Value of the strongest colour: use one for all maps of a picture, so that they can be compared.

    Returns
    -------
    ndarray
        H x W x 3 uint8 BGR.
    """
    level = np.clip(cam / top, 0, 1) if top > 0 else np.zeros(cam.shape)
    colours = cv2.applyColorMap(np.rint(level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    weight = OVERLAY * level[..., None]
    return np.asarray(np.rint(image * (1 - weight) + colours * weight), np.uint8)


def outline(image: np.ndarray, box: Box) -> np.ndarray:
    """Return a copy of an H x W x 3 picture with a box drawn on it: white on a dark edge, seen on any skin."""
    drawn: np.ndarray = image.copy()
    for colour, thickness in ((DARK, 4), (WHITE, 2)):
        cv2.rectangle(drawn, (box.x0 + 2, box.y0 + 2), (box.x1 - 3, box.y1 - 3), colour, thickness)
    return drawn


def contour(image: np.ndarray, region: np.ndarray, colour: Colour = WHITE) -> np.ndarray:
    """Return a copy of an H x W x 3 picture with the outlines of a region (H x W bool) drawn on it, on a dark edge."""
    drawn: np.ndarray = image.copy()
    lines = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2]
    for shade, thickness in ((DARK, 3), (colour, 1)):
        cv2.drawContours(drawn, lines, -1, shade, thickness, cv2.LINE_AA)
    return drawn

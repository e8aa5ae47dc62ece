"""Show what hair removal did: the picture, the hair found and the clean picture side by side."""
from __future__ import annotations

import cv2
import numpy as np

MARK = (0, 255, 0)  # BGR of the hair found
GAP = 8             # px of white between the panels
WIDTH = 640         # px, of one panel at most


def preview_sheet(image: np.ndarray, clean: np.ndarray, mask: np.ndarray, *, width: int = WIDTH) -> np.ndarray:
    """Put before, hair found and after beside each other.

    Parameters
    ----------
    image, clean : ndarray, H x W x 3 uint8, BGR
        The picture and what `data_tools.hair.remove_hair` made of it.
    mask : ndarray, H x W bool
        The hair it found; drawn in green.
    width : int
        Largest width of one panel in pixels; smaller pictures keep their size.

    Returns
    -------
    ndarray, h x (3 w + 2 GAP) x 3 uint8, BGR
        The sheet, w = min(W, width) and h in proportion.
    """
    marked = image.copy()
    marked[mask] = MARK
    factor = min(1.0, width / image.shape[1])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    panels = [cv2.resize(panel, size, interpolation=cv2.INTER_AREA) for panel in (image, marked, clean)]
    white = np.full((size[1], GAP, 3), 255, np.uint8)
    return np.hstack([panels[0], white, panels[1], white, panels[2]])

"""Boxes for control experiments: of a region's size but elsewhere, or of the whole picture (D09).

A gain of stage 2 is the regions' only if boxes that know nothing of the maps do not give it too.
"""
import zlib
from typing import Tuple

import numpy as np

from ..regions import Box, Region

CONTROLS = ("whole", "centre", "random")


def elsewhere(region: Region, size: Tuple[int, int], control: str, image_id: str) -> Region:
    """Replace a region's box.

    Parameters
    ----------
    region : Region
        What the map shows.
    size : (int, int)
        Height and width of the picture.
    control : str
        ``whole``: the whole picture; ``centre``: a box of the region's size in the middle; ``random``: one anywhere, drawn by the
        image id, so that it is the same in every run.
    image_id : str
        The picture's name.

    Returns
    -------
    Region
        With the name of the control as its reason.
    """
    if control == "whole":
        return Region(Box(0, 0, *size), control)
    room = np.subtract(size, region.box.size)
    if control == "random":
        y, x = np.random.RandomState(zlib.crc32(image_id.encode())).randint(0, room + 1)
    else:
        y, x = room // 2
    height, width = region.box.size
    return Region(Box(int(y), int(x), int(y) + height, int(x) + width), control)

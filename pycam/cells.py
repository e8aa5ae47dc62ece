"""Where the cells of a map lie in its picture: what a network knows, and smooth maps to be drawn."""
from typing import NamedTuple, Tuple

import cv2
import numpy as np

from data_tools.augment import patch_offset

from .cam import PLACEMENT, VGG_GAP, Grid, cell_centres
from .preprocess import view_variants
from .regions import Box


class Cells(NamedTuple):
    """Rows and columns of cells in pixels of the picture: centre of the first, distance, how many; height first."""

    first: Tuple[float, float]
    pitch: Tuple[float, float]
    cells: Tuple[int, int]

    def box(self, size: Tuple[int, int]) -> Box:
        """Return the area that the cells cover, in a picture of a height and width: half a cell around the outermost centres."""
        low = [max(0, round(first - pitch / 2 + 0.5)) for first, pitch in zip(self.first, self.pitch)]
        high = [min(side, round(first + (count - 0.5) * pitch + 0.5))
                for first, pitch, count, side in zip(self.first, self.pitch, self.cells, size)]
        return Box(low[0], low[1], high[0], high[1])

    def smooth(self, cam: np.ndarray) -> np.ndarray:
        """Interpolate a map (H x W float), linear between its cells, by cubics instead: the same values at the centres.

        It is for the eye: regions are cut from the map as it is (D09).
        """
        rows, columns = (np.float32(first) + np.float32(pitch) * np.arange(count, dtype=np.float32)
                         for first, pitch, count in zip(*self))
        values = _sample(cam.astype(np.float32), rows, columns, cv2.INTER_LINEAR)
        down, across = ((np.arange(length, dtype=np.float32) - np.float32(first)) / np.float32(pitch)
                        for length, first, pitch in zip(cam.shape, self.first, self.pitch))
        return _sample(values, down, across, cv2.INTER_CUBIC)


def _sample(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, how: int) -> np.ndarray:
    across, down = np.meshgrid(columns, rows)
    return np.asarray(cv2.remap(values, across, down, how, borderMode=cv2.BORDER_REPLICATE))


def lay(shape: Tuple[int, int], size: Tuple[int, int], views: str = "centre", placement: str = PLACEMENT, grid: Grid = VGG_GAP
        ) -> Cells:
    """Return the cells of a picture's map.

    Parameters
    ----------
    shape, size : (int, int)
        Rows and columns of the map of one view; height and width of the picture.
    views, placement, grid
        As in `pycam.cam.merge`; several views cover what their patches cover together.
    """
    offsets = np.array([patch_offset(grid.size, grid.patch, variant.patch) for variant in view_variants(views)])
    found = []
    for axis in (0, 1):
        centres = cell_centres(shape[axis], placement, grid)
        pitch = (centres[-1] - centres[0]) / max(shape[axis] - 1, 1) or grid.pitch
        low, high = centres[0] + offsets[:, axis].min(), centres[-1] + offsets[:, axis].max()
        scale = size[axis] / grid.size  # pixels of the picture for one of the square
        found.append(((low + 0.5) * scale - 0.5, pitch * scale, round((high - low) / pitch) + 1))
    (y, down, rows), (x, across, columns) = found
    return Cells((float(y), float(x)), (float(down), float(across)), (rows, columns))

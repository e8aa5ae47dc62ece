"""Class activation maps: equations 1 and 2 of the paper, and where their cells lie in the picture."""
from typing import Tuple

import numpy as np

from data_tools.augment import PATCH_SIZE, SIZE, patch_offset

CELL_PITCH = 16  # input pixels from one map cell to the next: four 2x2/2 poolings
PATCH_OFFSET = patch_offset(SIZE, PATCH_SIZE, "centre")[0]  # of the centre patch in the resized picture
PLACEMENTS = ("exact", "stretch")  # D16


def class_maps(features: np.ndarray, fc_weights: np.ndarray) -> np.ndarray:
    """Weight the features of the last convolution into one map a class (paper, equation 2).

    M_c(x, y) = sum_k w_k^c f_k(x, y). The bias is not in the map (D08), so ``maps.mean() + bias_c`` is the score of
    class c before the softmax (equation 1), since the features are averaged before the last layer.

    Parameters
    ----------
    features : ndarray
        N x K x h x w float, after the ReLU.
    fc_weights : ndarray
        C x K float.

    Returns
    -------
    ndarray
        N x C x h x w, of the features' dtype.
    """
    maps: np.ndarray = np.einsum("ck,nkhw->nchw", fc_weights, features, optimize=True)
    return maps


def cell_centres(cells: int, placement: str = "exact") -> np.ndarray:
    """Return where the centres of a row of map cells lie in the 224-pixel patch (D16).

    The cells are spread evenly about the middle of the patch, `CELL_PITCH` apart. For the ten cells of VGG-GAP this
    gives 16 (i + 2) + 7.5: each of the two unpadded convolutions takes one cell off either end of a row of fourteen.
    ``stretch`` spreads them over the whole patch instead, as plain resizing of the map does.

    Parameters
    ----------
    cells : int
        Length of the map's row or column.
    placement : str
        ``exact`` or ``stretch``.

    Returns
    -------
    ndarray
        cells float64, pixel coordinates (0 is the centre of the first pixel).
    """
    pitch = CELL_PITCH if placement == "exact" else PATCH_SIZE / cells
    centres: np.ndarray = (PATCH_SIZE - 1) / 2 + pitch * (np.arange(cells) - (cells - 1) / 2)
    return centres


def _row_weights(cells: int, length: int, placement: str) -> np.ndarray:
    """Return the length x cells matrix that interpolates a row of cells at the pixels of a picture's side."""
    pixels = (np.arange(length) + 0.5) * SIZE / length - 0.5 - PATCH_OFFSET  # in the patch's coordinates
    centres = cell_centres(cells, placement)
    return np.stack([np.interp(pixels, centres, unit) for unit in np.eye(cells)], axis=1)


def place(cam: np.ndarray, size: Tuple[int, int], placement: str = "exact") -> np.ndarray:
    """Lay a map of the centre patch over the original picture.

    The way back through the centre patch and the 256-pixel resize is followed exactly. Between cell centres the map
    is interpolated linearly; outside the outermost centres, where the network gives no map, the nearest value is
    repeated: a zero there would invent an edge.

    Parameters
    ----------
    cam : ndarray
        h x w float, or C x h x w for several classes.
    size : (int, int)
        Height and width of the original picture.
    placement : str
        ``exact`` or ``stretch`` (D16).

    Returns
    -------
    ndarray
        float32, cam's leading shape with the picture's height and width.
    """
    rows = _row_weights(cam.shape[-2], size[0], placement)
    columns = _row_weights(cam.shape[-1], size[1], placement)
    placed: np.ndarray = (rows @ cam @ columns.T).astype(np.float32)
    return placed

"""Class activation maps: equations 1 and 2 of the paper, and where their cells lie in the picture."""
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from data_tools.augment import PATCH_SIZE, SIZE, Variant, patch_offset
from data_tools.isic import CLASSES
from torchcaffe.netparam import read_net

from .errors import CamError
from .parts import CAM_BLOB, INPUT_BLOB
from .preprocess import view_variants

PLACEMENTS = ("exact", "stretch", "fade")  # D16, D21
PLACEMENT = "fade"  # D26
BLENDS = ("sum", "envelope", "contrast")  # rules by which all classes have a part
CLASS_RULES = ("predicted", "true", "max", "scored", *BLENDS)  # D09, D21
SCORED = 2  # melanoma and seborrheic keratosis, which the challenge scores


class Grid(NamedTuple):
    """Where the cells of a map look.

    Attributes
    ----------
    first, pitch : float
        Input pixel of the first cell's centre, and pixels from one cell to the next.
    patch, size : int
        Side of the network's input, and of the square that a whole picture is resized to before that is cut from it.
    """

    first: float
    pitch: float
    patch: int = PATCH_SIZE
    size: int = SIZE


VGG_GAP = Grid(39.5, 16)  # what `read_grid` finds for its 10 x 10 cells: the middle of input pixels 32 ... 47, then 16 on


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


def select(rule: str, cams: np.ndarray, probs: np.ndarray, label: Optional[int] = None,
           classes: Sequence[str] = CLASSES) -> Tuple[np.ndarray, str]:
    """Return the map that a region is sought in, and whose it is (D09, D21).

    Parameters
    ----------
    rule : str
        One class: ``predicted``, the most probable; ``true``, the label, which leaks it into the crop; ``max``, whose
        map reaches highest; ``scored``, the more probable of melanoma and seborrheic keratosis, as the map of a nevus
        tends to cover everything. All classes: ``sum``; ``envelope``, the highest at each place; ``contrast``, the
        predicted class less the mean of the others, which alone is what a softmax can see.
    cams : ndarray
        ... x C x h x w.
    probs : ndarray
        C.
    label : int, optional
        True class, for ``true``.
    classes : sequence of str
        Names of the C classes; ``true`` and ``scored`` are for the challenge's alone.

    Returns
    -------
    map : ndarray
        ... x h x w.
    name : str
        A class name, or the rule where all classes have a part.
    """
    if rule in ("sum", "envelope"):
        return (cams.sum(axis=-3) if rule == "sum" else cams.max(axis=-3)), rule
    if rule in ("true", "scored") and tuple(classes) != CLASSES:
        raise CamError(f"class {rule}: is for {', '.join(CLASSES)}; the network has other classes, choose predicted")
    if rule == "true" and label is None:
        raise CamError("class true: the true class is not known; give the label file, or choose predicted")
    by_class = np.moveaxis(cams, -3, 0)
    best = int(np.argmax(probs))
    if rule == "contrast":
        others = [other for other in range(len(by_class)) if other != best]
        return by_class[best] - by_class[others].mean(axis=0), rule
    number = {"predicted": best, "true": label, "scored": int(np.argmax(probs[:SCORED])),
              "max": int(np.argmax(by_class.reshape(len(by_class), -1).max(axis=1)))}[rule]
    return by_class[number], classes[number or 0]


def read_grid(path: Path, features: str = CAM_BLOB, data: str = INPUT_BLOB) -> Grid:
    """Read from a deploy prototxt where the cells of a blob look (D16).

    Cell i of a layer with kernel k, stride s and padding p looks at cells s i - p ... s i - p + k - 1 below it, so its
    centre is at s i + (k - 1) / 2 - p there. Carried from the input upward through every convolution and pooling,
    this gives the first centre and the pitch. Where a pooling's last window reaches beyond its input, Caffe cuts the
    window; its centre is still counted as that of a whole one. What a global pooling computes has no place.

    Raises
    ------
    CamError
        When there is no such blob, when branches that are joined look at different places, a layer's cells lie otherwise
        along rows than along columns, or the input is not square.
    """
    grids: Dict[str, Grid] = {data: Grid(0.0, 1.0)}
    for layer in read_net(str(path)).layer:
        below = {grids[name] for name in layer.bottom if name in grids}
        if features in grids and features not in layer.top:
            break
        if layer.type == "Input" and data in layer.top:
            grids[data] = Grid(0.0, 1.0, _side(path, layer, data))
        if len(below) > 1:
            raise CamError(f"{path}: layer {layer.name} joins branches whose cells look at different places")
        for grid in below:
            if not (layer.type == "Pooling" and layer.pooling_param.global_pooling):
                grids.update(dict.fromkeys(layer.top, _carry(layer, grid)))
    if features not in grids:
        raise CamError(f"{path}: no blob {features} whose cells have a place in {data}; name a convolution with --cam-layer")
    return grids[features]


def _side(path: Path, layer: Any, data: str) -> int:
    """Return the side of the input."""
    shape = list(layer.input_param.shape[list(layer.top).index(data) % len(layer.input_param.shape)].dim)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise CamError(f"{path}: {data} is {' x '.join(map(str, shape))}; expected N x 3 x S x S, square colour pictures")
    return int(shape[2])


def _carry(layer: Any, grid: Grid) -> Grid:
    """Return the grid of a layer's output from that of its input."""
    if layer.type in ("Deconvolution", "Crop", "Im2col"):
        raise CamError(f"layer {layer.name}: maps are not placed through {layer.type} layers; name an earlier --cam-layer")
    if layer.type not in ("Convolution", "Pooling"):
        return grid
    window = layer.convolution_param if layer.type == "Convolution" else layer.pooling_param
    steps = set()
    for axis, suffix in enumerate("hw"):
        kernel, stride, pad = (_along(window, name, suffix, axis) for name in ("kernel", "stride", "pad"))
        dilation = _along(window, "dilation", suffix, axis) or 1 if layer.type == "Convolution" else 1
        steps.add(((dilation * (kernel - 1)) / 2 - pad, stride or 1))
    if len(steps) > 1 or not kernel:
        raise CamError(f"layer {layer.name}: expected a square kernel_size; maps are placed for square windows only")
    (shift, stride), = steps
    return grid._replace(first=grid.first + grid.pitch * shift, pitch=grid.pitch * stride)


def _along(window: Any, name: str, suffix: str, axis: int) -> int:
    """Return a window's kernel, stride, padding or dilation along one axis; 0 where it is not given."""
    own = getattr(window, f"{name}_{suffix}", 0)
    plain = getattr(window, "kernel_size" if name == "kernel" else name)
    values = [plain] if isinstance(plain, int) else list(plain) or [0]
    return int(own or values[axis % len(values)])


def cell_centres(cells: int, placement: str = "exact", grid: Grid = VGG_GAP) -> np.ndarray:
    """Return where the centres of a row of map cells lie in the patch, the network's input (D16).

    For VGG-GAP this gives 16 (i + 2) + 7.5: each of the two unpadded convolutions takes one cell off either end of a
    row of fourteen. ``stretch`` spreads the cells over the whole patch instead, as plain resizing of the map does.

    Parameters
    ----------
    cells : int
        Length of the map's row or column.
    placement : str
        ``exact`` or ``stretch``.
    grid : Grid
        Of the network, from `read_grid`.

    Returns
    -------
    ndarray
        cells float64, pixel coordinates (0 is the centre of the first pixel).
    """
    if placement != "stretch":
        return np.asarray(grid.first + grid.pitch * np.arange(cells))
    return np.asarray((grid.patch - 1) / 2 + grid.patch / cells * (np.arange(cells) - (cells - 1) / 2))


def row_weights(pixels: np.ndarray, cells: int, placement: str, grid: Grid) -> np.ndarray:
    """Return the pixels x cells matrix that interpolates a row of cells at some pixels of the patch.

    Beyond the outermost centres the nearest value is repeated, or falls to 0 at the next cell where `placement` is ``fade``.
    """
    centres, units = cell_centres(cells, placement, grid), np.eye(cells)
    if placement == "fade":
        centres = np.concatenate([centres[:1] - grid.pitch, centres, centres[-1:] + grid.pitch])
        units = np.pad(units, ((0, 0), (1, 1)))
    return np.stack([np.interp(pixels, centres, unit) for unit in units], axis=1)


def square_pixels(length: int, size: int = SIZE) -> np.ndarray:
    """Return where the pixels of a picture's side lie in the picture resized to a square."""
    return np.asarray((np.arange(length) + 0.5) * size / length - 0.5)


def place(cam: np.ndarray, size: Tuple[int, int], placement: str = PLACEMENT, grid: Grid = VGG_GAP) -> np.ndarray:
    """Lay a map of the centre patch over the original picture.

    The way back through the centre patch and the resize to a square is followed exactly. Between cell centres the map
    is interpolated linearly. Beyond the outermost centres, where the network gives no map, ``fade`` lets it fall to zero
    within one cell, so that a region does not reach the picture's edge only because it reaches the outermost cell;
    ``exact`` and ``stretch`` repeat the nearest value.

    Parameters
    ----------
    cam : ndarray
        h x w float, or C x h x w for several classes.
    size : (int, int)
        Height and width of the original picture.
    placement : str
        ``exact``, ``stretch`` (D16) or ``fade`` (D26).
    grid : Grid
        Of the network, from `read_grid`.

    Returns
    -------
    ndarray
        float32, cam's leading shape with the picture's height and width.
    """
    offset = patch_offset(grid.size, grid.patch, "centre")[0]
    rows, columns = (row_weights(square_pixels(length, grid.size) - offset, cells, placement, grid)
                     for length, cells in zip(size, cam.shape[-2:]))
    placed: np.ndarray = (rows @ cam @ columns.T).astype(np.float32)
    return placed


def merge(cams: np.ndarray, size: Tuple[int, int], placement: str = PLACEMENT, grid: Grid = VGG_GAP) -> np.ndarray:
    """Lay the maps of all views of a picture over it: un-mirrored, each on its patch, and summed (D17).

    This is how the CAM authors' program merges its ten crops, except that it sums sizes without signs, by which
    strong evidence against a class would count for it. Like theirs, a view adds nothing outside its patch. One view
    is placed by `place`.

    Parameters
    ----------
    cams : ndarray
        V x h x w or V x C x h x w, in the order of `pycam.preprocess.views`; V is 1 or 10.
    size, placement, grid
        As in `place`.

    Returns
    -------
    ndarray
        float32 H x W, or C x H x W.
    """
    if len(cams) == 1:
        return place(cams[0], size, placement, grid)
    if len(cams) != len(view_variants("ten")):
        raise CamError(f"{len(cams)} views to merge; expected 1 or {len(view_variants('ten'))}, see pycam.preprocess.views")
    placed = np.zeros((*cams.shape[1:-2], *size), np.float32)
    for cam, variant in zip(cams, view_variants("ten")):
        rows, columns = (_view_weights(variant, axis, size[axis], cam.shape[axis - 2], placement, grid) for axis in (0, 1))
        placed += rows @ cam @ columns.T
    return placed


def _view_weights(variant: Variant, axis: int, length: int, cells: int, placement: str, grid: Grid) -> np.ndarray:
    """Return the length x cells matrix of one view along one side of the picture; zero outside its patch."""
    pixels = square_pixels(length, grid.size)
    if variant.flip and axis == 1:  # the picture is mirrored before the patch is cut
        pixels = grid.size - 1 - pixels
    pixels = pixels - patch_offset(grid.size, grid.patch, variant.patch)[axis]
    inside = (pixels > -0.5) & (pixels < grid.patch - 0.5)
    return row_weights(pixels, cells, placement, grid) * inside[:, None]

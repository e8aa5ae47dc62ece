"""From a picture to the network's input, in one place; the pixels are those of the training records (data_tools)."""
from typing import List, Sequence, Tuple

import numpy as np

from data_tools.augment import PATCH_SIZE, SIZE, Variant, apply, resize_square, variants

MEAN_BGR = (103.939, 116.779, 123.68)  # D04; the mean_value lines of prototxt/ hold the same numbers
VIEWS = {"centre": 1, "ten": 10}  # D17: patches a picture


def view_variants(which: str = "centre") -> List[Variant]:
    """List the test-time views, ``centre`` or ``ten``, in the order of `views`."""
    ten = which == "ten"
    return variants((0,), flip=ten, patches="five" if ten else "centre")


def views(image: np.ndarray, which: str = "centre", *, size: int = SIZE, patch: int = PATCH_SIZE) -> List[np.ndarray]:
    """Cut the test-time views out of a picture (D17).

    Parameters
    ----------
    image : ndarray
        H x W x 3 uint8, BGR; the whole picture is resized to a square first (D03).
    which : str
        ``centre``: the centre patch; ``ten``: four corners and centre, and the same five of the mirrored picture.
    size, patch : int
        Sides of that square and of the patches.

    Returns
    -------
    list of ndarray
        1 or 10 patches, patch x patch x 3 uint8, BGR.
    """
    square = resize_square(image, size)
    return [apply(square, variant, patch) for variant in view_variants(which)]


def to_blob(patches: Sequence[np.ndarray], mean: Tuple[float, ...] = MEAN_BGR, scale: float = 1) -> np.ndarray:
    """Turn N patches (h x w x 3 uint8 BGR) into the network's input: N x 3 x h x w float32, less the mean (D04), scaled."""
    batch = (np.stack(patches).astype(np.float32) - np.array(mean, np.float32)) * np.float32(scale)
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))

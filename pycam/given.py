"""What callers of ``import pycam`` give: pictures, maps, classes, one or several; what cannot be meant is refused."""
from typing import Any, List, Sequence, Union

import numpy as np

from data_tools.errors import unknown

from .errors import CamError
from .forward import BATCH
from .preprocess import VIEWS

COLOURS = ("bgr", "rgb")
READ = "read files with pycam.read_image"


def as_given(results: Any, given: Any) -> Any:
    """Return one result for one array, all of them for a list."""
    return results[0] if isinstance(given, np.ndarray) else results


def ordered(image: np.ndarray, colour: str) -> np.ndarray:
    """Convert a BGR picture to the requested channel order, or back."""
    if colour not in COLOURS:
        raise CamError(f"colour {unknown(str(colour), COLOURS)}")
    return image if colour == "bgr" else np.ascontiguousarray(image[..., ::-1])


def pictures(images: Any, colour: str) -> List[np.ndarray]:
    """Return a picture, or a list of pictures, as a list with blue first."""
    given = list(images) if isinstance(images, (list, tuple)) else [images]
    if not given:
        raise CamError("an empty list; expected one picture at least")
    return [ordered(picture(image), colour) for image in given]


def picture(image: Any) -> np.ndarray:
    """Return what is a picture, H x W x 3 uint8; say what is wrong with anything else."""
    if not isinstance(image, np.ndarray):
        raise CamError(f"found {type(image).__name__}, expected a picture as an array H x W x 3 of uint8; {READ}")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
        raise CamError(f"found an array {' x '.join(map(str, image.shape))} of {image.dtype}, expected H x W x 3 of uint8; "
                       f"{_advice(image)}")
    return image


def _advice(image: np.ndarray) -> str:
    """Return what to do with an array that is no picture."""
    axes, last = image.ndim, image.shape[-1] if image.ndim else 0
    if axes == 3 and image.shape[0] == 3 != last:
        return "its channels come first: give image.transpose(1, 2, 0)"
    if axes == 3 and last == 4:
        return "it has a channel of transparency: give image[..., :3]"
    if axes == 2:
        return "it is grey: give numpy.dstack([image] * 3)"
    if axes == 4:
        return "several pictures are given as a list, list(images)"
    return "values of 0 to 1 become (255 * image).round().astype('uint8')" if last == 3 and image.size else READ


def maps(given: Any) -> List[np.ndarray]:
    """Return a map, or a list of maps, H x W float each, as a list."""
    found = list(given) if isinstance(given, (list, tuple)) else [given]
    for cam in found:
        if not isinstance(cam, np.ndarray) or cam.ndim != 2 or cam.dtype.kind != "f" or not cam.size:
            what = f"an array {cam.shape} of {cam.dtype}" if isinstance(cam, np.ndarray) else type(cam).__name__
            raise CamError(f"found {what}, expected a map, H x W float; of class_maps give one class, maps[0], or list(maps)")
    return found


def slices(images: List[np.ndarray], views: str) -> List[List[np.ndarray]]:
    """Divide pictures into what goes through the network at a time."""
    if views not in VIEWS:
        raise CamError(f"views {unknown(str(views), VIEWS)}")
    step = max(1, BATCH // VIEWS[views])
    return [images[start:start + step] for start in range(0, len(images), step)]


def number(one: Union[str, int], classes: Sequence[str]) -> int:
    """Return the number of a class that is given by name or number."""
    if isinstance(one, str) and one in classes:
        return list(classes).index(one)
    if isinstance(one, str) or int(one) != one or not 0 <= one < len(classes):
        raise CamError(f"class {unknown(str(one), classes[:12])}; there are {len(classes)}, by name or as numbers from 0")
    return int(one)

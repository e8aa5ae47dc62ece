"""The functions of ``import pycam``: from a picture to its maps, regions, crops and scores. Arrays in, arrays out.

A picture is an array H x W x 3 of uint8 whose channels are blue, green, red, as OpenCV has them; with ``colour="rgb"`` a function
takes and gives red, green, blue, as Pillow and matplotlib have them. In the place of a picture stands a list of pictures, of
any sizes, where several are asked about; the result is then a list too. Any other array raises a
`CamError`: it says what was found and what was expected.
"""
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union, overload

import numpy as np

from data_tools import hair as dullrazor
from data_tools.augment import SIZE
from data_tools.isic import CLASSES

from . import drawing, forward, given, scoring, trained, two_stages
from .cam import PLACEMENT, merge
from .cells import lay
from .engine import Backend
from .errors import CamError
from .forward import Network
from .predictions import SCORED
from .preprocess import MEAN_BGR
from .region_rule import RegionRule, find
from .regions import CAM_THRESHOLD, CROP_MARGIN, Box, Region
from .two_stages import Answer, Stages

__all__ = ["Answer", "Box", "CamError", "Network", "Region", "Stages", "class_maps", "classify", "load_net", "load_stages",
           "locate", "overlay", "predict", "read_image", "remove_hair", "score"]

PathLike = Union[str, "os.PathLike[str]"]
Class = Union[str, int]  # name or number


def load_net(weights: PathLike, net: Optional[PathLike] = None, *, classes: Optional[Sequence[str]] = None, method: str = "auto",
             cam_layer: Optional[str] = None, fc_layer: Optional[str] = None, size: Optional[int] = None, engine: str = "auto",
             mean: Sequence[float] = MEAN_BGR, scale: float = 1.0, gpu: Optional[int] = None, precision: str = "fp32") -> Network:
    """Load a network of this project, or any Caffe network that classifies colour pictures, with its weights.

    Parameters
    ----------
    weights : path
        A ``.caffemodel``, or the folder that holds ``final.caffemodel``.
    net : path, optional
        Its deploy prototxt; left out, that of ``prototxt/`` which fits the weights.
    classes : sequence of str, optional
        Names of the classes in the order of the outputs; left out, those of ISIC-2017 where there are three, else numbers.
    method : {"auto", "cam", "gradcam"}
        How maps are made: CAM where the network ends in global average and classifier, else Grad-CAM; or always one of them.
    cam_layer, fc_layer : str, optional
        The layer that is mapped and the classifier, where those that are found in the graph are not meant.
    size : int, optional
        Side of the square whose middle the input is cut from; left out, 256, or for a network found here 8/7 of its input (D03).
    mean, scale : sequence of float, float
        What is taken off blue, green and red (0 to 255), and what they are multiplied by then.
    engine : {"auto", "caffe", "torch"}
        BVLC Caffe, torchcaffe, or the first of them that this Python has.
    gpu : int, optional
        Number of the GPU; left out, the CPU.
    precision : {"fp32", "tf32", "bf16"}
        What torchcaffe computes in.

    Returns
    -------
    Network
        For `predict` and `class_maps`; its ``classes`` are the names, its ``net`` is pycaffe's Net.

    Examples
    --------
    >>> net = pycam.load_net("models/stage1.caffemodel")
    >>> net.classes
    ('melanoma', 'seborrheic_keratosis', 'nevus')
    """
    path = Path(net) if net else two_stages.find_net(Path(weights))
    return forward.load_net(path, Path(weights), Backend(engine, gpu, precision), classes=classes, method=method,
                            cam_layer=cam_layer, fc_layer=fc_layer, size=size or (SIZE if net else None), mean=mean, scale=scale)


def load_stages(stage1: Optional[PathLike] = None, stage2: Optional[PathLike] = None, net: Optional[PathLike] = None, *,
                hair: Optional[str] = None, engine: str = "auto", gpu: Optional[int] = None, precision: str = "fp32",
                **region: Any) -> Stages:
    """Load the networks of both stages, and how the pictures of stage 2 were prepared.

    Parameters
    ----------
    stage1, stage2 : path, optional
        A ``.caffemodel`` each, or the folder that holds ``final.caffemodel``; left out, both are those of the package.
    net, engine, gpu, precision
        As in `load_net`.
    hair : {"along", "letter", "none"}, optional
        Method of hair removal; left out, that of the crops that stage 2 was trained on, which a record beside it tells.
    region
        Fields of `pycam.region_rule.RegionRule` that shall differ from the rule by which those crops were cut.

    Returns
    -------
    Stages
        For `classify`.

    Examples
    --------
    >>> stages = pycam.load_stages("models/stage1.caffemodel", "models/stage2.caffemodel", threshold=0.4)
    >>> stages.preparation.hair, stages.preparation.rule.threshold
    ('along', 0.4)
    """
    weights, backend = trained.choose(stage1, stage2), Backend(engine, gpu, precision)
    return two_stages.open_stages(*weights[:2], Path(net) if net else None, backend=backend, hair=hair, **region)


def read_image(path: PathLike, *, colour: str = "bgr") -> np.ndarray:
    """Read a picture of any format that OpenCV reads; JPEG and PNG files are checked to be complete.

    Parameters
    ----------
    path : path
        The file.
    colour : {"bgr", "rgb"}
        Order of the channels.

    Returns
    -------
    ndarray
        H x W x 3 uint8.

    Examples
    --------
    >>> image = pycam.read_image("examples/ISIC_0000225.jpg")
    >>> image.dtype, image.shape[2]
    (dtype('uint8'), 3)
    """
    return given.ordered(two_stages.read_any(Path(path)), colour)


@overload
def remove_hair(images: np.ndarray, *, method: str = "along", colour: str = "bgr") -> Tuple[np.ndarray, np.ndarray]: ...
@overload
def remove_hair(images: Sequence[np.ndarray], *, method: str = "along",
                colour: str = "bgr") -> List[Tuple[np.ndarray, np.ndarray]]: ...


def remove_hair(images: Any, *, method: str = "along", colour: str = "bgr") -> Any:
    """Find dark hair and put the skin beneath it in its place (DullRazor; D18).

    Parameters
    ----------
    images : ndarray or list of ndarray
        A picture or several, H x W x 3 uint8.
    method : {"along", "letter"}
        Measure a hair's length along its skeleton, or along straight rays as in 1997.
    colour : {"bgr", "rgb"}
        Order of the channels.

    Returns
    -------
    (ndarray, ndarray), or a list of such pairs
        The picture without hair, H x W x 3 uint8, and where hair was found, H x W bool.

    Examples
    --------
    >>> clean, mask = pycam.remove_hair(image)
    >>> clean.shape == image.shape, mask.dtype
    (True, dtype('bool'))
    """
    found = [dullrazor.remove_hair(image, method=method) for image in given.pictures(images, colour)]
    return given.as_given([(given.ordered(clean, colour), mask) for clean, mask in found], images)


def predict(net: Network, images: Union[np.ndarray, Sequence[np.ndarray]], *, views: str = "centre",
            colour: str = "bgr") -> np.ndarray:
    """Return the class probabilities of pictures by one network.

    Parameters
    ----------
    net : Network
        From `load_net`.
    images : ndarray or list of ndarray
        A picture or several, H x W x 3 uint8, prepared like those that the network was trained on: see `remove_hair`.
    views : {"centre", "ten"}
        The centre of the picture, or ten patches whose probabilities are averaged (D17).
    colour : {"bgr", "rgb"}
        Order of the channels.

    Returns
    -------
    ndarray
        C float64 for a picture, N x C for a list of N.

    Examples
    --------
    >>> probs = pycam.predict(net, image)
    >>> probs.shape, float(probs.sum().round(5))
    ((3,), 1.0)
    >>> pycam.predict(net, [image, image[:, ::-1]], views="ten").shape
    (2, 3)
    """
    pictures = given.pictures(images, colour)
    probs = np.concatenate([forward.predict(net, [net.views(image, views) for image in part])
                            for part in given.slices(pictures, views)])
    forward.check_finite([f"picture {number}" for number in range(len(pictures))], probs)
    return np.asarray(given.as_given(probs, images))


@overload
def class_maps(net: Network, images: np.ndarray, *, classes: Optional[Sequence[Class]] = None, views: str = "centre",
               placement: str = PLACEMENT, colour: str = "bgr") -> np.ndarray: ...
@overload
def class_maps(net: Network, images: Sequence[np.ndarray], *, classes: Optional[Sequence[Class]] = None,
               views: str = "centre", placement: str = PLACEMENT, colour: str = "bgr") -> List[np.ndarray]: ...


def class_maps(net: Network, images: Any, *, classes: Optional[Sequence[Class]] = None, views: str = "centre",
               placement: str = PLACEMENT, colour: str = "bgr") -> Any:
    """Return a map of each class, laid over the picture: where the network sees evidence for it (CAM, or Grad-CAM).

    Parameters
    ----------
    net, images, views, colour
        As in `predict`; the maps of ten views are summed.
    classes : sequence of str or int, optional
        Some classes, by name or number, in this order; left out, all. Of a thousand classes, name those that are wanted: a
        map takes four bytes a pixel.
    placement : {"exact", "stretch", "fade"}
        Where the map's cells lie (D16), and what is beyond the outermost ones (D26): the nearest value, or with ``fade`` nothing.

    Returns
    -------
    ndarray or list of ndarray
        C x H x W float32 for a picture of H x W. Values below 0 speak against the class.

    Examples
    --------
    >>> maps = pycam.class_maps(net, image)
    >>> maps.shape == (3, *image.shape[:2])
    True
    >>> len(pycam.class_maps(net, image, classes=["melanoma", "nevus"]))
    2
    """
    numbers = None if classes is None else [given.number(one, net.classes) for one in classes]
    found = []
    for part in given.slices(given.pictures(images, colour), views):
        forward.predict(net, [net.views(image, views) for image in part], maps=True)
        cams = forward.last_maps(net, numbers)
        for image, of_views in zip(part, cams.reshape(len(part), -1, *cams.shape[1:])):
            found.append(merge(of_views, (image.shape[0], image.shape[1]), placement, net.grid))
    return given.as_given(found, images)


@overload
def locate(maps: np.ndarray, *, rule: str = "threshold", threshold: float = CAM_THRESHOLD, ground: str = "none",
           margin: float = CROP_MARGIN) -> Region: ...
@overload
def locate(maps: Sequence[np.ndarray], *, rule: str = "threshold", threshold: float = CAM_THRESHOLD, ground: str = "none",
           margin: float = CROP_MARGIN) -> List[Region]: ...


def locate(maps: Any, *, rule: str = "threshold", threshold: float = CAM_THRESHOLD, ground: str = "none",
           margin: float = CROP_MARGIN) -> Any:
    """Return the square region that a map points to, as it is cut out for stage 2 (D09).

    Parameters
    ----------
    maps : ndarray or list of ndarray
        A map or several, H x W float, laid over its picture as by `class_maps`.
    rule : {"threshold", "released", "otsu"}
        Where the region begins: a share of the maximum, the boxes of the CAM authors' program, or Otsu's threshold.
    threshold, ground : float, {"none", "min", "median"}
        That share, and what is taken off the map first.
    margin : float
        Added on each side, as a share of the region's longer side.

    Returns
    -------
    Region or list of Region
        ``box``, which cuts a picture by ``box.cut(image)``, and ``reason``: ``region``, or why it is the whole picture.

    Examples
    --------
    >>> box, reason = pycam.locate(maps[1], threshold=0.6)
    >>> crop = box.cut(image)
    >>> crop.shape[:2] == box.size
    True
    """
    how = RegionRule(rule=rule, threshold=threshold, ground=ground, margin=margin)
    return given.as_given([find(how, cam, "").region for cam in given.maps(maps)], maps)


@overload
def overlay(images: np.ndarray, maps: np.ndarray, *, net: Optional[Network] = None, views: str = "centre",
            placement: str = PLACEMENT, top: Optional[float] = None, box: Optional[Box] = None,
            colour: str = "bgr") -> np.ndarray: ...
@overload
def overlay(images: Sequence[np.ndarray], maps: Sequence[np.ndarray], *, net: Optional[Network] = None, views: str = "centre",
            placement: str = PLACEMENT, top: Optional[float] = None, box: Optional[Box] = None,
            colour: str = "bgr") -> List[np.ndarray]: ...


def overlay(images: Any, maps: Any, *, net: Optional[Network] = None, views: str = "centre", placement: str = PLACEMENT,
            top: Optional[float] = None, box: Optional[Box] = None, colour: str = "bgr") -> Any:
    """Lay a map in colour over its picture; where the map is not positive the picture stays as it is.

    With `net`, the map is drawn smoothly between its cells, and the picture is pale where the network gives no map.

    Parameters
    ----------
    images, colour
        As in `predict`.
    maps : ndarray or list of ndarray
        A map of each, H x W float.
    net, views, placement
        The network that gave the maps, and how, as in `class_maps`; left out, a map is drawn as it is.
    top : float, optional
        Value of the strongest colour; left out, each map's maximum. Give one to compare maps.
    box : Box, optional
        Drawn on it.

    Returns
    -------
    ndarray or list of ndarray
        H x W x 3 uint8.

    Examples
    --------
    >>> drawn = pycam.overlay(image, maps[0], net=net, box=pycam.locate(maps[0]).box)
    >>> drawn.shape == image.shape
    True
    """
    drawn, pictures, cams = [], given.pictures(images, colour), given.maps(maps)
    if [image.shape[:2] for image in pictures] != [cam.shape for cam in cams]:
        raise CamError(f"pictures of {[image.shape[:2] for image in pictures]} and maps of {[cam.shape for cam in cams]} pixels; "
                       "expected for each picture a map of its size, as class_maps gives it")
    for image, cam in zip(pictures, cams):
        cells = None if net is None else lay(net.cells, (image.shape[0], image.shape[1]), views, placement, net.grid)
        coloured = drawing.overlay(image, cam, float(cam.max()) if top is None else top, cells)
        drawn.append(given.ordered(drawing.outline(coloured, box) if box else coloured, colour))
    return given.as_given(drawn, images)


@overload
def classify(stages: Stages, images: np.ndarray, *, cleaned: bool = False, colour: str = "bgr") -> Answer: ...
@overload
def classify(stages: Stages, images: Sequence[np.ndarray], *, cleaned: bool = False, colour: str = "bgr") -> List[Answer]: ...


def classify(stages: Stages, images: Any, *, cleaned: bool = False, colour: str = "bgr") -> Any:
    """Go the paper's whole way: remove hair, run stage 1, cut the region out, run stage 2. For research: no diagnosis.

    Parameters
    ----------
    stages : Stages
        From `load_stages`.
    images, colour
        As in `predict`.
    cleaned : bool
        They are free of hair already.

    Returns
    -------
    Answer or list of Answer
        ``probs`` of the classes by stage 2, ``stage1`` by stage 1, ``clean`` without hair, and where stage 1 looked: ``found``.

    Examples
    --------
    >>> answer = pycam.classify(stages, image)
    >>> answer.probs.shape, answer.found.region.box.cut(answer.clean).ndim
    ((3,), 3)
    """
    answers = [two_stages.classify(stages, image, cleaned=cleaned) for image in given.pictures(images, colour)]
    return given.as_given([answer._replace(clean=given.ordered(answer.clean, colour)) for answer in answers], images)


def score(truth: Sequence[Class], probs: Any) -> Dict[str, Dict[str, float]]:
    """Score probabilities by the rules of ISIC-2017 part 3, with 95 % intervals.

    Parameters
    ----------
    truth : sequence of str or int
        The true class of each of N pictures, by name or number.
    probs : ndarray
        N x 3 float, or N x 2 without nevus, in [0, 1], as from `predict`.

    Returns
    -------
    dict
        For ``melanoma``, ``seborrheic_keratosis`` and ``mean``: ``auc``, ``auc_low``, ``auc_high``, and the challenge's other
        figures.

    Examples
    --------
    >>> figures = pycam.score(["melanoma", "seborrheic_keratosis", "nevus"], [[.8, .1, .1], [.3, .6, .1], [.2, .2, .6]])
    >>> figures["mean"]["auc"]
    1.0
    """
    values, labels = np.asarray(probs, np.float64), np.array([given.number(one, CLASSES) for one in truth])
    if values.shape not in [(len(labels), count) for count in (len(SCORED), len(CLASSES))]:
        raise CamError(f"probabilities of shape {values.shape} for {len(labels)} pictures; expected N x 3, or N x 2 (no nevus)")
    if not ((values >= 0) & (values <= 1)).all():
        raise CamError("probabilities that are not in [0, 1]; expected those of predict, not scores before the softmax")
    return scoring.score(labels, np.array(values[:, :len(SCORED)]))

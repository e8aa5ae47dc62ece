"""Run pictures through a deploy network: probabilities and class activation maps, and the command ``predict``."""
import argparse
import itertools
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, TypeVar

import numpy as np
from tqdm import tqdm

from data_tools.augment import SIZE, picture_side
from data_tools.commands import add, add_step, finite, whole
from data_tools.files import listing, read_image
from data_tools.isic import CLASSES, GROUNDTRUTH, find_pictures, load_samples
from data_tools.parallel import default_jobs, result, submit
from data_tools.records import read_text
from data_tools.steps import Step, beside, code
from torchcaffe import heap

from . import engine, predictions
from .cam import VGG_GAP, Grid, class_maps, read_grid
from .errors import CamError
from .parts import METHODS, OURS, Parts, find_parts
from .preprocess import MEAN_BGR, VIEWS, to_blob, views

BATCH = 16
NET_INPUTS = ("/net", "/weights")  # names of inputs that no picture can have
CODE = ("pycam.preprocess", "pycam.forward", "data_tools.augment")
Views = Sequence[np.ndarray]  # patches of a picture
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Network:
    """A deploy network with its weights, and all that is known about its pictures and maps.

    Attributes
    ----------
    net : Net
        Pycaffe's; its batch size follows the pictures.
    classes : tuple of str
        Names of the classes, in the order of the network's outputs.
    parts : Parts
        What the maps are made of, and how.
    grid : Grid
        Where the cells of the maps look, and the sides of the input.
    mean, scale
        What is taken off blue, green and red, and what they are multiplied by then.
    cells : (int, int)
        Rows and columns of a map.
    """

    net: Any
    classes: Tuple[str, ...] = CLASSES
    parts: Parts = OURS
    grid: Grid = VGG_GAP
    mean: Tuple[float, ...] = MEAN_BGR
    scale: float = 1.0
    cells: Tuple[int, int] = (10, 10)

    def views(self, image: np.ndarray, which: str = "centre") -> List[np.ndarray]:
        """Cut the test-time views out of a picture, see `pycam.preprocess.views`."""
        return views(image, which, size=self.grid.size, patch=self.grid.patch)


def predict(network: Network, pictures: Sequence[Views], maps: bool = False) -> np.ndarray:
    """Run pictures through the network and return their probabilities, averaged over the views of each (D17).

    Parameters
    ----------
    network : Network
        From `load_net`.
    pictures : sequence of sequence of ndarray
        The V views of each of N pictures, from `Network.views`.
    maps : bool
        `last_maps` is called afterwards; without it a net of torchcaffe frees the features.

    Returns
    -------
    ndarray
        N x C float64.
    """
    net, parts = network.net, network.parts
    blob = to_blob([patch for patches in pictures for patch in patches], network.mean, network.scale)
    net.blobs[parts.data].reshape(*blob.shape)
    net.reshape()
    net.blobs[parts.data].data[...] = blob
    net.forward(blobs=[parts.features] if maps else [])
    probs = np.array(net.blobs[parts.probs].data, np.float32).reshape(len(pictures), -1, len(network.classes))
    return np.asarray(probs.mean(axis=1, dtype=np.float64))


def last_maps(network: Network, numbers: Optional[Sequence[int]] = None) -> np.ndarray:
    """Return the maps of all classes, or of some by number, of the patches of the last `predict`: P x C x h x w float32.

    CAM is `pycam.cam.class_maps`. Grad-CAM (Selvaraju et al., arXiv 1610.02391, equations 1 and 2) weights each channel by the
    mean gradient of the class' score; its last step, the ReLU, is left to those who read the maps, none of whom takes what is
    not positive for a region. Where the scores are made of the features' averages, CAM is Grad-CAM times the number of cells.
    """
    net, parts = network.net, network.parts
    numbers = list(range(len(network.classes)) if numbers is None else numbers)
    features = np.array(net.blobs[parts.features].data)
    if parts.method == "gradcam":
        weights = np.stack([_mean_gradient(net, parts, number) for number in numbers])  # C x P x K
        return np.asarray(np.einsum("cpk,pkhw->pchw", weights, features, optimize=True))
    if not parts.classifier:
        return np.asarray(features[:, numbers])
    return class_maps(features, np.array(net.params[parts.classifier][0].data).reshape(-1, features.shape[1])[numbers])


def _mean_gradient(net: Any, parts: Parts, number: int) -> np.ndarray:
    """Return the mean over cells of the gradient of a class' score by the features: P x K."""
    names = list(net._layer_names)
    writers = {blob: [i for i, name in enumerate(names) if blob in net.top_names[name]][-1]
               for blob in (parts.scores, parts.features)}
    scores = net.blobs[parts.scores].diff
    scores[...] = 0
    scores[:, number] = 1
    net.backward(start=names[writers[parts.scores]], end=names[writers[parts.features] + 1])
    return np.asarray(np.array(net.blobs[parts.features].diff).mean(axis=(2, 3)))


def predict_with_maps(network: Network, pictures: Sequence[Views]) -> Tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of pictures, as `predict` does, and the class activation maps of each view.

    Returns
    -------
    probs : ndarray
        N x C float64.
    cams : ndarray
        N x V x C x h x w float32, see `last_maps`; views in the order of `pycam.preprocess.views`.
    """
    probs = predict(network, pictures, maps=True)
    cams = last_maps(network)
    return probs, cams.reshape(len(pictures), -1, *cams.shape[1:])


def load_net(net: Path, weights: Path, backend: engine.Backend = engine.DEFAULT, *, classes: Optional[Sequence[str]] = None,
             method: str = "auto", cam_layer: Optional[str] = None, fc_layer: Optional[str] = None, size: Optional[int] = SIZE,
             mean: Sequence[float] = MEAN_BGR, scale: float = 1.0) -> Network:
    """Load a deploy network with its weights.

    Parameters
    ----------
    net, weights : Path
        Deploy prototxt; ``.caffemodel``, or the folder that holds ``final.caffemodel``.
    backend : Backend
        Engine, device and arithmetic, see `pycam.engine.load`.
    classes : sequence of str, optional
        Names of the classes; left out, those of ISIC-2017 where there are three outputs, else their numbers.
    method, cam_layer, fc_layer
        How maps are made, see `pycam.parts.find_parts`.
    size : int
        Side of the square that a whole picture is resized to; the input is cut from it. None: in our nets' proportion (D03).
    mean, scale
        What is taken off blue, green and red (0 to 255), and what they are multiplied by then.

    Raises
    ------
    CamError
        When the files do not fit each other, the network has no maps or another number of classes, or mean and scale make all
        inputs the same.
    """
    if not np.isfinite([*mean, scale]).all() or not scale:
        raise CamError(f"mean {tuple(mean)}, scale {scale}: expected finite numbers, and a scale that is not 0")
    parts = find_parts(net, method, cam_layer, fc_layer)
    opened = engine.deploy_net(engine.load(*backend), net, weights, gradients=parts.method == "gradcam")
    grid = read_grid(net, parts.features, parts.data)  # after the engine, whose error for an invalid net is clearer
    grid = grid._replace(size=picture_side(grid.patch) if size is None else size)
    if grid.size < grid.patch:
        raise CamError(f"{net}: its input has {grid.patch} pixels a side; expected a size of at least that, not {grid.size}")
    outputs = _check_parts(net, opened, parts)
    names = classes or (CLASSES if outputs == len(CLASSES) else [f"class {number}" for number in range(outputs)])
    if len(names) != outputs:
        raise CamError(f"{net}: {parts.scores} has {outputs} outputs; expected {len(names)} ({listing(names)})")
    return Network(opened, tuple(names), parts, grid, tuple(mean), scale, tuple(opened.blobs[parts.features].shape[2:]))


def _check_parts(path: Path, net: Any, parts: Parts) -> int:
    """Raise a CamError unless a network's blobs and weights fit each other as its maps need; return the number of classes."""
    outputs, shape = int(np.prod(net.blobs[parts.scores].shape[1:])), net.blobs[parts.features].shape
    if outputs != int(np.prod(net.blobs[parts.probs].shape[1:])):
        raise CamError(f"{path}: {parts.scores} has {outputs} values, {parts.probs} {net.blobs[parts.probs].shape[1]}; name the "
                       "layer that gives a score a class with --fc-layer")
    if len(shape) != 4 or shape[2] * shape[3] == 1:
        raise CamError(f"{path}: {parts.features} has no places, its shape is {tuple(shape)}; name an earlier layer with "
                       "--cam-layer")
    channels = shape[1] * outputs if parts.classifier else outputs
    found = int(np.prod(net.params[parts.classifier][0].shape)) if parts.classifier else shape[1]
    if parts.method == "cam" and found != channels:
        raise CamError(f"{path}: {parts.classifier or parts.scores} does not work on the global average of {parts.features} "
                       f"({found} weights, expected {channels}); use the method gradcam")
    return outputs


def open_net(net: Path, weights: Path, backend: engine.Backend) -> Network:
    """Return one of our deploy networks, see `load_net`; its classes must be those of ISIC-2017."""
    return load_net(net, weights, backend, classes=CLASSES, method="cam", size=None)


def check_finite(ids: Sequence[str], values: np.ndarray) -> None:
    """Raise a CamError that names the pictures whose values are not all finite."""
    bad = [image_id for image_id, row in zip(ids, values) if not np.isfinite(row).all()]
    if bad:
        raise CamError(f"the network gives no number for {listing(bad)}: its weights are not finite; train again")


def ahead(function: Callable[[Item], Result], items: Sequence[Item], size: int) -> Iterator[List[Tuple[Item, Result]]]:
    """Yield slices of at most ``size`` items with what a function makes of each, in order, with a progress bar on stderr.

    Threads work on the next slice while the caller is busy with this one: pictures are decoded while the network
    computes. At most two slices are in memory. An error is raised when its slice is due.
    """
    parts = [items[start:start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(default_jobs()) as pool, \
            tqdm(total=len(items), unit="picture", file=sys.stderr, disable=None) as progress:
        coming: List[Future[Result]] = [submit(pool, function, item) for item in items[:size]]
        for part, following in itertools.zip_longest(parts, parts[1:], fillvalue=()):
            ready, coming = coming, [submit(pool, function, item) for item in following]
            yield list(zip(part, map(result, ready)))
            progress.update(len(part))


def add_net_arguments(parser: argparse.ArgumentParser, batch: bool = True) -> None:
    """Add the arguments that `open_net` reads, and ``--batch`` where pictures are computed together."""
    parser.add_argument("--net", type=Path, required=True, metavar="DEPLOY", help="deploy prototxt")
    parser.add_argument("--weights", type=Path, required=True, metavar="W",
                        help=".caffemodel, or the folder that holds final.caffemodel")
    if batch:
        parser.add_argument("--batch", type=whole(1), default=BATCH, metavar="N", help=f"patches a pass (default: {BATCH})")
    engine.add_arguments(parser)


def add_map_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `load_net` for networks of others; `map_options` reads them."""
    parser.add_argument("--classes", type=Path, metavar="TXT",
                        help="file with a class name a line, in the order of the outputs (default: ISIC-2017's three, else "
                             "numbers)")
    parser.add_argument("--method", choices=METHODS, default="auto",
                        help="CAM, Grad-CAM, or CAM where the network ends in global average and classifier (default: auto)")
    parser.add_argument("--cam-layer", metavar="LAYER",
                        help="the layer that is mapped (default: what is averaged, else the last convolution)")
    parser.add_argument("--fc-layer", metavar="LAYER", help="the classifier (default: the last layer with weights)")
    parser.add_argument("--size", type=whole(1), default=SIZE, metavar="S",
                        help=f"side that whole pictures are resized to before the input is cut out (default: {SIZE})")
    parser.add_argument("--mean", type=finite, nargs=3, default=MEAN_BGR, metavar=("B", "G", "R"),
                        help=f"taken off blue, green, red of 0 to 255 (default: {' '.join(map(str, MEAN_BGR))})")
    parser.add_argument("--scale", type=finite, default=1.0, help="what they are multiplied by then (default: 1)")


def map_options(args: argparse.Namespace) -> Dict[str, Any]:
    """Return the options of `load_net` that the arguments of `add_map_arguments` say."""
    names = ("method", "cam_layer", "fc_layer", "size", "mean", "scale")
    return {**{name: getattr(args, name) for name in names}, "classes": read_classes(args.classes) if args.classes else None}


def read_classes(path: Path) -> List[str]:
    """Read the names of classes, a line each."""
    return [line.strip() for line in read_text(path, "a text file with a class name a line").splitlines() if line.strip()]


def add_parser(subparsers: Any) -> None:
    """Add the command ``predict``."""
    parser = add(
        subparsers, "predict", "write the class probabilities of a folder of pictures",
        "python -m pycam predict --net prototxt/vgg_gap_deploy.prototxt --weights build/stage1 --images build/clean/val "
        "--out build/results/stage1_val.csv",
        "Write image_id,melanoma,seborrheic_keratosis,nevus for every picture of a folder.")
    add_net_arguments(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="where the probabilities go")
    parser.add_argument("--submission", type=Path, metavar="CSV",
                        help="also write the challenge's three-column file here")
    parser.add_argument("--views", choices=VIEWS, default="centre", help="patches a picture (default: centre)")
    add_step(parser, step)


def list_pictures(folder: Path) -> Dict[str, Path]:
    """Return the files by image id: of those that groundtruth.csv names, in its order, or of all where there is no such file."""
    if (folder / GROUNDTRUTH).is_file():
        return {sample.image_id: sample.path for sample in load_samples(folder)}
    pictures = find_pictures(folder)
    if not pictures:
        raise CamError(f"{folder}: no pictures; expected <image_id>.jpg or .png")
    return pictures


def net_inputs(net: Path, weights: Path) -> Dict[str, Path]:
    """Return a network's files as inputs of a step."""
    engine.check_prototxt(net)
    return dict(zip(NET_INPUTS, (net, engine.weights_file(weights))))


def step(args: argparse.Namespace) -> Step:
    """Return the step of the command ``predict``."""
    pictures, backend = list_pictures(args.images), engine.backend(args)
    predictions.prepare(args.out, args.submission)

    def work() -> List[Path]:
        heap.keep()  # a quarter less time for a small net
        rows = _predict_all(open_net(args.net, args.weights, backend), pictures, args.views, args.batch)
        predictions.write(args.out, rows)
        if args.submission is not None:
            predictions.write(args.submission, rows, predictions.SCORED)
        print(f"{args.out}: {len(rows)} pictures")
        return [path for path in (args.out, args.submission) if path]

    parameters = {**backend.parameters(), "views": args.views, "submission": bool(args.submission), "code": code(*CODE)}
    return Step(f"predict/{args.out.stem}", args.out, beside(args.out), parameters,
                {**net_inputs(args.net, args.weights), **pictures}, work)


def _predict_all(net: Network, pictures: Dict[str, Path], which: str, batch: int) -> List[Tuple[str, List[float]]]:
    """Return rows of image id and probabilities."""
    def cut(picture: Tuple[str, Path]) -> Views:
        return net.views(read_image(picture[1]), which)

    rows: List[Tuple[str, List[float]]] = []
    for part in ahead(cut, list(pictures.items()), max(1, batch // VIEWS[which])):
        ids = [image_id for (image_id, _), _ in part]
        probs = predict(net, [patches for _, patches in part])
        check_finite(ids, probs)
        rows += zip(ids, probs.tolist())
    return rows

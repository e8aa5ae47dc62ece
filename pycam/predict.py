"""Run pictures through the deploy network: probabilities and class activation maps, and the command ``predict``."""
import argparse
import itertools
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, TypeVar

import numpy as np
from tqdm import tqdm

from data_tools.commands import add, add_step, whole
from data_tools.files import listing, read_image
from data_tools.isic import CLASSES, GROUNDTRUTH, find_pictures, load_samples
from data_tools.parallel import default_jobs
from data_tools.steps import Step, beside, code

from . import engine, predictions
from .cam import CAM_BLOB, INPUT_BLOB, class_maps
from .errors import CamError
from .preprocess import VIEWS, to_blob, views

PROB_BLOB, CAM_LAYER = "prob", "CAM_fc3"  # CAM_fc3 works on the mean of CAM_conv, which its ReLU changes in place
BATCH = 16
NET_INPUTS = ("/net", "/weights")  # names of inputs that no picture can have
CODE = ("pycam.preprocess", "pycam.predict", "data_tools.augment")
Views = Sequence[np.ndarray]  # patches of a picture
Item = TypeVar("Item")
Result = TypeVar("Result")


def predict(net: Any, pictures: Sequence[Views], blobs: Sequence[str] = ()) -> np.ndarray:
    """Run pictures through the network and return their probabilities, averaged over the views of each (D17).

    Parameters
    ----------
    net : Net
        Deploy network with the blobs ``data`` and ``prob``; its batch size follows the pictures.
    pictures : sequence of sequence of ndarray
        The V views of each of N pictures, 224 x 224 x 3 uint8 BGR, from `pycam.preprocess.views`.
    blobs : sequence of str
        Blobs that are read afterwards; a net of torchcaffe that predicts frees the others.

    Returns
    -------
    ndarray
        N x C float64.
    """
    blob = to_blob([patch for patches in pictures for patch in patches])
    net.blobs[INPUT_BLOB].reshape(*blob.shape)
    net.reshape()
    net.blobs[INPUT_BLOB].data[...] = blob
    net.forward(blobs=list(blobs))
    probs = np.array(net.blobs[PROB_BLOB].data, np.float32).reshape(len(pictures), -1, len(CLASSES))
    return np.asarray(probs.mean(axis=1, dtype=np.float64))


def predict_with_maps(net: Any, pictures: Sequence[Views]) -> Tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of pictures, as `predict` does, and the class activation maps of each view.

    Returns
    -------
    probs : ndarray
        N x C float64.
    cams : ndarray
        N x V x C x h x w float32, see `pycam.cam.class_maps`; views in the order of `pycam.preprocess.views`.
    """
    probs = predict(net, pictures, [CAM_BLOB])
    weights = np.array(net.params[CAM_LAYER][0].data).reshape(len(CLASSES), -1)
    cams = class_maps(np.array(net.blobs[CAM_BLOB].data), weights)
    return probs, cams.reshape(len(pictures), -1, *cams.shape[1:])


def open_net(net: Path, weights: Path, backend: engine.Backend) -> Any:
    """Return a deploy network with its weights, which are a ``.caffemodel`` or the folder that holds ``final.caffemodel``."""
    opened = engine.deploy_net(engine.load(*backend), net, weights)
    check_net(opened, net)
    return opened


def check_net(net: Any, path: Path) -> None:
    """Raise a CamError unless a network has the blobs and the layer that maps are made of, and our classes."""
    missing = [name for name in (INPUT_BLOB, CAM_BLOB, PROB_BLOB) if name not in net.blobs]
    missing += [name for name in (CAM_LAYER,) if name not in net.params]
    if missing:
        raise CamError(f"{path}: the network has no {listing(missing)}; expected a deploy file of prototxt/")
    outputs = net.params[CAM_LAYER][0].data.shape[0]
    if outputs != len(CLASSES):
        raise CamError(f"{path}: {CAM_LAYER} has {outputs} outputs; expected {len(CLASSES)} ({', '.join(CLASSES)})")


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
        coming: List[Future[Result]] = [pool.submit(function, item) for item in items[:size]]
        for part, following in itertools.zip_longest(parts, parts[1:], fillvalue=()):
            ready, coming = coming, [pool.submit(function, item) for item in following]
            yield list(zip(part, [future.result() for future in ready]))
            progress.update(len(part))


def add_net_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `open_net` reads, and ``--batch``."""
    parser.add_argument("--net", type=Path, required=True, metavar="DEPLOY", help="deploy prototxt")
    parser.add_argument("--weights", type=Path, required=True, metavar="W",
                        help=".caffemodel, or the folder that holds final.caffemodel")
    parser.add_argument("--batch", type=whole(1), default=BATCH, metavar="N", help=f"patches a pass (default: {BATCH})")
    engine.add_arguments(parser)


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
    pictures, backend, files = list_pictures(args.images), engine.backend(args), [args.out, args.submission]
    for path in filter(None, files):
        predictions.prepare(path)

    def work() -> List[Path]:
        rows = _predict_all(open_net(args.net, args.weights, backend), pictures, args.views, args.batch)
        predictions.write(args.out, rows)
        if args.submission is not None:
            predictions.write(args.submission, rows, predictions.SCORED)
        print(f"{args.out}: {len(rows)} pictures")
        return [path for path in files if path]

    parameters = {**backend.parameters(), "views": args.views, "submission": bool(args.submission), "code": code(*CODE)}
    return Step(f"predict/{args.out.stem}", args.out, beside(args.out), parameters,
                {**net_inputs(args.net, args.weights), **pictures}, work)


def _predict_all(net: Any, pictures: Dict[str, Path], which: str, batch: int) -> List[Tuple[str, List[float]]]:
    """Return rows of image id and probabilities."""
    def cut(picture: Tuple[str, Path]) -> Views:
        return views(read_image(picture[1]), which)

    rows: List[Tuple[str, List[float]]] = []
    for part in ahead(cut, list(pictures.items()), max(1, batch // VIEWS[which])):
        ids = [image_id for (image_id, _), _ in part]
        probs = predict(net, [patches for _, patches in part])
        check_finite(ids, probs)
        rows += zip(ids, probs.tolist())
    return rows

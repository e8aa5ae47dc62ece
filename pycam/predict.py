"""Run pictures through the deploy network: probabilities and class activation maps, and the command ``predict``."""
import argparse
import itertools
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, List, Sequence, Tuple, TypeVar

import numpy as np
from tqdm import tqdm

from data_tools.files import listing, read_image
from data_tools.isic import CLASSES, GROUNDTRUTH, find_pictures, load_samples
from data_tools.parallel import default_jobs

from . import engine, predictions
from .cam import CAM_BLOB, INPUT_BLOB, class_maps
from .errors import CamError
from .preprocess import VIEWS, to_blob, views

PROB_BLOB, CAM_LAYER = "prob", "CAM_fc3"  # CAM_fc3 works on the mean of CAM_conv, which its ReLU changes in place
BATCH = 16
Item = TypeVar("Item")
Result = TypeVar("Result")


def forward(net: Any, patches: Sequence[np.ndarray], blobs: Sequence[str] = ()) -> np.ndarray:
    """Run patches through the network and return their probabilities.

    Parameters
    ----------
    net : Net
        Deploy network with the blobs ``data`` and ``prob``; its batch size follows the patches.
    patches : sequence of ndarray
        N patches of 224 x 224 x 3 uint8, BGR.
    blobs : sequence of str
        Blobs that are read afterwards; a frugal net frees others.

    Returns
    -------
    ndarray
        N x C float32.
    """
    blob = to_blob(patches)
    net.blobs[INPUT_BLOB].reshape(*blob.shape)
    net.reshape()
    net.blobs[INPUT_BLOB].data[...] = blob
    net.forward(blobs=list(blobs))
    return np.array(net.blobs[PROB_BLOB].data, np.float32).reshape(len(patches), -1)


def predict(net: Any, images: Sequence[np.ndarray], which: str = "centre") -> np.ndarray:
    """Return the probabilities of pictures, averaged over their views (D17).

    Parameters
    ----------
    net : Net
        Deploy network.
    images : sequence of ndarray
        N pictures, H x W x 3 uint8 BGR, of any sizes.
    which : str
        ``centre`` or ``ten`` views.

    Returns
    -------
    ndarray
        N x C float64.
    """
    return predict_patches(net, [views(image, which) for image in images])


def predict_patches(net: Any, pictures: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Do `predict` with the views of each picture already cut."""
    probs = forward(net, [patch for patches in pictures for patch in patches])
    return np.asarray(probs.reshape(len(pictures), -1, len(CLASSES)).mean(axis=1, dtype=np.float64))


def predict_with_maps(net: Any, images: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """Return the probabilities and all class activation maps of pictures from one pass of their centre patches.

    Returns
    -------
    probs : ndarray
        N x C float32.
    cams : ndarray
        N x C x h x w float32, see `pycam.cam.class_maps`.
    """
    return forward_with_maps(net, [views(image)[0] for image in images])


def predict_views(net: Any, pictures: Sequence[Sequence[np.ndarray]]) -> Tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of pictures, averaged over their views (D17), and the maps of each view.

    Parameters
    ----------
    net : Net
        Deploy network.
    pictures : sequence of sequence of ndarray
        The V views of each of N pictures, from `pycam.preprocess.views`.

    Returns
    -------
    probs : ndarray
        N x C float32.
    cams : ndarray
        N x V x C x h x w float32, views in the order of `pycam.preprocess.views`.
    """
    probs, cams = forward_with_maps(net, [patch for patches in pictures for patch in patches])
    by_view = (len(pictures), -1)
    return probs.reshape(*by_view, len(CLASSES)).mean(axis=1), cams.reshape(*by_view, *cams.shape[1:])


def forward_with_maps(net: Any, patches: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """Return the probabilities (N x C) and maps (N x C x h x w) of patches from one pass, float32; see `forward`."""
    probs = forward(net, patches, [CAM_BLOB])
    features = np.array(net.blobs[CAM_BLOB].data)
    weights = np.array(net.params[CAM_LAYER][0].data)
    return probs, class_maps(features, weights.reshape(len(CLASSES), -1))


def open_net(args: argparse.Namespace) -> Any:
    """Return the deploy network that ``--net``, ``--weights``, ``--engine``, ``--gpu`` and ``--precision`` name."""
    net = engine.deploy_net(engine.load(args.engine, args.gpu, args.precision), args.net, args.weights)
    check_net(net, args.net)
    return net


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
    parser.add_argument("--batch", type=positive, default=BATCH, metavar="N", help=f"patches a pass (default: {BATCH})")
    engine.add_arguments(parser)


def positive(text: str) -> int:
    """Read a whole number of at least one from a command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def add_parser(subparsers: Any) -> None:
    """Add the command ``predict``."""
    parser = subparsers.add_parser(
        "predict", help="write the class probabilities of a folder of pictures",
        description="Write image_id,melanoma,seborrheic_keratosis,nevus for every picture of a folder.",
        epilog="example: python -m pycam predict --net prototxt/vgg_gap_deploy.prototxt --weights build/stage1 "
               "--images build/clean/val --out build/results/stage1_val.csv")
    add_net_arguments(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="where the probabilities go")
    parser.add_argument("--submission", type=Path, metavar="CSV",
                        help="also write the challenge's three-column file here")
    parser.add_argument("--views", choices=VIEWS, default="centre", help="patches a picture (default: centre)")
    parser.set_defaults(run=run)


def list_pictures(folder: Path) -> List[Tuple[str, Path]]:
    """List (image id, file): those that groundtruth.csv names, in its order, or all where there is no such file."""
    if (folder / GROUNDTRUTH).is_file():
        return [(sample.image_id, sample.path) for sample in load_samples(folder)]
    pictures = list(find_pictures(folder).items())
    if not pictures:
        raise CamError(f"{folder}: no pictures; expected <image_id>.jpg or .png")
    return pictures


def run(args: argparse.Namespace) -> None:
    """Run the command ``predict``."""
    pictures = list_pictures(args.images)
    for path in (args.out, args.submission):
        if path is not None:
            predictions.prepare(path)
    net = open_net(args)
    rows: List[Tuple[str, List[float]]] = []
    def cut(picture: Tuple[str, Path]) -> List[np.ndarray]:
        return views(read_image(picture[1]), args.views)

    for part in ahead(cut, pictures, max(1, args.batch // VIEWS[args.views])):
        ids = [image_id for (image_id, _), _ in part]
        probs = predict_patches(net, [patches for _, patches in part])
        check_finite(ids, probs)
        rows += zip(ids, probs.tolist())
    predictions.write(args.out, rows)
    if args.submission is not None:
        predictions.write(args.submission, rows, predictions.SCORED)
    print(f"{args.out}: {len(rows)} pictures")

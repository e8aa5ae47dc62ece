"""Map what any Caffe network sees in pictures: the command ``cam``."""
import argparse
import io
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from data_tools.commands import add, whole
from data_tools.files import write_atomic, write_image

from . import drawing, engine, region_rule
from .cam import merge
from .cells import Cells, lay
from .forward import (
    Network,
    add_map_arguments,
    add_net_arguments,
    check_finite,
    last_maps,
    load_net,
    map_options,
    predict,
)
from .region_rule import Located, RegionRule, find
from .two_stages import list_images, read_any, sound

TOP = 3


class Seen(NamedTuple):
    """What a network sees of one class in a picture: its number, its probability, and where."""

    number: int
    prob: float
    found: Located


def look(network: Network, image: np.ndarray, top: Optional[int], rule: RegionRule) -> Tuple[List[Seen], np.ndarray]:
    """Map the most probable classes of a picture.

    Parameters
    ----------
    network : Network
        From `pycam.forward.load_net`.
    image : ndarray
        H x W x 3 uint8 BGR.
    top : int, optional
        How many classes; all when left out.
    rule : RegionRule
        How regions are found; its `class_rule` is not read.

    Returns
    -------
    list of Seen
        The most probable class first.
    ndarray
        Their maps as the network gives them, V x top x h x w float32.
    """
    probs = predict(network, [network.views(image, rule.views)], maps=True)
    check_finite(["the network's answer"], probs)
    numbers = np.argsort(-probs[0], kind="stable")[:top].tolist()
    cams = last_maps(network, numbers)
    placed = merge(cams, (image.shape[0], image.shape[1]), rule.placement, network.grid)
    return [Seen(number, float(probs[0, number]), find(rule, cam, network.classes[number]))
            for number, cam in zip(numbers, placed)], cams


def draw(image: np.ndarray, seen: List[Seen], cells: Cells) -> np.ndarray:
    """Draw a picture and the map of each class in one colour scale, with region, box, probability, name and colour bar."""
    top = max(float(one.found.cam.max()) for one in seen)
    tiles = [drawing.labelled(image, "")]
    for one in seen:
        found = one.found
        coloured = drawing.contour(drawing.overlay(image, found.cam, top, cells), found.cam > found.lowest)
        tiles.append(drawing.labelled(drawing.outline(coloured, found.region.box), f"{one.prob:.3f} {found.followed}", bar=True))
    return np.hstack(tiles)


def as_json(path: Path, network: Network, seen: List[Seen]) -> Dict[str, Any]:
    """Return what stands in a picture's JSON file."""
    height, width = seen[0].found.cam.shape
    classes = [{"name": one.found.followed, "number": one.number, "probability": one.prob, "box": one.found.region.box._asdict(),
                "reason": one.found.region.reason} for one in seen]
    return {"image": str(path), "height": height, "width": width, "method": network.parts.method, "blob": network.parts.features,
            "classes": classes}


def add_parser(subparsers: Any) -> None:
    """Add the command ``cam``."""
    parser = add(
        subparsers, "cam", "map what any Caffe network sees in pictures",
        "python -m pycam cam examples --net prototxt/vgg_gap_deploy.prototxt --weights build/stage1 --top 2 --out build/maps",
        "Draw the class activation maps of the most probable classes. The last convolution, the average and the classifier are "
        "found in the network's graph, in the current syntax or V1; a network without the average is mapped by Grad-CAM. "
        "Writes <name>.jpg (the picture, and a map with region and box for each class), <name>.npy (the maps as the "
        "network gives them: views, classes, rows, columns) and <name>.json (probabilities and boxes) to DIR.")
    parser.add_argument("images", type=Path, nargs="+", metavar="PICTURE", help="pictures, or folders of pictures")
    add_net_arguments(parser, batch=False)
    add_map_arguments(parser)
    parser.add_argument("--top", type=whole(1), default=TOP, metavar="N", help=f"the N most probable classes (default: {TOP})")
    parser.add_argument("--all", dest="top", action="store_const", const=None, help="all classes")
    parser.add_argument("--out", type=Path, default=Path("maps"), metavar="DIR", help="folder of the results (default: maps)")
    region_rule.add_arguments(parser, but=("class_rule",))
    parser.set_defaults(run=run, class_rule=None)


def run(args: argparse.Namespace) -> None:
    """Run the command ``cam``."""
    paths, rule = list_images(args.images), RegionRule().changed(**region_rule.given(args))
    network = load_net(args.net, args.weights, engine.backend(args), **map_options(args))
    args.out.mkdir(parents=True, exist_ok=True)
    for path, image in sound(paths, read_any, "mapped"):
        seen, cams = look(network, image, args.top, rule)
        content = io.BytesIO()
        np.save(content, cams)
        cells = lay(cams.shape[-2:], image.shape[:2], rule.views, rule.placement, network.grid)
        write_image(args.out / f"{path.stem}.jpg", draw(image, seen, cells))
        write_atomic(args.out / f"{path.stem}.npy", content.getvalue())
        write_atomic(args.out / f"{path.stem}.json", (json.dumps(as_json(path, network, seen), indent=2) + "\n").encode())
        print(f"{path.name}: {', '.join(f'{one.found.followed} {one.prob:.3f}' for one in seen)}")

"""Classify pictures from beginning to end: hair removal, stage 1, map, crop, stage 2: the command ``classify``.

In Python::

    from data_tools.files import read_image
    from pycam.classify import classify, open_stages
    stages = open_stages("build/stage1", "build/stage2")
    print(classify(stages, read_image("picture.jpg")).probs)
"""
import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from data_tools.errors import DataError
from data_tools.files import decode_image, listing, read_image, write_atomic, write_image
from data_tools.hair import remove_hair
from data_tools.isic import CLASSES, NO_PICTURES, SUFFIXES
from torchcaffe.netparam import read_net

from . import engine
from .cam import Grid, merge, read_grid, select
from .crops import add_region_arguments
from .drawing import card
from .errors import CamError
from .init import source
from .predict import ahead, check_finite, check_net, predict_views
from .preprocess import views
from .regions import CAM_THRESHOLD, CROP_MARGIN, Region, find_region, level

OTHER_SUFFIXES = (".bmp", ".dib", ".jp2", ".jpe", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")


class Stages(NamedTuple):
    """The deploy networks of both stages with their weights, and the grid of their maps."""

    first: Any
    second: Any
    grid: Grid


class Answer(NamedTuple):
    """What both stages say of a picture.

    Attributes
    ----------
    probs, stage1 : ndarray
        C probabilities in the order of `CLASSES`: the result, that of stage 2; and that of stage 1.
    followed : str
        Whose map the crop follows.
    region : Region
        The crop's box in the picture and its reason.
    clean : ndarray
        The picture without hair, H x W x 3 uint8 BGR.
    cam : ndarray
        The map that was followed, placed on the picture, H x W float32.
    lowest : float
        The value above which it counts as region.
    cams : ndarray
        The maps of all classes as the network gives them, V x C x h x w float32.
    """

    probs: np.ndarray
    stage1: np.ndarray
    followed: str
    region: Region
    clean: np.ndarray
    cam: np.ndarray
    lowest: float
    cams: np.ndarray


def find_net(weights: Path) -> Path:
    """Return the deploy file of ``prototxt/`` whose layers and numbers of outputs are those of a weights file."""
    shapes = engine.weight_shapes(engine.weights_file(weights))
    for path in sorted(source("prototxt").glob("*_deploy.prototxt")):
        wanted = {layer.name: layer.convolution_param.num_output or layer.inner_product_param.num_output
                  for layer in read_net(str(path)).layer if layer.type in ("Convolution", "InnerProduct")}
        if all(name in shapes and engine.significant(shapes[name][0])[0] == count for name, count in wanted.items()):
            return path
    raise CamError(f"{weights}: fits no network in {source('prototxt')}; name its deploy file with --net")


def open_stages(stage1: Union[str, Path], stage2: Union[str, Path], net: Union[str, Path, None] = None, *,
                use: str = "auto", gpu: Optional[int] = None, precision: str = "fp32") -> Stages:
    """Load both stages.

    Parameters
    ----------
    stage1, stage2 : path
        A ``.caffemodel`` each, or the folder that holds ``final.caffemodel``.
    net : path, optional
        Their deploy file; found by the weights when left out.
    use, gpu, precision
        Engine, device and arithmetic, see `pycam.engine.load`.
    """
    caffe, path = engine.load(use, gpu, precision), Path(net) if net else find_net(Path(stage1))
    first, second = (engine.deploy_net(caffe, path, Path(weights)) for weights in (stage1, stage2))
    check_net(first, path)
    return Stages(first, second, read_grid(path))


def classify(stages: Stages, image: np.ndarray, *, hair: bool = True, **choices: Any) -> Answer:
    """Classify one picture.

    The same steps as the pipeline's, without its files between them: there the hair-free picture and the crop are
    JPEGs, which can move a probability in the third digit.

    Parameters
    ----------
    stages : Stages
        From `open_stages`.
    image : ndarray
        H x W x 3 uint8 BGR, of any size.
    hair : bool
        Remove hair first (D06); False for a picture that has been cleaned.
    choices
        ``class_rule``, ``rule``, ``ground``, ``placement``, ``views``, ``threshold``, ``margin``: as in `pycam crops`.
    """
    clean = remove_hair(image)[0] if hair else image
    which = choices.get("views", "centre")
    probs, cams = predict_views(stages.first, [views(clean, which)])
    check_finite(["stage 1"], probs)
    chosen, name = select(choices.get("class_rule", "predicted"), cams[0], probs[0])
    cam = merge(chosen, clean.shape[:2], choices.get("placement", "exact"), stages.grid)
    how = {"rule": choices.get("rule", "threshold"), "threshold": choices.get("threshold", CAM_THRESHOLD),
           "ground": choices.get("ground", "none")}
    region = find_region(cam, margin=choices.get("margin", CROP_MARGIN), **how)
    second, _ = predict_views(stages.second, [views(region.box.cut(clean), which)])
    check_finite(["stage 2"], second)
    return Answer(second[0], probs[0], name, region, clean, cam, level(cam, **how), cams[0])


def read_any(path: Path) -> np.ndarray:
    """Read a picture of any format that OpenCV reads, H x W x 3 uint8 BGR; JPEG and PNG are checked to be complete."""
    if path.suffix.lower() in SUFFIXES:
        return read_image(path)
    try:
        return decode_image(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def list_images(paths: Sequence[Path]) -> List[Path]:
    """List the files among some paths, and the pictures in the folders among them."""
    found: List[Path] = []
    for path in paths:
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES + OTHER_SUFFIXES
                        and not file.name.startswith(".") and not file.stem.endswith(NO_PICTURES)) if path.is_dir() else [path]
        if not inside:
            raise CamError(f"{path}: no pictures in this folder")
        found += inside
    names = [path.stem for path in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise CamError(f"several pictures of the same name, {listing(repeated)}; their results would overwrite each other")
    return found


def add_parser(subparsers: Any) -> None:
    """Add the command ``classify``."""
    parser = subparsers.add_parser(
        "classify", help="classify pictures from beginning to end",
        description="Remove hair, run stage 1, cut the most active region out, run stage 2. Prints a line of "
                    "probabilities for each picture and writes <name>.json and <name>.jpg (map, region, crop, both stages) "
                    "to DIR. A picture that cannot be read is reported, and the others go on. For research: no diagnosis.",
        epilog="example: python -m pycam classify examples --stage1 build/demo/stage1 --stage2 build/demo/stage2 --out /tmp/out")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    for stage in ("stage1", "stage2"):
        parser.add_argument(f"--{stage}", type=Path, required=True, metavar="W",
                            help=".caffemodel, or the folder that holds final.caffemodel")
    parser.add_argument("--net", type=Path, metavar="DEPLOY", help="deploy prototxt (default: that of prototxt/ which fits)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--no-hair-removal", dest="hair", action="store_false", help="for pictures that have been cleaned")
    parser.add_argument("--maps", action="store_true", help="also write the maps as the network gives them, <name>.npy")
    add_region_arguments(parser)
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``classify``."""
    paths = list_images(args.images)
    args.out.mkdir(parents=True, exist_ok=True)
    stages = open_stages(args.stage1, args.stage2, args.net, use=args.engine, gpu=args.gpu, precision=args.precision)
    choices = {key: getattr(args, key) for key in
               ("class_rule", "rule", "ground", "placement", "views", "threshold", "margin")}

    def prepare(path: Path) -> Union[np.ndarray, str]:
        try:
            image = read_any(path)
        except DataError as error:
            return str(error)
        return remove_hair(image)[0] if args.hair else image

    broken: List[str] = []
    for ((path, clean),) in ahead(prepare, paths, 1):
        if isinstance(clean, str):
            print(f"error: {' '.join(clean.split())}", file=sys.stderr)
            broken.append(path.name)
            continue
        answer = classify(stages, clean, hair=False, **choices)
        write_answer(args.out, path, answer, args.maps)
        print(f"{path.name}: {probabilities(answer.probs)} (stage 1: {probabilities(answer.stage1)})")
    if broken:
        raise CamError(f"{len(broken)} of {len(paths)} pictures could not be classified: {listing(broken)}")


def probabilities(probs: np.ndarray) -> str:
    """Return probabilities in words."""
    return ", ".join(f"{name} {prob:.3f}" for name, prob in zip(CLASSES, probs))


def write_answer(out: Path, path: Path, answer: Answer, maps: bool) -> None:
    """Write <name>.jpg, <name>.npy if wanted, and <name>.json, the last."""
    stages = [("stage 1", answer.stage1), ("stage 2", answer.probs)]
    write_image(out / f"{path.stem}.jpg", card(answer.clean, answer.cam, answer.lowest, answer.region.box, stages))
    if maps:
        content = io.BytesIO()
        np.save(content, answer.cams)
        write_atomic(out / f"{path.stem}.npy", content.getvalue())
    write_atomic(out / f"{path.stem}.json", (json.dumps(as_json(path, answer), indent=2) + "\n").encode())


def as_json(path: Path, answer: Answer) -> Dict[str, Any]:
    """Return what stands in a picture's JSON file."""
    def by_class(probs: np.ndarray) -> Dict[str, float]:
        return {name: float(prob) for name, prob in zip(CLASSES, probs)}
    return {"image": str(path), "height": answer.clean.shape[0], "width": answer.clean.shape[1],
            "predicted": CLASSES[int(answer.probs.argmax())], "probabilities": by_class(answer.probs),
            "stage1": by_class(answer.stage1), "map": answer.followed, "box": answer.region.box._asdict(),
            "reason": answer.region.reason}

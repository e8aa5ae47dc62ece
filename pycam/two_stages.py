"""Classify pictures from beginning to end: hair removal, stage 1, map, crop, stage 2: the command ``classify``."""
import argparse
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from data_tools import steps
from data_tools.clean import HAIR
from data_tools.commands import add
from data_tools.errors import DataError, unknown
from data_tools.files import decode_image, encode_image, listing, read_image, write_atomic, write_image
from data_tools.hair import remove_hair
from data_tools.isic import CLASSES, NO_PICTURES, OTHER_SUFFIXES, SUFFIXES
from torchcaffe.errors import one_line
from torchcaffe.limits import MAX_PICTURE, read_bytes
from torchcaffe.netparam import read_net

from . import engine, region_rule, trained
from .cells import Cells, lay
from .drawing import card
from .errors import CamError
from .forward import Network, ahead, check_finite, open_net, predict, predict_with_maps
from .init import source
from .pipeline_commands import DEPLOY
from .region_rule import Located, RegionRule, locate
from .train import EDITED


class Preparation(NamedTuple):
    """What pictures go through before stage 2: the method of hair removal (D06, D18), the region that is cut out."""

    hair: str = "along"
    rule: RegionRule = RegionRule()


class Stages(NamedTuple):
    """The deploy networks of both stages with their weights, and what stage 2 was trained on."""

    first: Network
    second: Network
    preparation: Preparation


class Answer(NamedTuple):
    """What both stages say of a picture.

    Attributes
    ----------
    probs, stage1 : ndarray
        C probabilities in the order of `CLASSES`: the result, that of stage 2; and that of stage 1.
    clean : ndarray
        The picture without hair, H x W x 3 uint8 BGR.
    found : Located
        The region that is cut out, and the map that it follows.
    cams : ndarray
        The maps of all classes as the network gives them, V x C x h x w float32.
    cells : Cells
        Where their cells lie in the picture.
    """

    probs: np.ndarray
    stage1: np.ndarray
    clean: np.ndarray
    found: Located
    cams: np.ndarray
    cells: Cells


def find_net(weights: Path) -> Path:
    """Return the run's own deploy file, or that of ``prototxt/`` whose layers, numbers of outputs and groups the weights have."""
    folder = weights if weights.is_dir() else weights.parent
    record = steps.find_record(folder)
    if record and EDITED in record.parameters:
        if (folder.parent / DEPLOY).is_file():
            return folder.parent / DEPLOY
        raise CamError(f"{weights}: was trained with EDIT or PATCH; name its own deploy file with --net RUN/deploy.prototxt")
    shapes = engine.weight_shapes(engine.weights_file(weights))
    for path in sorted(source("prototxt").glob("*_deploy.prototxt")):
        if all(_fits(layer, shapes) for layer in read_net(str(path)).layer if layer.type in ("Convolution", "InnerProduct")):
            return path
    raise CamError(f"{weights}: fits no network in {source('prototxt')}; name its deploy file with --net")


def _fits(layer: Any, shapes: Dict[str, List[Tuple[int, ...]]]) -> bool:
    """Tell whether a layer's weights are among some, with its outputs and, behind another convolution, its groups (D25)."""
    convolution, below = layer.convolution_param, layer.bottom[0]
    found = (*(engine.significant(shapes[layer.name][0]) if layer.name in shapes else ()), 0, 0)  # a shape may be empty
    if found[0] != (convolution.num_output or layer.inner_product_param.num_output):
        return False
    return layer.type != "Convolution" or below not in shapes or [found[1] * convolution.group] == list(shapes[below][0][:1])


def read_preparation(stage2: Path) -> Optional[Preparation]:
    """Return how the training pictures of a stage 2 were prepared; None where its folder has no record of it."""
    record = steps.find_record(stage2 if stage2.is_dir() else stage2.parent)
    pictures = record.pictures if record else {}
    known = region_rule.read_recorded(pictures, stage2)
    if known is None:
        return None
    rule, control = known
    if control:
        raise CamError(f"{stage2}: a control, trained on boxes that do not follow the maps ({control}); classify with a stage 2 "
                       "that was trained on regions")
    return Preparation(str(pictures.get("hair", Preparation().hair)), rule)


def open_stages(stage1: Union[str, Path], stage2: Union[str, Path], net: Union[str, Path, None] = None, *,
                backend: engine.Backend = engine.DEFAULT, hair: Optional[str] = None, **region: Any) -> Stages:
    """Load both stages.

    Parameters
    ----------
    stage1, stage2 : path
        A ``.caffemodel`` each, or the folder that holds ``final.caffemodel``.
    net : path, optional
        Their deploy file; found by the weights when left out.
    backend : Backend
        Engine, device and arithmetic, see `pycam.engine.load`.
    hair : str, optional
        Method of hair removal, one of `data_tools.clean.HAIR`; that of the crops that stage 2 was trained on when left out.
    region
        Fields of a `RegionRule` that shall differ from the rule by which those crops were cut.
    """
    known = read_preparation(Path(stage2))
    if known is None:
        print(f"note: {stage2}: no record tells by which rule its crops were cut; D09's defaults are taken", file=sys.stderr)
        known = Preparation()
    preparation = Preparation(hair or known.hair, known.rule.changed(**region))
    if preparation.hair not in HAIR:
        raise CamError(f"hair removal: {unknown(preparation.hair, HAIR)}")
    path = Path(net) if net else find_net(Path(stage1))
    first, second = (open_net(path, Path(weights), backend) for weights in (stage1, stage2))
    return Stages(first, second, preparation)


def without_hair(image: np.ndarray, hair: str) -> np.ndarray:
    """Return what the pipeline makes of a picture: where hair is removed, the copy has gone through a JPEG file."""
    if hair == "none":
        return image
    clean, mask = remove_hair(image, method=hair)
    return _through_jpeg(clean) if mask.any() else image


def _through_jpeg(image: np.ndarray) -> np.ndarray:
    return decode_image(encode_image(image, ".jpg"), "picture")


def classify(stages: Stages, image: np.ndarray, *, cleaned: bool = False, **region: Any) -> Answer:
    """Classify one picture by the same steps as the pipeline, whose files between them are JPEGs too.

    Parameters
    ----------
    stages : Stages
        From `open_stages`, which says how the picture is prepared.
    image : ndarray
        H x W x 3 uint8 BGR, of any size.
    cleaned : bool
        The picture is free of hair already.
    region
        Fields of the `RegionRule` that shall differ from that of `stages`.
    """
    rule = stages.preparation.rule.changed(**region)
    clean = image if cleaned else without_hair(image, stages.preparation.hair)
    (probs,), (cams,) = predict_with_maps(stages.first, [stages.first.views(clean, rule.views)])
    check_finite(["stage 1"], probs[None])
    found = locate(rule, cams, probs, (clean.shape[0], clean.shape[1]), stages.first.grid)
    second = predict(stages.second, [stages.second.views(_through_jpeg(found.region.box.cut(clean)))])
    check_finite(["stage 2"], second)
    cells = lay(cams.shape[-2:], (clean.shape[0], clean.shape[1]), rule.views, rule.placement, stages.first.grid)
    return Answer(second[0], probs, clean, found, cams, cells)


def read_any(path: Path) -> np.ndarray:
    """Read a picture of any format that OpenCV reads, H x W x 3 uint8 BGR; JPEG and PNG are checked to be complete."""
    if path.suffix.lower() in SUFFIXES:
        return read_image(path)
    try:
        return decode_image(read_bytes(path, MAX_PICTURE), str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _is_picture(path: Path) -> bool:
    hidden_or_mask = path.name.startswith(".") or path.stem.lower().endswith(NO_PICTURES)
    return path.suffix.lower() in SUFFIXES + OTHER_SUFFIXES and not hidden_or_mask


def list_images(paths: Sequence[Path]) -> List[Path]:
    """List the files among some paths, and the pictures in the folders among them."""
    found: List[Path] = []
    for path in paths:
        inside = sorted(filter(_is_picture, path.iterdir())) if path.is_dir() else [path]
        if not inside:
            raise CamError(f"{path}: no pictures in this folder")
        found += inside
    repeated = sorted(name for name, count in Counter(path.stem for path in found).items() if count > 1)
    if repeated:
        raise CamError(f"several pictures of the same name, {listing(repeated)}; their results would overwrite each other")
    return found


def add_parser(subparsers: Any) -> None:
    """Add the command ``classify``."""
    parser = add(
        subparsers, "classify", "classify pictures from beginning to end",
        "python -m pycam classify examples --out build/answers",
        "Remove hair, run stage 1, cut the most active region out, run stage 2: with the networks that come with the package, or "
        "with those that are named. Prints a line of probabilities for each picture. A picture that cannot be read is reported, "
        "and the others go on. Hair removal and region rule are those of the crops that stage 2 was trained on, but for what is "
        "named here. For research, no diagnosis.")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    for stage in ("stage1", "stage2"):
        parser.add_argument(f"--{stage}", type=Path, metavar="W",
                            help=".caffemodel, or the folder that holds final.caffemodel (default: that of the package)")
    parser.add_argument("--net", type=Path, metavar="DEPLOY", help="deploy prototxt (default: that of prototxt/ which fits)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="write <name>.json and <name>.jpg (map, region, crop, both stages) into this folder")
    parser.add_argument("--hair", choices=HAIR, help="method of hair removal (D18)")
    parser.add_argument("--no-hair-removal", dest="hair", action="store_const", const="none",
                        help="for pictures that have been cleaned: the same as --hair none")
    parser.add_argument("--maps", action="store_true", help="write the maps as the network gives them too, DIR/<name>.npy")
    region_rule.add_arguments(parser, default="that of stage 2's record")
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``classify``."""
    if args.maps and not args.out:
        raise CamError("--maps writes files; name their folder with --out")
    paths, weights = list_images(args.images), trained.choose(args.stage1, args.stage2)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    stages = open_stages(weights.stage1, weights.stage2, args.net, backend=engine.backend(args), hair=args.hair,
                         **region_rule.given(args))
    print(weights.about)
    for path, clean in sound(paths, lambda path: without_hair(read_any(path), stages.preparation.hair), "classified"):
        answer = classify(stages, clean, cleaned=True)
        if args.out:
            write_answer(args.out, path, answer, args.maps)
        print(f"{path.name}: {probabilities(answer.probs)} (stage 1: {probabilities(answer.stage1)})")


def sound(paths: Sequence[Path], prepare: Callable[[Path], np.ndarray], what: str) -> Iterator[Tuple[Path, np.ndarray]]:
    """Yield files with the pictures that are made of them; report those that cannot be read, and raise for them at the end."""
    def attempt(path: Path) -> Union[np.ndarray, str]:
        try:
            return prepare(path)
        except DataError as error:
            return str(error)

    broken: List[str] = []
    for ((path, image),) in ahead(attempt, paths, 1):
        if isinstance(image, str):
            print(f"error: {one_line(image)}", file=sys.stderr)
            broken.append(path.name)
        else:
            yield path, image
    if broken:
        raise CamError(f"{len(broken)} of {len(paths)} pictures could not be {what}: {listing(broken)}")


def probabilities(probs: np.ndarray) -> str:
    """Return probabilities in words."""
    return ", ".join(f"{name} {prob:.3f}" for name, prob in zip(CLASSES, probs))


def write_answer(out: Path, path: Path, answer: Answer, maps: bool) -> None:
    """Write <name>.jpg, <name>.npy if wanted, and <name>.json, the last."""
    stages = [("Stage 1", answer.stage1), ("Stage 1+2", answer.probs)]
    found = answer.found
    drawn = card(answer.clean, found.cam, found.lowest, found.region.box, stages, found.followed, answer.cells)
    write_image(out / f"{path.stem}.jpg", drawn)
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
            "stage1": by_class(answer.stage1), "map": answer.found.followed, "box": answer.found.region.box._asdict(),
            "reason": answer.found.region.reason}

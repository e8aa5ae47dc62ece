"""Measure whether the maps and boxes lie on the lesion, against outlines drawn by physicians: the command ``localize``."""
import argparse
import csv
import io
import itertools
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from data_tools import steps
from data_tools.commands import add, whole
from data_tools.files import listing, partial_folder, read_image, write_image, write_together
from data_tools.isic import CLASSES, GROUNDTRUTH, find_pictures, read_groundtruth

from .. import region_rule
from ..cam import merge, select
from ..cells import lay
from ..drawing import contour, labelled, outline, overlay
from ..engine import backend
from ..errors import CamError
from ..forward import CODE, Network, add_map_arguments, add_net_arguments, load_net, map_options, net_inputs
from ..region_rule import Located, RegionRule, find, locate
from ..regions import Box, Region
from . import deletion
from .maps import Maps, get_maps

MASK = "_segmentation.png"
MASK_LEVEL = 127  # a mask's grey values are 0 and 255; one saved as JPEG in between has others near them
MEASURES = ("box_iou", "mask_iou", "pointing", "energy", "crop_side", "covered", "whole")
ALL = "all"
SHOWN = ("class_rule", "rule", "ground", "threshold", "placement", "views")  # fields of a rule in the tables
LESION = (80, 220, 60)  # BGR, of a lesion's outline in a picture
REFERENCE = "centre, whole picture"
TABLES, DELETION, DRAWN = ("pictures.csv", "localization.csv", "localization.md"), "deletion.csv", "pictures"
RECORD = ".localization.json"
OWN_CODE = tuple(f"pycam.{name}" for name in ("cells", "drawing", "studies.deletion", "studies.localization", "studies.maps"))

Measures = Dict[str, float]


class Lesion(NamedTuple):
    """A picture whose lesion is known: id, true class (None where no label file names it), picture file, mask file."""

    image_id: str
    label: Optional[int]
    path: Path
    mask: Path


def overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes share over the area that they cover together."""
    height, width = min(a.y1, b.y1) - max(a.y0, b.y0), min(a.x1, b.x1) - max(a.x0, b.x0)
    shared = max(0, height) * max(0, width)
    return shared / (a.size[0] * a.size[1] + b.size[0] * b.size[1] - shared)


def mask_box(mask: np.ndarray) -> Box:
    """Return the tight box of a mask (H x W bool) that is True somewhere."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def measure_map(cam: np.ndarray, mask: np.ndarray) -> Measures:
    """Hold a map against the lesion.

    Parameters
    ----------
    cam : ndarray
        H x W float, a map at the size of the mask.
    mask : ndarray
        H x W bool, True in the lesion, somewhere.

    Returns
    -------
    dict
        ``pointing``: 1 if the `peak` is in the lesion; ``energy``: share of the map's positive sum that is there.
    """
    positive = np.maximum(cam, 0)
    total = float(positive.sum(dtype=np.float64))
    return {"pointing": float(mask[peak(cam)]),
            "energy": float(positive.sum(dtype=np.float64, where=mask)) / total if total > 0 else 0.0}


def peak(cam: np.ndarray) -> Tuple[int, int]:
    """Return the pixel where a map is highest; of several, the one nearest to the middle of the picture.

    Beyond its outermost cell centres a map may only repeat the nearest value (D26), so that of a plateau that reaches the
    edge this is the cell's centre, where the network looked.
    """
    y, x = ((np.arange(side) - (side - 1) / 2) ** 2 for side in cam.shape)
    distance = np.add.outer(y, x)
    distance[cam < cam.max()] = np.inf
    row, column = divmod(int(distance.argmin()), cam.shape[1])
    return row, column


def measure_region(found: Located, mask: np.ndarray) -> Measures:
    """Hold a region against the lesion.

    Parameters
    ----------
    found : Located
        The region, and the map that it follows.
    mask : ndarray
        H x W bool: where the lesion is.

    Returns
    -------
    dict
        ``box_iou``: the region's tight box against the lesion's; ``mask_iou``: where the map is region against the mask;
        ``crop_side``: the crop's side as a share of the picture's (root of the shares of area); ``covered``: share of the
        lesion that is in the crop; ``whole``: 1 if the crop is the whole picture.
    """
    above, box = found.cam > found.lowest, found.region.box
    return {
        "box_iou": overlap(found.tight.box, mask_box(mask)),
        "mask_iou": np.count_nonzero(above & mask) / np.count_nonzero(above | mask),
        "crop_side": float(np.sqrt(box.size[0] * box.size[1] / mask.size)),
        "covered": np.count_nonzero(box.cut(mask)) / np.count_nonzero(mask),
        "whole": float(box.covers((mask.shape[0], mask.shape[1]))),
    }


def reference(mask: np.ndarray) -> Measures:
    """Return what no network at all would reach: the whole picture as box, its middle as maximum, an even map."""
    even = np.ones(mask.shape, np.float32)
    even[mask.shape[0] // 2, mask.shape[1] // 2] += 1e-3
    whole = Region(Box(0, 0, *mask.shape), REFERENCE)
    return {**measure_map(even, mask), **measure_region(Located(whole, whole, even, 0.0, REFERENCE), mask)}


def read_mask(path: Path, size: Tuple[int, int]) -> np.ndarray:
    """Read a lesion's mask: H x W bool.

    Raises
    ------
    CamError
        When it is not of its picture's size (height, width), or empty.
    """
    grey = read_image(path)[..., 0]
    if grey.shape != size:
        raise CamError(f"{path}: {grey.shape[1]} x {grey.shape[0]} pixels; its picture has {size[1]} x {size[0]}")
    mask: np.ndarray = grey > MASK_LEVEL
    if not mask.any():
        raise CamError(f"{path}: nothing is marked in the mask; expected white on black, leave the file out")
    return mask


def find_lesions(images: Path, masks: Path, truth: Sequence[Path]) -> List[Lesion]:
    """List the pictures that have a mask ``<image_id>_segmentation.png``, with their labels from the label files."""
    labels: Dict[str, int] = {}
    for path in truth or [path for path in (images / GROUNDTRUTH,) if path.is_file()]:
        labels.update(read_groundtruth(path))
    there = {path.name.lower(): path for path in masks.iterdir()} if masks.is_dir() else {}  # in 2016 it was _Segmentation
    found = [Lesion(image_id, labels.get(image_id), path, there[f"{image_id}{MASK}".lower()])
             for image_id, path in find_pictures(images).items() if f"{image_id}{MASK}".lower() in there]
    if not found:
        raise CamError(f"{masks}: no <image_id>{MASK} of a picture in {images}")
    unknown = [lesion.image_id for lesion in found if lesion.label is None]
    if labels and unknown:
        raise CamError(f"no label of {listing(unknown)}; name all label files with --truth")
    return found


def rules(options: Dict[str, Any]) -> List[RegionRule]:
    """List the rules of all combinations of the fields' values; rules that differ only in unused fields appear once."""
    several = {name: value if isinstance(value, list) else [value] for name, value in options.items()}
    combined = [RegionRule().changed(**dict(zip(several, values))) for values in itertools.product(*several.values())]
    unread = {"ground": RegionRule.ground, "threshold": RegionRule.threshold}
    return list(dict.fromkeys(rule if rule.rule == "threshold" else rule.changed(**unread) for rule in combined))


def measure_all(lesions: Sequence[Lesion], maps: Dict[str, Maps], choices: Sequence[RegionRule],
                network: Network) -> Iterator[Tuple[Lesion, Optional[RegionRule], Measures]]:
    """Yield the measures of every picture under every rule; the rule None is the `reference`."""
    groups: Dict[Tuple[str, str, str], List[RegionRule]] = {}
    for rule in choices:
        groups.setdefault((rule.class_rule, rule.placement, rule.views), []).append(rule)
    for number, lesion in enumerate(tqdm(lesions, "measure", unit="picture", disable=None)):
        mask = read_mask(lesion.mask, read_image(lesion.path).shape[:2])
        yield lesion, None, reference(mask)
        for (class_rule, placement, views), same in groups.items():
            probs, cams = (array[number] for array in maps[views])
            chosen, followed = select(class_rule, cams, probs, lesion.label, network.classes)
            cam = merge(chosen, mask.shape, placement, network.grid)
            of_map = measure_map(cam, mask)
            for rule in same:
                yield lesion, rule, {**of_map, **measure_region(find(rule, cam, followed), mask)}


def summarize(rows: Sequence[Tuple[Lesion, Optional[RegionRule], Measures]]) -> List[Dict[str, str]]:
    """Average over pictures: a row for each rule and true class, and one for all; the crop's side is the median."""
    table = []
    for rule in dict.fromkeys(rule for _, rule, _ in rows):
        mine = [(lesion.label, measures) for lesion, other, measures in rows if other == rule]
        for group in (*range(len(CLASSES)), ALL):
            part = [measures for label, measures in mine if group in (label, ALL)]
            if part:
                table.append({**describe(rule), "class": ALL if group == ALL else CLASSES[int(group)], "n": str(len(part)),
                              **{key: f"{average(key, part):.4f}" for key in MEASURES}})
    return table


def describe(rule: Optional[RegionRule]) -> Dict[str, str]:
    """Return the fields of a rule that the table shows, as text."""
    if rule is None:
        return {"class_rule": REFERENCE, **dict.fromkeys(SHOWN[1:], "-")}
    unread = {} if rule.rule == "threshold" else {"ground": "-", "threshold": "-"}
    return {**{name: str(getattr(rule, name)) for name in SHOWN}, **unread}


def average(key: str, part: Sequence[Measures]) -> float:
    """Return the mean of a measure, or the median of the crop's side."""
    return float((np.median if key == "crop_side" else np.mean)([measures[key] for measures in part]))


def markdown(table: Sequence[Dict[str, str]]) -> str:
    """Return rows as a Markdown table, rounded to three digits."""
    keys = list(table[0])
    lines = [keys, ["---"] * len(keys)]
    lines += [[f"{float(row[key]):.3f}" if key in MEASURES else row[key] for key in keys] for row in table]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_csv(rows: Sequence[Dict[str, str]]) -> str:
    """Return rows as CSV, with their keys as header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def add_parser(subparsers: Any) -> None:
    """Add the command ``localize``."""
    parser = add(
        subparsers, "localize", "measure maps and boxes against lesion masks",
        "python -m pycam localize --net prototxt/vgg_gap_deploy.prototxt --weights build/stage1 --images images --masks masks "
        "--out build/localization --class predicted max --threshold 0.2 0.4 --ground none min",
        "Hold the class activation maps and the boxes of stage 1 against masks of the lesions. The maps are computed once and "
        "kept in OUT, so that further rules on the same pictures take seconds. Options that take several values are tried in "
        "every combination. Writes localization.csv and .md (means for each true class and for all), pictures.csv (every "
        "picture), and with --deletion and --draw more.")
    add_net_arguments(parser)
    add_map_arguments(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of pictures")
    parser.add_argument("--masks", type=Path, required=True, metavar="DIR", help=f"folder of <image_id>{MASK}")
    parser.add_argument("--truth", type=Path, nargs="+", default=[], metavar="CSV",
                        help=f"label files (default: {GROUNDTRUTH} among the pictures, if there)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of maps and tables")
    region_rule.add_arguments(parser, several=True)
    parser.add_argument("--deletion", type=whole(0, deletion.BLOCKS ** 2), default=0, metavar="N",
                        help="also hide the centre patch in N steps, the map's top cells first, and follow the probability "
                             "of the predicted class; uses the first of each option (default: 0, no)")
    parser.add_argument("--draw", type=whole(0), default=0, metavar="N",
                        help="also draw the first N pictures under the first combination: map, region, lesion, crop")
    parser.set_defaults(step=step, run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``localize``."""
    steps.run(step(args))
    print((args.out / "localization.md").read_text(encoding="utf-8"), end="")


def step(args: argparse.Namespace) -> steps.Step:
    """Return the step of the command ``localize``; whoever runs it has the folder, maps and all, for himself."""
    lesions, choices = find_lesions(args.images, args.masks, args.truth), rules(region_rule.given(args))
    if any(rule.class_rule == "true" for rule in choices) and lesions[0].label is None:
        raise CamError("--class true: the true classes are not known; name the label files with --truth")
    pictures, masks = ({lesion.image_id + end: path for lesion, path in zip(lesions, paths)} for end, paths in (
        ("", (lesion.path for lesion in lesions)), (MASK, (lesion.mask for lesion in lesions))))
    options, files = map_options(args), net_inputs(args.net, args.weights)
    computed = {**backend(args).parameters(), **options}
    parameters = {**computed, "rules": [json.dumps(asdict(rule)) for rule in choices], "draw": args.draw,
                  "deletion": args.deletion, "labels": [lesion.label for lesion in lesions],
                  "code": steps.code(*CODE, *region_rule.CODE, *OWN_CODE)}

    def work() -> List[Path]:
        network, first = load_net(args.net, args.weights, backend(args), **options), choices[0]
        maps = {which: get_maps(network, files, computed, pictures, which, args.out, args.batch)
                for which in dict.fromkeys(rule.views for rule in choices)}
        made = write_tables(list(measure_all(lesions, maps, choices, network)), args.out)
        if args.draw:
            made += draw(lesions[:args.draw], maps[first.views], first, network, args.out / DRAWN)
        if args.deletion:
            made.append(args.out / DELETION)
            deletion.follow(network, lesions, maps[first.views], first, args.deletion, args.batch, made[-1])
        return made

    def prepare(_: object) -> None:
        for lesion in lesions:  # before what an earlier run made is deleted
            read_mask(lesion.mask, read_image(lesion.path).shape[:2])
        forget(args.out)

    return steps.Step(f"localize/{os.path.basename(os.path.realpath(args.out))}", args.out, args.out / RECORD, parameters,
                      {**files, **pictures, **masks}, work, prepare)


def forget(out: Path) -> None:
    """Delete what an earlier run made of its maps, so that a killed one leaves nothing that belongs to other rules."""
    for name in (*TABLES, DELETION):
        (out / name).unlink(missing_ok=True)
    if (out / DRAWN / RECORD).is_file():
        shutil.rmtree(out / DRAWN)


def write_tables(rows: Sequence[Tuple[Lesion, Optional[RegionRule], Measures]], out: Path) -> List[Path]:
    """Write the measures of each picture, and their means as CSV and Markdown."""
    table = summarize(rows)
    each = [{"image_id": lesion.image_id, "class": "" if lesion.label is None else CLASSES[lesion.label], **describe(rule),
             **{key: repr(float(value)) for key, value in measures.items()}} for lesion, rule, measures in rows]
    texts = {out / name: text.encode() for name, text in zip(TABLES, (to_csv(each), to_csv(table), markdown(table)))}
    write_together(texts)
    return list(texts)


def draw(lesions: Sequence[Lesion], maps: Maps, rule: RegionRule, network: Network, out: Path) -> List[Path]:
    """Write ``<image_id>.jpg`` to `out`: the map in colour, its region in white, the lesion in green, the crop's box."""
    with partial_folder(out, RECORD) as folder:
        (folder / RECORD).write_text(json.dumps(asdict(rule)), encoding="utf-8")
        for lesion, probs, cams in zip(lesions, *maps):
            image = read_image(lesion.path)
            size = (image.shape[0], image.shape[1])
            found = locate(rule, cams, probs, size, network.grid, lesion.label, network.classes)
            cells = lay(cams.shape[-2:], size, rule.views, rule.placement, network.grid)
            drawn = contour(overlay(image, found.cam, float(found.cam.max()), cells), found.cam > found.lowest)
            drawn = contour(drawn, read_mask(lesion.mask, size), LESION)
            drawn = labelled(outline(drawn, found.region.box), f"map of {found.followed.replace('_', ' ')}", bar=True)
            write_image(folder / f"{lesion.image_id}.jpg", drawn)
    return sorted(out.iterdir())

"""Measure what a map shall be beyond its outermost cells (D26): boxes against lesion masks, training and validation pictures.

    python benchmarks/continuations.py --net prototxt/vgg_gap_narrow_deploy.prototxt --weights models/stage1.caffemodel
        --images images --masks masks --isic data/isic2017 --out build/continuations

Prints and writes OUT/continuations.csv: for both region rules the measures of `pycam localize`, and the change of the box IoU
against the nearest value repeated, with its 95 % interval by the bootstrap over pictures. Of several weights the measures are
averaged. Maps are computed once and kept in OUT: name another folder for other pictures.
"""
import argparse
import csv
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from data_tools.augment import patch_offset, resize_square
from data_tools.files import read_image
from data_tools.isic import read_groundtruth
from pycam.cam import PLACEMENTS, Grid, merge, place, row_weights, select, square_pixels
from pycam.engine import Backend
from pycam.forward import Network, open_net, predict_with_maps
from pycam.region_rule import RegionRule, find
from pycam.studies.localization import Lesion, find_lesions, measure_map, measure_region, read_mask, reference

SIDE = 128  # maps and masks are measured at this size
DRAWS = 2000
RULES = {"20 % (D09)": RegionRule(), "mask-fitted (D21)": RegionRule(class_rule="scored", ground="min", threshold=0.35)}
BEFORE = "repeated (exact)"
MEASURES = ("box_iou", "mask_iou", "pointing", "energy", "crop_side", "covered", "whole")
Offsets = List[Tuple[int, int]]


def offsets(grid: Grid, cells: int) -> Dict[str, Offsets]:
    """Return where views are cut from the square: the centre; four that cover it with their cells; four half a cell apart."""
    centre, quarter = patch_offset(grid.size, grid.patch, "centre")[0], round(grid.pitch / 4)
    low = -round(grid.first - grid.pitch / 2 + 0.5)
    high = grid.size - round(grid.first + (cells - 0.5) * grid.pitch + 0.5)
    moved = (centre - quarter, centre + quarter)
    return {"centre": [(centre, centre)], "shifted": [(y, x) for y in (low, high) for x in (low, high)],
            "finer": [(y, x) for y in moved for x in moved]}


def look(network: Network, image: np.ndarray) -> Dict[str, np.ndarray]:
    """Return the centre view's probabilities, and the maps of every set of views; what is outside of the picture is mirrored."""
    grid, margin = network.grid, network.grid.size
    around = cv2.copyMakeBorder(resize_square(image, grid.size), *[margin - 1] * 4, cv2.BORDER_REFLECT_101)
    found = {}
    for name, corners in offsets(grid, network.cells[0]).items():
        cut = [around[margin - 1 + y:, margin - 1 + x:][:grid.patch, :grid.patch] for y, x in corners]
        probs, cams = predict_with_maps(network, [[view] for view in cut])
        found[name] = cams[:, 0]
        if name == "centre":
            found["probs"] = probs[0]
    return {**found, "ten": predict_with_maps(network, [network.views(image, "ten")])[1][0]}


def weights(grid: Grid, offset: int, cells: int, placement: str) -> np.ndarray:
    """Return the matrix of a view's row of cells; ``reflected`` goes back from the outermost cells as in a mirror."""
    pixels = square_pixels(SIDE, grid.size) - offset
    if placement == "reflected":
        span = (cells - 1) * grid.pitch
        pixels = grid.first + span - np.abs(np.mod(pixels - grid.first, 2 * span) - span)
    return row_weights(pixels, cells, "exact" if placement == "reflected" else placement, grid)


def average(cams: np.ndarray, corners: Offsets, placement: str, grid: Grid, known: bool = False) -> np.ndarray:
    """Return the mean of several views' maps; with `known`, at each place of the views that have cells there."""
    total, count = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for cam, (y, x) in zip(cams, corners):
        rows, columns = (weights(grid, offset, cells, placement) for offset, cells in zip((y, x), cam.shape))
        total += rows @ cam @ columns.T
        count += np.outer(rows.sum(axis=1), columns.sum(axis=1))
    return np.asarray(total / (np.maximum(count, 1e-9) if known else len(cams)))


def continuations(maps: Dict[str, np.ndarray], grid: Grid) -> Iterator[Tuple[str, int, np.ndarray]]:
    """Yield name, passes through the network and map (SIDE x SIDE) of each way; `maps` are of the followed class, V x h x w."""
    cells, size = maps["centre"].shape[-1], (SIDE, SIDE)
    at = offsets(grid, cells)
    for name, placement in zip((BEFORE, "stretched", "fade"), PLACEMENTS):
        yield name, 1, place(maps["centre"][0], size, placement, grid)
    yield "reflected", 1, average(maps["centre"], at["centre"], "reflected", grid)
    for placement in ("exact", "fade"):
        yield f"ten views, {placement}", 10, merge(maps["ten"], size, placement, grid)
    five = np.concatenate([maps["shifted"], maps["centre"]])
    yield "five views that cover the picture", 5, average(five, at["shifted"] + at["centre"], "fade", grid, True)
    for placement in ("exact", "fade"):
        yield f"half the stride, {placement}", 4, average(maps["finer"], at["finer"], placement, grid)
    yield "no network: an even map, fade", 0, place(np.ones((cells, cells)), size, "fade", grid)


def window(array: np.ndarray, number: int, share: float) -> np.ndarray:
    """Return a window at one corner of a picture, in turn, so that lesions lie away from the middle."""
    height, width = (round(share * side) for side in array.shape[:2])
    y, x = (number // 2 % 2) * (array.shape[0] - height), (number % 2) * (array.shape[1] - width)
    return np.ascontiguousarray(array[y:y + height, x:x + width])


def get_maps(network: Network, lesions: Sequence[Lesion], share: float, path: Path) -> Dict[str, np.ndarray]:
    """Return the maps of all pictures, computed now or read from where an earlier call kept them."""
    if not path.is_file():
        found = [look(network, window(read_image(lesion.path), number, share)) for number, lesion in enumerate(tqdm(lesions))]
        np.savez(path, **{name: np.stack([one[name] for one in found]) for name in found[0]})
    return dict(np.load(path))


def measure(lesions: Sequence[Lesion], found: Dict[str, np.ndarray], grid: Grid, share: float) -> Dict[Tuple[str, str, int], Any]:
    """Return the measures of every way: (rule, name, passes) -> pictures x measures."""
    rows: Dict[Tuple[str, str, int], List[List[float]]] = {}
    for number, lesion in enumerate(tqdm(lesions)):
        mask = window(read_mask(lesion.mask, read_image(lesion.path).shape[:2]), number, share).astype(np.uint8)
        mask = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0
        probs = found["probs"][number]
        for title, rule in RULES.items():
            maps = {name: select(rule.class_rule, cams[number], probs)[0] for name, cams in found.items() if name != "probs"}
            measured = {("no network: the whole picture", 0): reference(mask)}
            for name, passes, cam in continuations(maps, grid):
                cam = cam.astype(np.float32)
                measured[name, passes] = {**measure_map(cam, mask), **measure_region(find(rule, cam, ""), mask)}
            for (name, passes), values in measured.items():
                rows.setdefault((title, name, passes), []).append([values[key] for key in MEASURES])
    return {key: np.array(values) for key, values in rows.items()}


def summary(results: List[Dict[Tuple[str, str, int], Any]], chosen: np.ndarray, split: str) -> Iterator[Dict[str, Any]]:
    """Yield a table's rows for some of the pictures; of several networks, each picture's mean."""
    places = np.flatnonzero(chosen)
    draws = np.random.RandomState(0).randint(0, len(places), (DRAWS, len(places)))
    for title, name, passes in results[0]:
        each = np.stack([result[title, name, passes][places] for result in results])
        before = np.stack([result[title, BEFORE, 1][places] for result in results])
        change = (each - before)[..., 0].mean(axis=0)
        low, high = np.percentile(change[draws].mean(axis=1), [2.5, 97.5])
        means = dict(zip(MEASURES, each.mean(axis=(0, 1))))
        means["crop_side"] = np.median(each[..., MEASURES.index("crop_side")])
        yield {"pictures": split, "n": len(places), "rule": title, "continuation": name, "passes": passes,
               **{key: f"{value:.3f}" for key, value in means.items()},
               "change of box_iou": f"{change.mean():+.3f}", "low": f"{low:+.3f}", "high": f"{high:+.3f}"}


def main(words: Optional[Sequence[str]] = None) -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("net", "images", "masks", "isic", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth training picture")
    parser.add_argument("--window", type=float, default=1.0, metavar="SHARE",
                        help="first cut a window of this share of the sides out of a corner")
    args = parser.parse_args(words)
    truth = {split: args.isic / f"ISIC-2017_{split}_Part3_GroundTruth.csv" for split in ("Training", "Validation")}
    lesions = find_lesions(args.images, args.masks, list(truth.values()))
    held = set(read_groundtruth(truth["Validation"]))
    training = [lesion.image_id for lesion in lesions if lesion.image_id not in held]
    wanted = {*training[::args.every], *held}
    lesions = [lesion for lesion in lesions if lesion.image_id in wanted]
    validation = np.array([lesion.image_id in held for lesion in lesions])
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for number, path in enumerate(args.weights):
        network = open_net(args.net, path, Backend("torch", None, args.precision))
        found = get_maps(network, lesions, args.window, args.out / f"maps{number}.npz")
        results.append(measure(lesions, found, network.grid, args.window))
    rows = [row for split, chosen in (("training", ~validation), ("validation", validation))
            for row in summary(results, chosen, split)]
    with open(args.out / "continuations.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for line in (list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)):
        print(f"| {' | '.join(map(str, line))} |")


if __name__ == "__main__":
    main()

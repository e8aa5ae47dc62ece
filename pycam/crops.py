"""Cut each picture's most active region out at full resolution for stage 2: the command ``crops``."""
import argparse
import csv
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from data_tools.files import locked, read_image, sweep, write_atomic, write_image
from data_tools.isic import GROUNDTRUTH, Sample, load_samples
from data_tools.parallel import default_jobs

from .cam import CLASS_RULES, PLACEMENTS, Grid, merge, read_grid, select
from .controls import CONTROLS, elsewhere
from .errors import CamError
from .maps import hashes
from .predict import add_net_arguments, ahead, check_finite, open_net, predict_views
from .preprocess import VIEWS, views
from .regions import CAM_THRESHOLD, CROP_MARGIN, GROUNDS, REGION, RULES, Box, Region, find_region

FORMATS = ("jpg", "png")
BOXES = "boxes.csv"
JOURNAL = "boxes.partial.csv"  # one row a finished picture; what a restart goes on from
PARAMETERS = "crops.json"
COLUMNS = ("image_id", "y0", "x0", "y1", "x1", "class", "reason")

Row = Dict[str, str]


def add_parser(subparsers: Any) -> None:
    """Add the command ``crops``."""
    parser = subparsers.add_parser(
        "crops", help="cut the most active region out of every picture",
        description="Write a crop of every picture, cut from its original pixels where its class activation map is "
                    "strongest. The result is a source folder, like the one it was made from; groundtruth.csv is "
                    "written last, so its presence means complete. Run it again to go on after an interruption.",
        epilog="example: python -m pycam crops --net prototxt/vgg_gap_deploy.prototxt --weights build/stage1 "
               "--images build/clean/train --out build/crops/train")
    add_net_arguments(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="SRC",
                        help="source folder: pictures and groundtruth.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the crops")
    add_region_arguments(parser)
    parser.add_argument("--control", choices=CONTROLS,
                        help="cut something else instead, to see what the regions contribute: the whole picture, or a box of "
                             "the region's size in the middle or at random")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="of the crops (default: jpg)")
    parser.add_argument("--force", action="store_true", help="allow --class true outside a folder named train")
    parser.set_defaults(run=run)


def add_region_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add the choices that lead from maps to a box (D09, D16, D17, D21); with `several`, lists of them to be compared."""
    choices: Dict[str, Tuple[Sequence[str], str, str]] = {
        "--class": (CLASS_RULES, "predicted", "whose map is used"),
        "--rule": (RULES, "threshold", "share of the maximum as in the CAM paper, its authors' released program, or Otsu's"),
        "--ground": (GROUNDS, "none", "what is taken off a map before --rule threshold"),
        "--placement": (PLACEMENTS, "exact", "where the map's cells lie"),
        "--views": (tuple(VIEWS), "centre", "patches whose maps are summed"),
    }
    for name, (values, default, text) in choices.items():
        parser.add_argument(name, dest="class_rule" if name == "--class" else name[2:], choices=values,
                            nargs="+" if several else None, default=[default] if several else default,
                            help=f"{text} (default: {default})")
    parser.add_argument("--threshold", type=share, nargs="+" if several else None, metavar="T",
                        default=[CAM_THRESHOLD] if several else CAM_THRESHOLD,
                        help=f"share of the map's maximum, for --rule threshold (default: {CAM_THRESHOLD})")
    parser.add_argument("--margin", type=share, default=CROP_MARGIN, metavar="M",
                        help=f"added on each side, as a share of the region (default: {CROP_MARGIN})")


def share(text: str) -> float:
    """Read a number from 0 to 1 (not included) from a command line."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return value


def run(args: argparse.Namespace) -> None:
    """Run the command ``crops``."""
    if args.class_rule == "true" and args.images.resolve().name != "train" and not args.force:
        raise CamError(f"--class true: {args.images} is not a folder named train, and the true class would leak the "
                       "labels into the crops that are scored; use --class predicted, or --force")
    if args.out.resolve() == args.images.resolve():
        raise CamError(f"--out {args.out} is the source folder itself; name another folder")
    samples = load_samples(args.images)
    with locked(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
        sweep(args.out)
        make_crops(samples, args)


def make_crops(samples: Sequence[Sample], args: argparse.Namespace) -> None:
    """Make the crops that are not there yet, and finish their folder, which is locked."""
    done = resume(args.out, parameters(args, samples), samples)
    todo = [sample for sample in samples if sample.image_id not in done]
    if todo:
        net, grid = open_net(args), read_grid(args.net)

        def read(sample: Sample) -> Tuple[np.ndarray, List[np.ndarray]]:
            image = read_image(sample.path)
            return image, views(image, args.views)

        with open(args.out / JOURNAL, "a", encoding="utf-8", newline="") as journal:
            for part in ahead(read, todo, max(1, args.batch // VIEWS[args.views])):
                for row in crop_batch(net, grid, part, args):
                    done[row["image_id"]] = row
                    csv.DictWriter(journal, COLUMNS, lineterminator="\n").writerow(row)
                journal.flush()
    finish(args.out, [done[sample.image_id] for sample in samples], args.images / GROUNDTRUTH)
    fallbacks = sum(row["reason"] not in (REGION, *CONTROLS) for row in done.values())
    print(f"{args.out}: {len(samples)} crops, {len(todo)} made now, {fallbacks} whole pictures")


def crop_batch(net: Any, grid: Grid, part: Sequence[Tuple[Sample, Tuple[np.ndarray, List[np.ndarray]]]],
               args: argparse.Namespace) -> List[Row]:
    """Cut and write the crops of a few pictures, given with their pixels and views; return their rows of boxes.csv."""
    probs, cams = predict_views(net, [patches for _, (_, patches) in part])
    check_finite([sample.image_id for sample, _ in part], probs)

    def crop(number: int) -> Row:
        sample, (image, _) = part[number]
        chosen, name = select(args.class_rule, cams[number], probs[number], sample.label)
        placed = merge(chosen, image.shape[:2], args.placement, grid)
        region = find_region(placed, args.rule, threshold=args.threshold, margin=args.margin, ground=args.ground)
        if args.control:
            region = elsewhere(region, image.shape[:2], args.control, sample.image_id)
        write_image(args.out / f"{sample.image_id}.{args.format}", region.box.cut(image))
        return to_row(sample.image_id, region, name)

    with ThreadPoolExecutor(default_jobs()) as pool:
        return list(pool.map(crop, range(len(part))))


def to_row(image_id: str, region: Region, class_name: str) -> Row:
    """Return one row of boxes.csv."""
    return dict(zip(COLUMNS, (image_id, *(str(v) for v in region.box), class_name, region.reason)))


def parameters(args: argparse.Namespace, samples: Sequence[Sample]) -> Dict[str, Any]:
    """Return everything the crops depend on; crops made with other parameters are made anew."""
    keys = ("class_rule", "rule", "ground", "placement", "views", "threshold", "margin", "control", "format", "precision")
    state: Dict[str, Any] = {key: getattr(args, key) for key in keys}
    state.update(hashes(args.net, args.weights))
    stamps = [(s.image_id, s.label, s.path.stat().st_size, s.path.stat().st_mtime_ns) for s in samples]
    state["pictures"] = hashlib.sha256(repr(stamps).encode()).hexdigest()
    return state


def resume(out: Path, state: Dict[str, Any], samples: Sequence[Sample]) -> Dict[str, Row]:
    """Return the rows already made with these parameters, by image id; remove what was made with others.

    While crops are being made there is no groundtruth.csv, so nobody takes the folder for complete.
    """
    if any(out.iterdir()) and not (out / PARAMETERS).exists():
        raise CamError(f"--out {out}: holds files that were not made here; choose an empty or new folder")
    text = json.dumps(state, indent=2) + "\n"
    same = (out / PARAMETERS).exists() and (out / PARAMETERS).read_text(encoding="utf-8") == text
    done = read_boxes(out / BOXES) if same and (out / GROUNDTRUTH).exists() else read_journal(out / JOURNAL)
    stale = [GROUNDTRUTH, BOXES]
    if not same:
        done = {}
        stale += [JOURNAL] + [f"{sample.image_id}.{suffix}" for sample in samples for suffix in FORMATS]
    for path in [out / name for name in stale]:
        if path.exists():
            path.unlink()
    write_atomic(out / PARAMETERS, text.encode())
    return {i: row for i, row in done.items() if (out / f"{i}.{state['format']}").exists()}


def read_journal(path: Path) -> Dict[str, Row]:
    """Read what an interrupted run finished, and drop the last line where it was cut short."""
    if not path.exists():
        return {}
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    write_atomic(path, "".join(f"{line}\n" for line in whole).encode())
    return {row["image_id"]: row for row in csv.DictReader(whole, COLUMNS)}


def finish(out: Path, rows: Sequence[Row], groundtruth: Path) -> None:
    """Write boxes.csv and then groundtruth.csv; the journal is no longer needed."""
    lines = [",".join(COLUMNS)] + [",".join(row[column] for column in COLUMNS) for row in rows]
    write_atomic(out / BOXES, "".join(f"{line}\n" for line in lines).encode())
    write_atomic(out / GROUNDTRUTH, groundtruth.read_bytes())
    if (out / JOURNAL).exists():
        (out / JOURNAL).unlink()


def read_boxes(path: Path) -> Dict[str, Row]:
    """Read boxes.csv: image id -> row."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError:
        raise CamError(f"{path}: no such file; make it with `python -m pycam crops`") from None
    if rows and set(rows[0]) != set(COLUMNS):
        raise CamError(f"{path}: the columns are {','.join(rows[0])}; expected {','.join(COLUMNS)}")
    for row in rows:
        try:
            row_box(row)
        except (TypeError, ValueError) as error:
            raise CamError(f"{path}: {row['image_id']}: {error}; make the crops again") from error
    return {row["image_id"]: row for row in rows}


def row_box(row: Row) -> Box:
    """Return the box of a row of boxes.csv."""
    return Box(*(int(row[key]) for key in ("y0", "x0", "y1", "x1")))

"""One page about a run: Table 1, curves, class activation maps, failures; the command ``report``."""
import argparse
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple

from data_tools.errors import DataError
from data_tools.files import encode_image, write_atomic
from data_tools.isic import CLASSES, GROUNDTRUTH, read_groundtruth

from . import engine, page, predictions, trainlog
from .crops import BOXES, read_boxes, row_box
from .errors import CamError
from .gallery import FAILURES, SHOWN, Example, Probabilities, examples, most_wrong, spread
from .predict import open_net
from .scoring import MEAN
from .tables import COLUMNS, cell, describe_gain, read_metrics, table_rows

JPEG_QUALITY = 85
TITLE = "Skin lesion classification with class activation maps"
RUNS = {"stage 1": "stage1", "stage 2": "stage2", "from scratch": "scratch"}  # name in the figure -> folder of the run


def add_parser(subparsers: Any) -> None:
    """Add the command ``report``."""
    parser = subparsers.add_parser(
        "report", help="write one page about a run",
        description="Write one self-contained HTML page about a run, and its figures as PNG under RUN/results/figures. "
                    "What the run has not made yet is left out, and the page says so. The maps need --net.",
        epilog="example: python -m pycam report --run build --net prototxt/vgg_gap_deploy.prototxt --out report.html")
    parser.add_argument("--run", type=Path, required=True, dest="folder", metavar="RUN",
                        help="folder of the run: clean, crops, stage1, stage2, results")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="where the page goes")
    parser.add_argument("--net", type=Path, metavar="DEPLOY", help="deploy prototxt, to compute the maps")
    parser.add_argument("--weights", type=Path, metavar="W", help="stage-1 weights (default: RUN/stage1)")
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``report``."""
    if not args.folder.is_dir():
        raise CamError(f"{args.folder}: no such folder; expected the folder of a run")
    args.weights = args.weights or args.folder / "stage1"
    sections: Dict[str, Callable[[argparse.Namespace], str]] = {
        "Table 1": table_section, "ROC curves": roc_section, "Training": training_section,
        "What the network looks at": maps_section, "Where it fails": failures_section}
    parts, left_out = [page.paragraph("Jia and Shen's two-stage classifier on ISIC-2017, part 3. All figures on this "
                                      "page come from this run's own files; the paper's are marked.", "soft")], 0
    for title, make in sections.items():
        try:
            body = make(args)
        except (CamError, DataError) as problem:
            left_out += 1
            print(f"left out: {title}: {problem}", file=sys.stderr)
            body = page.paragraph(f"Left out: {problem}", "note")
        parts.append(page.section(title, body))
    if left_out == len(sections):
        raise CamError(f"{args.folder}: nothing to report yet; expected clean, crops, stage1, stage2, results in it")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(args.out, page.document(TITLE, parts).encode())
    print(args.out)


def table_section(args: argparse.Namespace) -> str:
    """Return Table 1 beside the paper's, what stage 2 adds, and the challenge's other figures."""
    metrics = read_metrics(args.folder / "results" / "metrics.json")
    rows = [[row.name, *(cell(*values) for values in row.cells)] for row in table_rows(metrics)]
    scores: Dict[str, Any] = metrics["scores"]
    figures = [[key.replace("_", " "), *(f"{stage[MEAN][key]:.3f}" for stage in scores.values())]
               for key in next(iter(scores.values()))[MEAN]]
    return "\n".join([
        page.paragraph(f"Area under the ROC curve on {metrics['pictures']} pictures; small: 95 % bootstrap interval."),
        page.table(["", *COLUMNS], rows, theirs=list(metrics["paper"])), page.paragraph(describe_gain(metrics)),
        page.details("The challenge's other figures, mean of both questions", page.table(["", *scores], figures))])


def _predictions(folder: Path) -> Dict[str, Path]:
    return {"stage 1": folder / "results" / "stage1_val.csv", "stage 2": folder / "results" / "stage2_val.csv"}


def roc_section(args: argparse.Namespace) -> str:
    """Return the ROC curves of both stages."""
    from .figures import roc_curves

    files = _predictions(args.folder)
    labels, probs = predictions.read_pair(args.folder / "clean" / "val" / GROUNDTRUTH, *files.values())
    return _figure(args, "roc", roc_curves(labels, dict(zip(files, probs))), "ROC curves on the validation pictures")


def training_section(args: argparse.Namespace) -> str:
    """Return the loss curves of the runs that have a log."""
    from .figures import loss_curves

    paths = {name: args.folder / folder / "train.log" for name, folder in RUNS.items()}
    logs = {name: trainlog.read(path) for name, path in paths.items() if path.is_file()}
    if not logs:
        raise CamError(f"{args.folder}: no stage1/train.log; train first")
    return _figure(args, "loss", loss_curves(logs), "Loss as the solver reports it, and accuracy on the test net")


def _figure(args: argparse.Namespace, name: str, figure: Any, caption: str) -> str:
    from .figures import save

    return page.picture(save(figure, args.folder / "results" / "figures" / f"{name}.png"), "png", caption)


def maps_section(args: argparse.Namespace) -> str:
    """Return pictures with their maps, box and crop (Fig. 2 of the paper)."""
    labels, probs = _stage1(args.folder)
    return _gallery(args, "maps", spread(labels, probs), labels, probs,
                    f"Of each class {SHOWN} validation pictures, evenly spaced from the most to the least certain. The "
                    "three maps of a picture share one scale: no colour is no evidence, red the strongest of the "
                    "three. The number is the class' probability; the box follows the map of the marked class.")


def failures_section(args: argparse.Namespace) -> str:
    """Return the pictures that stage 1 got wrong with the highest confidence (Fig. 4 of the paper)."""
    labels, probs = _stage1(args.folder)
    wrong = most_wrong(labels, probs)
    if not wrong:
        return page.paragraph(f"None: stage 1 got all {len(labels)} validation pictures right.")
    shown = wrong[:FAILURES]
    return _gallery(args, "failures", shown, labels, probs,
                    f"Stage 1 gives {len(wrong)} of {len(labels)} validation pictures a wrong class the highest "
                    f"probability; here are the {len(shown)} it was surest of.")


def _stage1(folder: Path) -> Tuple[Dict[str, int], Probabilities]:
    """Return the validation labels and stage 1's probabilities, both by image id."""
    path = _predictions(folder)["stage 1"]
    labels = read_groundtruth(folder / "clean" / "val" / GROUNDTRUTH)
    probs = predictions.read(path)
    predictions.align(labels, probs, path)
    if any(len(row) != len(CLASSES) for row in probs.values()):
        raise CamError(f"{path}: no column {CLASSES[-1]}; expected the file that `python -m pycam predict` writes")
    return labels, probs


def _gallery(args: argparse.Namespace, name: str, ids: Sequence[str], labels: Mapping[str, int], probs: Probabilities,
             text: str) -> str:
    """Write the figure ``name`` and return the same pictures as cards under a text."""
    from .figures import save, sheet

    if args.net is None:
        raise CamError("the maps need the network: give --net")
    boxes = read_boxes(args.folder / "crops" / "val" / BOXES)
    shown = examples(open_net(args), args.folder, ids, labels, probs, boxes)
    save(sheet(shown), args.folder / "results" / "figures" / f"{name}.png")
    return "\n".join([page.paragraph(text), *map(_card, shown)])


def _card(example: Example) -> str:
    from .figures import SHEET_COLUMNS, tiles

    values = ["", *(f"{p:.2f}" for p in example.probs), ""]
    followed = [name == example.row["class"] for name in ("", *CLASSES, "")]
    figures = [page.picture(encode_image(tile, ".jpg", JPEG_QUALITY), "jpeg", caption, value=value, chosen=chosen)
               for tile, caption, value, chosen in zip(tiles(example), SHEET_COLUMNS, values, followed)]
    height, width = row_box(example.row).size
    reason = "" if example.row["reason"] == "region" else f", the map is {example.row['reason']}"
    remark = f"true class {CLASSES[example.label].replace('_', ' ')}, crop {width} x {height} pixels{reason}"
    return page.card(example.image_id, remark, figures)

"""One page about a run: Table 1, curves, maps, failures, and a gallery of every picture; the command ``report``."""
import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from data_tools import steps
from data_tools.commands import add, add_step
from data_tools.errors import DataError
from data_tools.files import encode_image, locked, write_atomic
from data_tools.isic import CLASSES, GROUNDTRUTH, SPLITS
from torchcaffe.errors import CaffeError

from . import engine, html_page, predictions, runinfo, trainlog
from .errors import CamError
from .examples import FAILURES, SHOWN, Example, Run, median_melanoma, most_wrong, spread
from .forward import open_net
from .gallery import FOLDER, gallery
from .scoring import MEAN, p_value
from .table1 import COLUMNS, FIGURES, STAGE1, STAGE2, cell, describe_gain, metrics_file, read_metrics, table_rows

JPEG_QUALITY = 85
SUFFIXES = (".png", ".pdf")
DRAWN = tuple(f"{name}{suffix}" for name in ("roc", "loss", "overview", "maps", "failures") for suffix in SUFFIXES)
TITLE = "Skin lesion classification with class activation maps"
LEAD = ("Jia and Shen's two-stage classifier on ISIC-2017, part 3: one network on whole pictures, and again on the regions "
        "that its class activation maps point at. All figures come from this run's own files; the paper's are marked.")
RUNS = {"stage 1": "stage1", "stage 2": "stage2", "stage 1, from scratch": "stage1_scratch"}  # curve -> folder of its log
CODE = tuple(f"pycam.{name}" for name in ("report", "html_page", "examples", "gallery", "sheets", "drawing", "figures", "runinfo",
                                          "table1", "trainlog", "cam", "region_rule", "regions", "forward", "preprocess"))


def add_parser(subparsers: Any) -> None:
    """Add the command ``report``."""
    parser = add(
        subparsers, "report", "write one page about a run",
        "python -m pycam report --run build --net prototxt/vgg_gap_deploy.prototxt --out report.html",
        "Write one self-contained HTML page about a run, and its figures as PNG and PDF under RUN/results/figures (figures_SPLIT "
        "for other splits than val). What the run has not made yet is left out, and the page says so. The maps need --net. The "
        "gallery of more than 200 pictures goes into a folder beside the page.")
    parser.add_argument("--run", type=Path, required=True, dest="folder", metavar="RUN",
                        help="folder of the run: clean, crops, stage1, stage2, results")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="where the page goes")
    parser.add_argument("--net", type=Path, metavar="DEPLOY", help="deploy prototxt, to compute the maps")
    parser.add_argument("--weights", type=Path, metavar="W", help="stage-1 weights (default: RUN/stage1)")
    parser.add_argument("--split", choices=SPLITS, default="val", help="whose pictures are shown (default: val)")
    engine.add_arguments(parser)
    add_step(parser, step)


def step(args: argparse.Namespace) -> steps.Step:
    """Return the step of the command ``report``."""
    if not args.folder.is_dir():
        raise CamError(f"{args.folder}: no such folder; expected the folder of a run")
    backend, weights = engine.backend(args), args.weights or args.folder / "stage1"

    def open_stage1() -> Any:
        if args.net is None:
            raise CamError("the maps need the network: give --net")
        return open_net(args.net, weights, backend)

    records = {name: [record.parameters, record.facts] for name, record in runinfo.records(args.folder).items()}
    parameters = {**backend.parameters(), "records": json.dumps(records), "code": steps.code(*CODE)}
    return steps.Step("report", args.out, steps.beside(args.out), parameters, _inputs(args.folder, args.split, args.net, weights),
                      partial(write_page, Run(args.folder, open_stage1, args.net, args.split), args.out))


def _inputs(folder: Path, split: str, *files: Optional[Path]) -> Dict[str, Path]:
    """Return the files that a page is made of, as far as they are there."""
    results = [metrics_file(folder / "results", split),
               *(folder / "results" / f"{stage}_{split}.csv" for stage in ("stage1", "stage2"))]
    logs = [folder / place / "train.log" for place in RUNS.values()]
    pictures = [path for part in ("clean", "crops") for path in sorted((folder / part / split).glob("[!.]*"))]
    own = [html_page.STYLE, html_page.SCRIPT, runinfo.DECISIONS]
    weights = [path / engine.FINAL_WEIGHTS if path and path.is_dir() else path for path in files]
    known = {str(path): path for path in filter(None, (*results, *logs, *pictures, *own, *weights)) if path.is_file()}
    return {os.path.relpath(path, folder): path for path in known.values()}


def write_page(material: Run, out: Path) -> List[Path]:
    """Write the page and its figures, and return the files; what cannot be shown is left out, and the page says why."""
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = figures_folder(material)
    with locked(figures):  # pages of other names have them in common
        for name in DRAWN:
            (figures / name).unlink(missing_ok=True)  # a killed run leaves none of another's
        _write(material, out)
        beside = out.with_name(out.stem + FOLDER)
        return [out, *(figures / name for name in DRAWN if (figures / name).is_file()), *sorted(beside.glob("*.jpg"))]


def figures_folder(material: Run) -> Path:
    """Return the folder of a split's figures among a run's results."""
    return material.folder / "results" / f"figures{'' if material.split == 'val' else f'_{material.split}'}"


def _write(material: Run, out: Path) -> None:
    sections: Dict[str, Callable[[Run], str]] = {
        "Table 1": table_section, "ROC curves": roc_section, "Training": training_section, "Overview": overview_section,
        "Maps": maps_section, "Failures": failures_section, "Gallery": partial(gallery, page=out), "This run": run_section}
    parts, left_out = {}, 0
    for title, make in sections.items():
        try:
            parts[title] = make(material)
        except (CamError, DataError, CaffeError, OSError) as problem:
            left_out += 1
            print(f"left out: {title}: {problem}", file=sys.stderr)
            parts[title] = html_page.paragraph(f"Left out: {problem}", "note")
    if left_out == len(sections):
        raise CamError(f"{material.folder}: nothing to report yet; expected clean, crops, stage1, stage2, results in it")
    lead = html_page.paragraph(LEAD, "soft") + html_page.head(runinfo.head(material.folder, material.split))
    write_atomic(out, html_page.document(TITLE, parts, lead).encode())
    print(out)


def table_section(material: Run) -> str:
    """Return Table 1 beside the paper's, what stage 2 adds, and the challenge's other figures."""
    metrics = read_metrics(metrics_file(material.folder / "results", material.split))
    rows = [[row.name, *(cell(*values) for values in row.cells)] for row in table_rows(metrics)]
    scores = metrics["scores"]
    figures = [[f"{figure}: {key}".replace("_", " "), *(f"{stage[figure][key]:.3f}" for stage in scores.values())]
               for figure in (MEAN, *FIGURES[:-1]) for key in scores[STAGE1][figure]]
    gain = metrics["stage2_against_stage1"][MEAN]
    tiles = [(f"mean AUC, {name}", f"{scores[name][MEAN]['auc']:.3f}",
              f"95 %: {scores[name][MEAN]['auc_low']:.3f} to {scores[name][MEAN]['auc_high']:.3f}") for name in (STAGE1, STAGE2)]
    tiles.append(("what stage 2 adds", f"{gain['difference']:+.3f}",
                  f"95 %: {gain['low']:+.3f} to {gain['high']:+.3f}, p {p_value(gain['p_delong'])}"))
    return "\n".join([
        html_page.numbers([*tiles, (f"{metrics['data']}, {material.split}", str(metrics["pictures"]),
                               "pictures; AUC, each class against the rest")]),
        html_page.paragraph("M: melanoma, SK: seborrheic keratosis, AVG: their mean. Area under the ROC curve, below it its 95 % "
                       "bootstrap interval."),
        html_page.table(["", *COLUMNS], rows, theirs=list(metrics["paper"])), html_page.paragraph(describe_gain(metrics)),
        html_page.details("The challenge's other figures", html_page.table(["", *scores], figures))])


def roc_section(material: Run) -> str:
    """Return the ROC curves of both stages with their bands."""
    from .figures import roc_curves

    truth = material.clean / GROUNDTRUTH
    labels, probs = predictions.read_pair(truth, *material.files.values())
    return _drawing(material, "roc", roc_curves(labels, dict(zip(material.files, probs))),
                    f"ROC curves on the {material.split} pictures; the bands hold 95 % of the bootstrap curves at each point.")


def training_section(material: Run) -> str:
    """Return the loss curves of the runs that have a log (Fig. 3 of the paper)."""
    from .figures import loss_curves

    folder, logs = material.folder, {}
    for name, place in RUNS.items():
        path = folder / place / "train.log"
        if path.is_file():
            tuned = name == "stage 1" and trainlog.TUNED in trainlog.whole_lines(path)
            logs[f"{name}, fine-tuned" if tuned else name] = trainlog.read(path)
    if not logs:
        raise CamError(f"{folder}: no stage1/train.log; train first")
    return _drawing(material, "loss", loss_curves(logs), "Loss as the solver reports it, and accuracy (Fig. 3 of the paper).")


def _drawing(material: Run, name: str, figure: Any, caption: str) -> str:
    """Write a figure as PNG and PDF, and return it as a drawing of the page."""
    from .figures import render

    _save(material, name, figure)
    return html_page.drawing(render(figure, ".svg"), caption)


def _save(material: Run, name: str, figure: Any) -> None:
    from .figures import save

    for suffix in SUFFIXES:
        save(figure, figures_folder(material) / f"{name}{suffix}")


def overview_section(material: Run) -> str:
    """Return the way of one picture through both stages (Fig. 1 of the paper)."""
    from .sheets import overview

    material.check()
    image_id = median_melanoma(material.labels, material.stage1)
    return _drawing(material, "overview", overview(material.example(image_id)),
                    f"The way of {image_id}, the melanoma of middle rank in stage 1 (Fig. 1 of the paper). M melanoma, SK "
                    "seborrheic keratosis, N nevus; the box is where the crop is cut.")


def maps_section(material: Run) -> str:
    """Return pictures with their maps, box and crop (Fig. 2 of the paper)."""
    return _cases(material, "maps", spread(material.labels, material.stage1, SHOWN),
                  f"Of each class {SHOWN} {material.split} pictures, evenly spaced from the most to the least certain (Fig. 2 of "
                  "the paper). The three maps of a picture share one scale: no colour is no evidence, red the strongest of the "
                  "three. The number is the class' probability in stage 1; the box follows the map of the marked class.")


def failures_section(material: Run) -> str:
    """Return the pictures that stage 1 got wrong with the highest confidence (Fig. 4 of the paper)."""
    wrong = most_wrong(material.labels, material.stage1)
    if not wrong:
        return html_page.paragraph(f"None: stage 1 got all {len(material.labels)} pictures right.")
    shown = wrong[:FAILURES]
    return _cases(material, "failures", shown,
                  f"Stage 1 gives {len(wrong)} of {len(material.labels)} pictures a wrong class the highest "
                  f"probability; here are the {len(shown)} it was surest of (Fig. 4 of the paper). The gallery has them all.")


def _cases(material: Run, name: str, ids: Sequence[str], text: str) -> str:
    """Write the figure ``name`` and return the same pictures as cards under a text."""
    from .sheets import sheet

    material.check()
    shown = [material.example(image_id) for image_id in ids]
    _save(material, name, sheet(shown))
    return "\n".join([html_page.paragraph(text), *map(case, shown)])


def case(example: Example) -> str:
    """Return a picture's card: box, three maps, crop."""
    from .drawing import SHORT
    from .sheets import COLUMNS as NAMES
    from .sheets import tiles

    values = ["", *(f"{p:.2f}" for p in example.probs), ""]
    followed = [name == example.row.followed for name in ("", *CLASSES, "")]
    figures = [html_page.picture(encode_image(tile, ".jpg", JPEG_QUALITY), "jpeg", caption, value=value, chosen=chosen)
               for tile, caption, value, chosen in zip(tiles(example), NAMES, values, followed)]
    height, width = example.row.box.size
    reason = ", the whole picture" if example.row.is_whole else ""
    reason += "" if example.row.reason == "region" else f" ({example.row.reason})"
    after = ", ".join(f"{short} {p:.2f}" for short, p in zip(SHORT, example.final))
    remark = f"true class {CLASSES[example.label].replace('_', ' ')} · crop {width} x {height} pixels{reason} · stage 2: {after}"
    return html_page.card(example.image_id, remark, figures)


def run_section(material: Run) -> str:
    """Return what the run was made with, and the decisions that the paper left open."""
    parts: List[str] = [html_page.table(["step", "parameters"], runinfo.parameters(material.folder), style="text")]
    versions = html_page.table(["", ""], runinfo.versions(), style="text")
    parts.append(html_page.details("Versions of what wrote this page", versions))
    try:
        rows = runinfo.decisions()
        parts.append(html_page.details(f"The {len(rows)} decisions that the paper leaves open",
                                  html_page.table(["question", "choice", "switch"], rows, style="text")))
    except CamError as problem:
        parts.append(html_page.paragraph(f"Without the list of decisions: {problem}", "note"))
    return "\n".join(parts)

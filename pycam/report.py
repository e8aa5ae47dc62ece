"""One page about a run: Table 1, curves, maps, failures, and a gallery of every picture; the command ``report``."""
import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from data_tools import steps
from data_tools.commands import add, add_step
from data_tools.errors import DataError
from data_tools.files import locked, sweep, write_atomic
from data_tools.isic import MADE_UP, SPLITS
from torchcaffe.errors import CaffeError

from . import engine, html_page, runinfo
from .errors import CamError
from .examples import Run
from .forward import Network, open_net
from .gallery import FOLDER, gallery
from .predictions import prepare
from .report_numbers import (
    calibration_section,
    controls_section,
    crops_section,
    decision_section,
    inputs,
    localization_section,
    people_section,
    recall_section,
    roc_section,
    table_section,
    training_section,
)
from .report_parts import SUFFIXES, figures_folder
from .report_pictures import failures_section, maps_section, overview_section

FIGURES = ("roc", "precision_recall", "calibration", "loss", "overview", "maps", "failures", "failures_stage2")
DRAWN = tuple(f"{name}{suffix}" for name in FIGURES for suffix in SUFFIXES)
EXTRAS = CONTROLS, PEOPLE, LESIONS = ("Control crops", "Age and sex", "Lesions")  # sections that few runs have the files for
TITLE = "Skin lesion classification with class activation maps"
LEAD = ("Jia and Shen's two-stage classifier: one network on whole pictures, and again on the regions that its class activation "
        "maps point at. All figures come from this run's own files; grey ones are others'.")
NO_SKIN = "All pictures of this page are made up. Its figures show that the pipeline works; they show nothing about skin."
CODE = tuple(f"pycam.{name}" for name in (
    "report", "report_numbers", "report_parts", "report_pictures", "html_page", "examples", "gallery", "sheets", "drawing",
    "cells", "figures", "clinical", "metadata", "scoring", "intervals", "runinfo", "table1", "trainlog", "cam", "region_rule",
    "regions", "forward", "preprocess"))


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
    parser.add_argument("--isic", type=Path, metavar="DIR", help="folder of the data set, for its table of age and sex")
    engine.add_arguments(parser)
    add_step(parser, step)


def step(args: argparse.Namespace) -> steps.Step:
    """Return the step of the command ``report``."""
    if not args.folder.is_dir():
        raise CamError(f"{args.folder}: no such folder; expected the folder of a run")
    prepare(args.out)
    backend, weights = engine.backend(args), args.weights or args.folder / "stage1"

    def open_stage1() -> Network:
        if args.net is None:
            raise CamError("the maps need the network: give --net")
        return open_net(args.net, weights, backend)

    records = {name: [record.parameters, record.facts] for name, record in runinfo.records(args.folder).items()}
    parameters = {**backend.parameters(), "records": json.dumps(records), "code": steps.code(*CODE)}
    return steps.Step("report", args.out, steps.beside(args.out), parameters,
                      _inputs(args.folder, args.split, args.isic, args.net, weights),
                      partial(write_page, Run(args.folder, open_stage1, args.split), args.out, args.isic))


def _inputs(folder: Path, split: str, tables: Optional[Path], *files: Optional[Path]) -> Dict[str, Path]:
    """Return the files that a page is made of, as far as they are there."""
    pictures = [path for part in ("clean", "crops") for path in sorted((folder / part / split).glob("[!.]*"))]
    own = [html_page.STYLE, html_page.SCRIPT, runinfo.DECISIONS]
    weights = [path / engine.FINAL_WEIGHTS if path and path.is_dir() else path for path in files]
    told = (*inputs(folder, split, tables), *pictures, *own, *weights)
    known = {str(path): path for path in filter(None, told) if path.is_file()}
    return {os.path.relpath(path, folder): path for path in known.values()}


def write_page(material: Run, out: Path, tables: Optional[Path] = None) -> List[Path]:
    """Write the page and its figures, and return the files; what cannot be shown is left out, and the page says why."""
    figures = figures_folder(material)
    with locked(figures):  # pages of other names have them in common
        sweep(figures)
        for name in DRAWN:
            (figures / name).unlink(missing_ok=True)  # a killed run leaves none of another's
        _write(material, out, tables)
        beside = out.with_name(out.stem + FOLDER)
        return [out, *(figures / name for name in DRAWN if (figures / name).is_file()), *sorted(beside.glob("*.jpg"))]


def _write(material: Run, out: Path, tables: Optional[Path]) -> None:
    sections: Dict[str, Callable[[Run], str]] = {
        "Table 1": table_section, CONTROLS: controls_section, "Decisions": decision_section, "ROC curves": roc_section,
        "Precision and recall": recall_section, "Calibration": calibration_section,
        PEOPLE: partial(people_section, tables=tables), "Crops": crops_section, LESIONS: localization_section,
        "Training": training_section, "Overview": overview_section, "Maps": maps_section, "Failures": failures_section,
        "Gallery": partial(gallery, page=out), "This run": run_section}
    parts, left_out = {}, 0
    for title, make in sections.items():
        try:
            parts[title] = make(material)
        except (CamError, DataError, CaffeError, OSError) as problem:
            left_out += 1
            if title not in EXTRAS:
                print(f"left out: {title}: {problem}", file=sys.stderr)
            parts[title] = html_page.paragraph(f"{'Not shown' if title in EXTRAS else 'Left out'}: {problem}", "note")
    if left_out == len(sections):
        raise CamError(f"{material.folder}: nothing to report yet; expected clean, crops, stage1, stage2, results in it")
    head = runinfo.head(material.folder, material.split)
    note = html_page.paragraph(NO_SKIN, "note") if dict(head)["data"].startswith(MADE_UP) else ""
    lead = note + html_page.paragraph(LEAD, "soft") + html_page.head(head)
    write_atomic(out, html_page.document(TITLE, parts, lead).encode())
    print(out)


def run_section(material: Run) -> str:
    """Return what the run was made with, and the decisions that the paper left open."""
    parts: List[str] = [html_page.table(["step", "parameters"], runinfo.parameters(material.folder), style="text steps")]
    versions = html_page.table(["", ""], runinfo.versions(), style="text")
    parts.append(html_page.details("Versions of what wrote this page", versions))
    try:
        rows = runinfo.decisions()
        parts.append(html_page.details(f"The {len(rows)} decisions that the paper leaves open",
                                  html_page.table(["question", "choice", "switch"], rows, style="text")))
    except CamError as problem:
        parts.append(html_page.paragraph(f"Without the list of decisions: {problem}", "note"))
    return "\n".join(parts)

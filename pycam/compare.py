"""Hold two runs side by side: their AUCs, a paired test, and the settings that differ; the command ``compare``."""
import argparse
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from data_tools.commands import add
from data_tools.files import listing, write_atomic
from data_tools.isic import GROUNDTRUTH, SPLITS, read_groundtruth

from . import html_page, predictions, runinfo
from .errors import CamError
from .examples import STAGES
from .predictions import prepare
from .scoring import compare, p_value, score
from .table1 import COLUMNS, FIGURES, cell

TITLE = "Two runs compared"
UNTOLD = ("code", "train_state", "labels", "layers", "resumed")  # of a record's parameters: no settings
TOLD = ("net", "weights", "engine", "device")  # of its facts
ABSENT, NONE = "-", "no setting differs in the steps that both runs have a record of"
ABOUT = ("M: melanoma, SK: seborrheic keratosis, AVG: their mean. Area under the ROC curve with 95 % bootstrap intervals; B - A "
         "is paired, p by DeLong's test.")
_HASH = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b")

Changed = Tuple[List[Tuple[str, str, str]], str]  # settings that differ: name, value of each; and a sentence on other steps


class Row(NamedTuple):
    """A stage of both runs: its name, the AUCs of each run, and the second less the first."""

    name: str
    first: List[str]
    second: List[str]
    changes: List[str]


def find_truth(folders: Sequence[Path], split: str) -> Path:
    """Return the label file of a split that lies in the runs; refuse runs of different pictures."""
    found = [path for folder in folders for part in ("clean", "crops")
             if (path := folder / part / split / GROUNDTRUTH).is_file()]
    if not found:
        raise CamError(f"{listing(list(map(str, folders)))}: no {split}/{GROUNDTRUTH} in clean or crops; name it with --truth")
    first = read_groundtruth(found[0])
    other = next((path for path in found[1:] if read_groundtruth(path) != first), None)
    if other:
        raise CamError(f"{found[0]} and {other} name other pictures or classes; expected two runs on the same pictures")
    return found[0]


def rows(folders: Sequence[Path], truth: Path, split: str) -> List[Row]:
    """Score the stages that both runs have predicted, on the same pictures."""
    names = [f"stage{number}_{split}.csv" for number, _ in enumerate(STAGES, 1)]
    made = []
    for stage, name in zip(STAGES, names):
        paths = [folder / "results" / name for folder in folders]
        if all(path.is_file() for path in paths):
            labels, (first, second) = predictions.read_pair(truth, *paths)
            tests = compare(labels, first, second)
            each = [[cell(*(found[figure][key] for key in ("auc", "auc_low", "auc_high"))) for figure in FIGURES]
                    for found in (score(labels, first), score(labels, second))]
            made.append(Row(stage, each[0], each[1], [_change(tests[figure]) for figure in FIGURES]))
    if not made:
        raise CamError(f"{folders[0]} and {folders[1]}: no file results/{' or '.join(names)} that both have; predict first")
    return made


def _change(test: Dict[str, float]) -> str:
    return f"{test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f}), p {p_value(test['p_delong'])}"


def settings(folder: Path) -> Dict[str, Dict[str, str]]:
    """Return what the records of a run's steps say of how it was made: step -> parameter -> value."""
    found: Dict[str, Dict[str, str]] = {}
    for place, record in runinfo.records(folder).items():
        facts: Dict[str, Any] = dict(record.facts)
        told = {**record.parameters, **{name: facts[name] for name in TOLD if name in facts}}
        found[place] = dict(_flat("", {name: value for name, value in told.items() if name not in UNTOLD}))
    return found


def _flat(name: str, value: Any) -> Iterator[Tuple[str, str]]:
    """Yield the values of nested parameters under their joined names, hashes and single precision numbers short."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name} {key}".strip(), inner)
    elif isinstance(value, float):
        yield name, f"{value:.6g}"
    else:
        yield name, _HASH.sub(r"\1", value if isinstance(value, str) else json.dumps(value))


def differences(folders: Sequence[Path]) -> Changed:
    """Return the settings that differ in the steps that both runs have, and a sentence on the other steps."""
    first, second = map(settings, folders)
    common = [place for place in first if place in second]
    rest = {"A": [place for place in first if place not in second], "B": [place for place in second if place not in first]}
    alone = [f"only {name} has a record of {listing(places)}" for name, places in rest.items() if places]
    changed = [(f"{place}: {name}", first[place].get(name, ABSENT), second[place].get(name, ABSENT)) for place in common
               for name in {**first[place], **second[place]} if first[place].get(name) != second[place].get(name)]
    return changed, "; ".join(([] if changed else [NONE if common else "no step has a record in both runs"]) + alone)


def text(found: Sequence[Row], changed: Changed, folders: Sequence[Path]) -> str:
    """Return both tables as aligned lines."""
    table = [["", *COLUMNS]]
    for row in found:
        table += [[f"{row.name}, A", *row.first], [f"{row.name}, B", *row.second], [f"{row.name}, B - A", *row.changes]]
    settled, remark = changed
    told = _aligned([["setting", "A", "B"], *map(list, settled)]) if settled else []
    return "\n".join([f"A: {folders[0]}", f"B: {folders[1]}", "", *_aligned(table), "", *told, *([remark] if remark else [])])


def _aligned(table: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(map(len, column)) for column in zip(*table)]
    return ["  ".join(value.ljust(width) for value, width in zip(row, widths)).rstrip() for row in table]


def page(found: Sequence[Row], changed: Changed, folders: Sequence[Path], about: str) -> str:
    """Return both tables as a page."""
    cells = [[f"{row.name}, {name}", *values] for row in found
             for name, values in zip(("A", "B", "B - A"), (row.first, row.second, row.changes))]
    settled, remark = changed
    body = html_page.table(["setting", "A", "B"], settled, style="text") if settled else ""
    body += html_page.paragraph(remark) if remark else ""
    return html_page.document(TITLE, {"AUC": html_page.table(["", *COLUMNS], cells) + html_page.paragraph(ABOUT),
                                      "Settings that differ": body},
                              html_page.head([("A", str(folders[0])), ("B", str(folders[1])), ("pictures", about)]))


def add_parser(subparsers: Any) -> None:
    """Add the command ``compare``."""
    parser = add(
        subparsers, "compare", "hold two runs side by side",
        "python -m pycam compare build build/experiment/seed1 --out compare.html",
        "Print the AUCs of two runs on the same pictures with 95 % bootstrap intervals, the paired difference B - A with "
        "DeLong's p value, and the settings that differ in the records of their steps.")
    parser.add_argument("folders", type=Path, nargs=2, metavar="RUN", help="folders of runs, A and B")
    parser.add_argument("--split", choices=SPLITS, default="val", help="whose predictions are compared (default: val)")
    parser.add_argument("--truth", type=Path, metavar="GT.csv", help="label file (default: that in the runs)")
    parser.add_argument("--out", type=Path, metavar="HTML", help="write the tables as a page too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``compare``."""
    absent: Optional[Path] = next((folder for folder in args.folders if not folder.is_dir()), None)
    if absent:
        raise CamError(f"{absent}: no such folder; expected the folder of a run")
    prepare(args.out)
    truth = args.truth or find_truth(args.folders, args.split)
    found, changed = rows(args.folders, truth, args.split), differences(args.folders)
    if args.out is not None:
        about = f"{len(read_groundtruth(truth))}, {args.split}"
        write_atomic(args.out, page(found, changed, args.folders, about).encode())
    print(text(found, changed, args.folders))

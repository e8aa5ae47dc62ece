"""The table of an experiment: many rows, several seeds each, every row held against another; the command ``summary``."""
import argparse
import csv
import io
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from data_tools import records
from data_tools.commands import add, whole
from data_tools.files import write_atomic
from data_tools.isic import SPLITS, official_split, read_groundtruth

from . import intervals
from .errors import CamError
from .predictions import SCORED, prepare, read_pair
from .scoring import p_value
from .table1 import COLUMNS, cell, published

FIELDS = ("row", "predictions", "against")


class Spec(NamedTuple):
    """A row to make: its name, the prediction files of one seed (averaged), and the row that it is held against."""

    name: str
    files: List[str]
    against: str


class Result(NamedTuple):
    """A row's figures over its seeds."""

    name: str
    seeds: List[int]
    aucs: np.ndarray  # seeds x (melanoma, seborrheic keratosis, mean)
    samples: np.ndarray  # seeds x resamples x 3, bootstrap over pictures; the same draws in every row


class Change(NamedTuple):
    """A difference of two AUCs, its 95 % interval, and its two-sided p value by bootstrap."""

    difference: float
    low: float
    high: float
    p: float


class Gain(NamedTuple):
    """What a row's mean AUC adds to another's, over the seeds that both have."""

    against: str
    seeds: List[int]
    change: Change


def read_rows(path: Path) -> List[Dict[str, str]]:
    """Read the lines of a table with the columns row, predictions, against, and perhaps others."""
    (_, header), *lines = records.read_rows(path, f"a CSV file with the columns {','.join(FIELDS)}")
    wrong = next((line for line, row in lines if len(row) != len(header)), None)
    if not lines or not set(FIELDS) <= set(header) or wrong:
        found = f"line {wrong} has another number of fields" if wrong else f"found {records.shorten(','.join(header))}"
        raise CamError(f"{path}: {found}; expected rows with the columns {','.join(FIELDS)}")
    return [dict(zip(header, row)) for _, row in lines]


def read_specs(path: Path, run: str = "{seed}", split: str = "val") -> List[Spec]:
    """Read the rows to make; a path may hold ``{seed}``, ``{run}`` and ``{split}``, several are joined by `` + ``."""
    specs = [Spec(row["row"], row["predictions"].replace("{run}", run).replace("{split}", split).split(" + "), row["against"])
             for row in read_rows(path)]
    known: List[str] = []
    for spec in specs:
        if spec.against not in ["", *known]:
            raise CamError(f"{path}: {spec.name!r} is held against {spec.against!r}, which is no earlier row")
        known.append(spec.name)
    return specs


def evaluate(spec: Spec, root: Path, truth: Path, seeds: Sequence[int]) -> Optional[Result]:
    """Score the seeds whose prediction files are all there; None when no seed has them."""
    there, aucs, samples = [], [], []
    for seed in seeds:
        paths = [root / name.replace("{seed}", str(seed)) for name in spec.files]
        if not all(path.is_file() for path in paths):
            continue
        labels, probs = read_pair(Path(str(truth).replace("{seed}", str(seed))), paths[0], *paths[1:])
        mean = np.mean(probs, axis=0)
        each = [intervals.auc(labels == i, mean[:, i]) for i in range(len(SCORED))]
        drawn = intervals.bootstrap_aucs(labels, mean, range(len(SCORED)))
        there.append(seed)
        aucs.append([*each, np.mean(each)])
        samples.append(np.column_stack([drawn, drawn.mean(axis=1)]))
    return Result(spec.name, there, np.array(aucs), np.array(samples)) if there else None


def gain(row: Result, other: Result) -> Optional[Gain]:
    """Test the mean AUC of two rows over their common seeds: pictures are resampled, seeds averaged."""
    common = [seed for seed in row.seeds if seed in other.seeds]
    if not common:
        return None
    parts = []
    for result in (row, other):
        chosen = [result.seeds.index(seed) for seed in common]
        parts.append((result.aucs[chosen, -1].mean(), result.samples[chosen, :, -1].mean(axis=0)))
    samples = parts[0][1] - parts[1][1]
    change = Change(float(parts[0][0] - parts[1][0]), *intervals.percentiles(samples), intervals.two_sided(samples))
    return Gain(other.name, common, change)


def to_markdown(results: Sequence[Result], gains: Dict[str, Gain], missing: Sequence[str],
                others: Optional[Mapping[str, Tuple[float, float, float]]] = None) -> str:
    """Return the table as Markdown: means over seeds with 95 % intervals, each seed's mean AUC, the paired test.

    The figures of others stand first: AUC of melanoma, of keratosis, their mean.
    """
    no_interval = (float("nan"), float("nan"))
    lines = ["| row | runs | " + " | ".join(COLUMNS) + " | AVG of each run | change of AVG, paired |",
             "| --- |" + " --- |" * (len(COLUMNS) + 3)]
    lines += [f"| {name} | | " + " | ".join(cell(value, *no_interval) for value in values) + " | | |"
              for name, values in (others or {}).items()]
    for result in results:
        cells = [cell(*figure) for figure in figures(result)]
        each = ", ".join(f"{auc:.3f}" for auc in result.aucs[:, -1])
        lines.append(f"| {' | '.join([result.name, str(len(result.seeds)), *cells, each, describe(gains.get(result.name))])} |")
    if missing:
        lines += ["", f"Not run: {'; '.join(missing)}."]
    return "\n".join(lines) + "\n"


def figures(result: Result) -> List[Tuple[float, float, float]]:
    """Return (mean over seeds, low, high) of melanoma, seborrheic keratosis and their mean."""
    spread = [intervals.percentiles(result.samples[:, :, i].mean(axis=0)) for i in range(3)]
    return [(float(result.aucs[:, i].mean()), *spread[i]) for i in range(3)]


def describe(found: Optional[Gain]) -> str:
    """Return a gain as text: against what, how much, how sure."""
    if found is None:
        return ""
    change = found.change
    return (f"{change.difference:+.3f} ({change.low:+.3f} to {change.high:+.3f}, p {p_value(change.p)}) against {found.against}")


def to_csv(results: Sequence[Result], gains: Dict[str, Gain]) -> str:
    """Return a line for every row and seed, and one for the mean over the seeds; full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{column}{end}" for column in COLUMNS for end in ("", "_low", "_high")]
    writer.writerow(["row", "seed", *ends, "against", "change", "change_low", "change_high", "p"])
    for result in results:
        for seed, aucs, samples in zip(result.seeds, result.aucs, result.samples):
            spread = [intervals.percentiles(samples[:, i]) for i in range(3)]
            writer.writerow([result.name, seed, *(value for auc, ends in zip(aucs, spread) for value in (auc, *ends))])
        found = gains.get(result.name)
        test = [found.against, *found.change] if found else []
        writer.writerow([result.name, "mean", *(value for figure in figures(result) for value in figure), *test])
    return text.getvalue()


def add_parser(subparsers: Any) -> None:
    """Add the command ``summary``."""
    parser = add(
        subparsers, "summary", "write the table of an experiment with several rows and seeds",
        "python -m pycam summary --rows experiments/rows.csv --root docs/results/predictions "
        "--truth docs/results/predictions/groundtruth.csv --out build/table1",
        "Score the prediction files of every row and seed, average over the seeds, hold each row against another on the same "
        "pictures, write NAME.md and NAME.csv, and print the table.")
    parser.add_argument("--rows", type=Path, required=True, metavar="CSV", help=f"columns {','.join(FIELDS)}")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder that the paths in CSV start from")
    parser.add_argument("--truth", type=Path, required=True, metavar="GT.csv",
                        help="ground truth of the pictures; with {seed} in its name another for every seed, as folds have")
    parser.add_argument("--seeds", type=_seeds, default=[1, 2, 3], metavar="1,2,3")
    parser.add_argument("--run", dest="run_name", default="seed{seed}", metavar="NAME",
                        help="what {run} stands for in the paths (default: seed{seed})")
    parser.add_argument("--split", choices=SPLITS, default="val", help="what {split} stands for (default: val)")
    parser.add_argument("--out", type=Path, required=True, metavar="NAME", help="NAME.md and NAME.csv are written")
    parser.set_defaults(run=run)


def _seeds(text: str) -> List[int]:
    return [whole(0, 2 ** 32 - 1)(seed) for seed in text.split(",")]


def run(args: argparse.Namespace) -> None:
    """Run the command ``summary``."""
    write(args.rows, args.root, args.truth, args.seeds, args.run_name, args.split, args.out)


def write(table: Path, root: Path, truth: Path, seeds: Sequence[int], run_name: str, split: str, out: Path) -> None:
    """Write the table of the prediction files below `root`, and print it."""
    specs = read_specs(table, run_name, split)
    if not out.name:
        raise CamError(f"--out {out}: expected the name of a table, without suffix")
    prepare(out.with_suffix(".csv"), out.with_suffix(".md"))
    found = {spec.name: evaluate(spec, root, truth, seeds) for spec in specs}
    results = [result for result in found.values() if result is not None]
    if not results:
        raise CamError(f"{root}: holds none of the prediction files of {table}; run the experiment first")
    pairs = {spec.name: (found[spec.name], found.get(spec.against)) for spec in specs}
    tested = {name: gain(row, other) for name, (row, other) in pairs.items() if row and other}
    gains = {name: change for name, change in tested.items() if change}
    pictures = read_groundtruth(Path(str(truth).replace("{seed}", str(results[0].seeds[0]))))
    missing = [name for name, result in found.items() if result is None]
    markdown = to_markdown(results, gains, missing, published(official_split(pictures)))
    write_atomic(out.with_suffix(".csv"), to_csv(results, gains).encode())
    write_atomic(out.with_suffix(".md"), markdown.encode())
    print(markdown, end="")

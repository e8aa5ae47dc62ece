"""The paper's Table 1 from this run's predictions, and the command ``table1``."""
import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, TypedDict

import numpy as np

from data_tools import steps
from data_tools.commands import add
from data_tools.files import write_together
from data_tools.isic import ISIC_2017, SPLITS, data_set, official_split, read_groundtruth
from data_tools.records import Count, damaged, read_json

from .predictions import SCORED, read_pair
from .scoring import MEAN, Scores, compare, p_value, score

UNKNOWN = float("nan")
PUBLISHED = {  # figures of others on the same pictures of ISIC-2017, by split
    "val": {"paper, Stage1": (0.782, 0.860, 0.821), "paper, Stage1,2": (0.807, 0.909, 0.858)},  # Table 1
    "test": {  # the challenge's leaderboard, part 3; Tang et al., IEEE JBHI 2020
        "challenge, rank 10 of 23, probably the paper's authors": (0.804, 0.855, 0.829),
        "challenge, rank 1, with other pictures": (0.868, 0.953, 0.911),
        "GP-CNN-DTEL (2020), no other pictures": (UNKNOWN, UNKNOWN, 0.926),
    },
}
STAGE1, STAGE2, BOTH = "Stage1", "Stage1,2", "mean of both stages"
PAPER = "paper, Stage1,2"  # the row with what its stage 2 adds
STAGES = (STAGE1, STAGE2, BOTH)
AGAIN = "make it again with `python -m pycam table1`"
COLUMNS = ("M_AUC", "SK_AUC", "AVG_AUC")
FIGURES = (*SCORED, MEAN)
CODE = ("pycam.table1", "pycam.scoring", "pycam.intervals", "pycam.predictions")


class Metrics(TypedDict):
    """What `evaluate` finds: by stage, by question, the figures of `scoring.score`; and what `scoring.compare` says."""

    data: str
    pictures: Count
    scores: Dict[str, Scores]
    stage2_against_stage1: Scores
    paper: Scores


class Row(NamedTuple):
    """One line of the table: for each column the AUC and the ends of its 95 % interval (NaN where not known)."""

    name: str
    cells: List[Tuple[float, float, float]]


def evaluate(labels: np.ndarray, stage1: np.ndarray, stage2: np.ndarray, data: str = ISIC_2017, official: Optional[str] = "val"
             ) -> Metrics:
    """Score both stages, their mean (an extra, D12), and test stage 2 against stage 1.

    Published figures are added where the pictures are the same.

    Parameters
    ----------
    labels : ndarray
        N class numbers.
    stage1, stage2 : ndarray
        N x 2 probabilities of melanoma and seborrheic keratosis.
    data : str
        Which pictures, from `data_tools.isic.data_set`.
    official : str, optional
        The split of ISIC-2017 that these pictures are, from `data_tools.isic.official_split`.
    """
    scores: Dict[str, Scores] = {STAGE1: score(labels, stage1), STAGE2: score(labels, stage2),
                                 BOTH: score(labels, (stage1 + stage2) / 2)}
    return {"data": data, "pictures": len(labels), "scores": scores, "stage2_against_stage1": compare(labels, stage1, stage2),
            "paper": {name: {figure: value for figure, value in zip(FIGURES, values) if not np.isnan(value)}
                      for name, values in published(official).items()}}


def published(official: Optional[str]) -> Dict[str, Tuple[float, float, float]]:
    """Return the figures of others on a split of ISIC-2017, by name: M, SK, and mean AUC; NaN where not known."""
    return PUBLISHED.get(official or "", {})


def read_metrics(path: Path) -> Metrics:
    """Read a metrics.json; raise an error when it is missing or is not one that `evaluate` gave."""
    metrics = read_json(path, Metrics, "what `python -m pycam table1` writes", AGAIN)
    try:
        first, *others = ([set(stage[figure]) for figure in FIGURES] for stage in map(metrics["scores"].__getitem__, STAGES))
        if any(other != first for other in others):
            raise KeyError("a figure of some stages only")
        table_rows(metrics)
        describe_gain(metrics)
    except KeyError as error:
        raise damaged(path, error, AGAIN) from error
    return metrics


def table_rows(metrics: Metrics) -> List[Row]:
    """Return the rows of the table: ours, then those of others."""
    ours = [Row(name, [(s[figure]["auc"], s[figure]["auc_low"], s[figure]["auc_high"]) for figure in FIGURES])
            for name, s in metrics["scores"].items()]
    return ours + [Row(name, [(values.get(figure, UNKNOWN), UNKNOWN, UNKNOWN) for figure in FIGURES])
                   for name, values in metrics["paper"].items()]


def cell(value: float, low: float, high: float) -> str:
    """Return ``0.807 (0.71-0.89)``, or the value alone where the interval is not known, or nothing."""
    return "" if np.isnan(value) else f"{value:.3f}" if np.isnan(low) else f"{value:.3f} ({low:.3f}-{high:.3f})"


def to_markdown(metrics: Metrics) -> str:
    """Return the table and the paired test as Markdown."""
    lines = [f"AUC on {metrics['pictures']} pictures ({metrics['data']}), with 95 % bootstrap intervals.", "",
             "| | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    lines += [f"| {row.name} | " + " | ".join(cell(*c) for c in row.cells) + " |" for row in table_rows(metrics)]
    return "\n".join([*lines, "", describe_gain(metrics)]) + "\n"


def describe_gain(metrics: Metrics) -> str:
    """Return one sentence: what stage 2 adds, and how sure that is."""
    gain, reported = metrics["stage2_against_stage1"][MEAN], "; the paper reports +0.037." if PAPER in metrics["paper"] else "."
    return (f"Stage 2 changes the mean AUC by {gain['difference']:+.3f} "
            f"(95 % {gain['low']:+.3f} to {gain['high']:+.3f}; paired p {p_value(gain['p_delong'])} by DeLong, "
            f"{p_value(gain['p_bootstrap'])} by bootstrap){reported}")


def to_csv(metrics: Metrics) -> str:
    """Return the table as CSV, full precision; the interval of a published value is empty."""
    header = ["row"] + [f"{column}{end}" for column in COLUMNS for end in ("", "_low", "_high")]
    lines = [",".join(header)]
    for row in table_rows(metrics):
        values = ["" if np.isnan(v) else repr(float(v)) for c in row.cells for v in c]
        lines.append(",".join([f'"{row.name}"', *values]))
    return "\n".join(lines) + "\n"


def add_parser(subparsers: Any) -> None:
    """Add the command ``table1``."""
    parser = add(
        subparsers, "table1", "write Table 1, on ISIC-2017 beside the paper's numbers",
        "python -m pycam table1 --truth build/clean/val/groundtruth.csv --stage1 build/results/stage1_val.csv "
        "--stage2 build/results/stage2_val.csv --out build/results",
        "Score both stages, write table1.csv, table1.md and metrics.json, and print the table.")
    parser.add_argument("--truth", type=Path, required=True, metavar="GT.csv", help="ground truth of the pictures")
    parser.add_argument("--stage1", type=Path, required=True, metavar="CSV", help="stage-1 predictions")
    parser.add_argument("--stage2", type=Path, required=True, metavar="CSV", help="stage-2 predictions")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the three files")
    parser.add_argument("--split", choices=SPLITS, default="val",
                        help="which pictures these are; table1_SPLIT.csv and so on for other ones than val (default: val)")
    parser.set_defaults(step=step, run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``table1``."""
    made = step(args)
    steps.run(made)
    print(made.out.with_suffix(".md").read_text(encoding="utf-8"), end="")


def table_file(folder: Path, split: str) -> Path:
    """Return the table of a split among a run's results."""
    return folder / f"table1{'' if split == 'val' else f'_{split}'}.csv"


def metrics_file(folder: Path, split: str) -> Path:
    """Return all figures of a split among a run's results."""
    return folder / f"metrics{'' if split == 'val' else f'_{split}'}.json"


def step(args: argparse.Namespace) -> steps.Step:
    """Return the step of the command ``table1``."""
    out, metrics_path = table_file(args.out, args.split), metrics_file(args.out, args.split)

    def work() -> List[Path]:
        labels, (stage1, stage2) = read_pair(args.truth, args.stage1, args.stage2)
        pictures = read_groundtruth(args.truth)
        metrics = evaluate(labels, stage1, stage2, data_set(pictures), official_split(pictures))
        args.out.mkdir(parents=True, exist_ok=True)
        texts = {metrics_path: json.dumps(metrics, indent=2) + "\n", out: to_csv(metrics),
                 out.with_suffix(".md"): to_markdown(metrics)}
        write_together({path: text.encode() for path, text in texts.items()})
        return list(texts)

    return steps.Step(f"table/{args.split}", out, steps.beside(out), {"split": args.split, "code": steps.code(*CODE)},
                      {"truth": args.truth, "stage1": args.stage1, "stage2": args.stage2}, work)

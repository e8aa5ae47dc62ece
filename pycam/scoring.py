"""Scores by the rules of ISIC-2017 part 3, with intervals, and the command ``score``."""
import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from data_tools.commands import add
from data_tools.files import write_atomic
from data_tools.isic import count_classes

from . import intervals
from .errors import CamError
from .predictions import SCORED, prepare, read_pair

SENSITIVITIES = (0.82, 0.89, 0.95)  # where the 2017 challenge reads the specificity
DECISION = 0.5  # positive is strictly above it, in the 2017 rules
SCREENING = 0.8  # sensitivity above which a second area is taken, as by the challenge's later scorer
MEAN = "mean"

Scores = Dict[str, Dict[str, float]]


def score(labels: np.ndarray, probs: np.ndarray) -> Scores:
    """Score melanoma and seborrheic keratosis, each against the rest (D14), and their mean.

    Parameters
    ----------
    labels : ndarray
        N class numbers (0 melanoma, 1 seborrheic keratosis, 2 nevus).
    probs : ndarray
        N x 2 float, melanoma and seborrheic keratosis, in [0, 1]; they need not add up to 1.

    Returns
    -------
    dict
        For ``melanoma``, ``seborrheic_keratosis`` and ``mean``: auc, auc_low and auc_high (stratified bootstrap,
        95 %), auc_delong_low and auc_delong_high, and what `category` gives. ``mean`` is the plain mean; its
        intervals respect that both AUCs come from the same pictures.

    Raises
    ------
    CamError
        When a class, or its rest, has no picture: there is no AUC then.
    """
    _check_classes(labels)
    samples = intervals.bootstrap_aucs(labels, probs, range(len(SCORED)))
    shares = _shares(labels, probs)
    results = {name: category(labels == number, probs[:, number]) for number, name in enumerate(SCORED)}
    results[MEAN] = {key: float(np.mean([results[name][key] for name in SCORED])) for key in results[SCORED[0]]}
    for number, name in enumerate((*SCORED, MEAN)):
        low, high = intervals.percentiles(samples.mean(axis=1) if name == MEAN else samples[:, number])
        delong = intervals.delong(results[name]["auc"], shares[name])
        results[name].update(auc_low=low, auc_high=high, auc_delong_low=delong.low, auc_delong_high=delong.high)
    return results


def _check_classes(labels: np.ndarray) -> None:
    for number, name in enumerate(SCORED):
        count = int((labels == number).sum())
        if count in (0, len(labels)):
            raise CamError(f"ground truth: {count} of {len(labels)} pictures are {name}; an AUC needs both kinds")


def _shares(labels: np.ndarray, probs: np.ndarray) -> Dict[str, np.ndarray]:
    shares = {name: intervals.influence(labels == i, probs[:, i]) for i, name in enumerate(SCORED)}
    shares[MEAN] = np.mean([shares[name] for name in SCORED], axis=0)
    return shares


def category(truth: np.ndarray, prob: np.ndarray) -> Dict[str, float]:
    """Return the 2017 figures of one question: N bool truth, N float probabilities.

    Returns
    -------
    dict
        ``auc``, ``accuracy``, ``sensitivity``, ``specificity``, and

        - ``auc_above_sensitivity_80``: area under the part of the ROC curve above that sensitivity.
        - ``average_precision``: today's step sum; ``average_precision_2017``: the trapezoids of that year's scikit-learn.
        - ``specificity_at_sensitivity_82``, ``_89``, ``_95``: at the first corner of the ROC curve that reaches the
          sensitivity, without interpolation. Points on a straight line are no corners, as in the challenge's scorer.
    """
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve  # a second

    falsely, truly, _ = roc_curve(truth, prob)
    precision, recall, _ = precision_recall_curve(truth, prob)
    figures = {"auc": float(roc_auc_score(truth, prob)),
               "auc_above_sensitivity_80": _area_above(falsely, truly, SCREENING),
               "average_precision": float(average_precision_score(truth, prob)),
               "average_precision_2017": float(auc(recall, precision))}
    for sensitivity in SENSITIVITIES:
        figures[f"specificity_at_sensitivity_{sensitivity * 100:.0f}"] = float(1 - falsely[truly >= sensitivity][0])
    called = prob > DECISION
    figures["accuracy"] = float((called == truth).mean())
    figures["sensitivity"] = float(called[truth].mean())
    figures["specificity"] = float((~called[~truth]).mean())
    return figures


def _area_above(falsely: np.ndarray, truly: np.ndarray, sensitivity: float) -> float:
    """Return the area under the part of an ROC curve that lies above a sensitivity, as it is, not brought to a scale."""
    from sklearn.metrics import auc

    first = int(np.searchsorted(truly, sensitivity))
    start = np.interp(sensitivity, truly[first - 1:first + 1], falsely[first - 1:first + 1])
    return float(auc([start, *falsely[first:]], [sensitivity, *truly[first:]]))


def compare(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> Dict[str, Dict[str, float]]:
    """Test the AUCs of two sets of probabilities (N x 2 each) on the same pictures: second minus first.

    Returns
    -------
    dict
        For each category and the mean: difference, low, high (bootstrap), p_delong, p_bootstrap; two-sided.
    """
    _check_classes(labels)
    both, classes = np.hstack([first, second]), range(len(SCORED))
    samples = intervals.bootstrap_aucs(labels, both, [*classes, *classes])
    change = samples[:, len(SCORED):] - samples[:, :len(SCORED)]
    before, after = _shares(labels, first), _shares(labels, second)
    aucs = [[intervals.auc(labels == i, probs[:, i]) for i in classes] for probs in (first, second)]
    gain = np.subtract(aucs[1], aucs[0])
    results = {}
    for name, value, resampled in zip((*SCORED, MEAN), [*gain, gain.mean()], [*change.T, change.mean(axis=1)]):
        results[name] = intervals.paired_test(float(value), after[name] - before[name], resampled)._asdict()
    return results


def add_parser(subparsers: Any) -> None:
    """Add the command ``score``."""
    parser = add(
        subparsers, "score", "score a prediction file by the ISIC-2017 rules",
        "python -m pycam score --truth build/clean/val/groundtruth.csv build/results/stage2_val.csv "
        "--against build/results/stage1_val.csv",
        "Score predictions by the rules of ISIC-2017 part 3: melanoma and seborrheic keratosis, each against the rest, and "
        "their mean; with 95 % intervals and, with --against, a paired test.")
    parser.add_argument("predictions", type=Path, metavar="PRED.csv",
                        help="image_id,melanoma,seborrheic_keratosis[,nevus]")
    parser.add_argument("--truth", type=Path, required=True, metavar="GT.csv", help="ground truth of the same pictures")
    parser.add_argument("--against", type=Path, metavar="OTHER.csv", help="test whether PRED is better than OTHER")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file too")
    parser.add_argument("--roc", type=Path, metavar="FIGURE", help="draw the ROC curves: a .png, .pdf or .svg file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``score``."""
    prepare(args.json, args.roc)
    paths = [path for path in (args.predictions, args.against) if path is not None]
    labels, probs = read_pair(args.truth, *paths)
    results: Dict[str, Any] = dict(score(labels, probs[0]))
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in count_classes(labels).items())
    lines = [f"{len(labels)} pictures: {counts}", *describe(results)]
    if args.against is not None:
        results["against"] = compare(labels, probs[1], probs[0])
        lines += describe_test(results["against"], args.against.name)
    if args.roc is not None:
        from .figures import roc_curves, save

        save(roc_curves(labels, dict(zip(told_apart(paths), probs))), args.roc)
    if args.json is not None:
        write_atomic(args.json, (json.dumps(results, indent=2) + "\n").encode())
    print("\n".join(lines))


def told_apart(paths: Sequence[Path]) -> List[str]:
    """Return the shortest ends of paths that differ: names, with as many folders as that takes."""
    depths = range(1, 1 + max(len(path.parts) for path in paths))
    ends = [[str(Path(*path.parts[-depth:])) for path in paths] for depth in depths]
    return next((names for names in ends if len(set(names)) == len(paths)), ends[-1])


def p_value(value: float) -> str:
    """Return ``= 0.031`` or ``< 0.001``."""
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"


def describe(results: Scores) -> List[str]:
    """Return the scores as aligned lines of text, a figure a line and a category a column."""
    lines = [f"{'':32}" + "".join(f"{name:>22}" for name in (*SCORED, MEAN))]
    for key in results[MEAN]:
        lines.append(f"{key:32}" + "".join(f"{results[name][key]:22.4f}" for name in (*SCORED, MEAN)))
    return lines


def describe_test(tests: Dict[str, Dict[str, float]], other: str) -> List[str]:
    """Return the paired test as lines of text."""
    return [f"{name}: AUC {t['difference']:+.4f} against {other} (95 % {t['low']:+.4f} to {t['high']:+.4f}), "
            f"p {p_value(t['p_delong'])} (DeLong), {p_value(t['p_bootstrap'])} (bootstrap)" for name, t in tests.items()]

"""What a decision needs in addition to an AUC: a confusion matrix, a threshold, calibration, figures of groups. Pure arrays."""
from statistics import NormalDist
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from data_tools.isic import CLASSES

from . import intervals

BINS = 5  # of a calibration curve, of equal numbers of pictures
FEWEST = 5  # pictures of a class, and of the rest, below which a group has no AUC
AGES = (("under 40", 0, 40), ("40 to 59", 40, 60), ("60 and over", 60, 200))
UNKNOWN = "not known"

Share = Tuple[float, float, float]  # a proportion and its 95 % interval


class Decision(NamedTuple):
    """Sensitivity and specificity of calling a picture positive from a threshold on."""

    threshold: float
    sensitivity: Share
    specificity: Share


def confusion(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Count pictures by true class (row) and most probable class (column): 3 x 3 int; N labels, N x 3 probabilities."""
    from sklearn.metrics import confusion_matrix

    return np.asarray(confusion_matrix(labels, probs.argmax(axis=1), labels=range(len(CLASSES))))


def choose_threshold(truth: np.ndarray, prob: np.ndarray) -> float:
    """Return the probability with the largest sum of sensitivity and specificity (Youden's index); the highest of equal ones."""
    from sklearn.metrics import roc_curve

    falsely, truly, thresholds = roc_curve(truth, prob, drop_intermediate=False)
    gains = np.round(truly - falsely, 12)  # equal ones stay equal
    return float(thresholds[1:][np.argmax(gains[1:])])  # the first one calls no picture positive


def decide(truth: np.ndarray, prob: np.ndarray, threshold: float) -> Decision:
    """Call pictures positive whose probability is at least `threshold`; N bool, N float."""
    called = prob >= threshold
    return Decision(threshold, share(int(called[truth].sum()), int(truth.sum())),
                    share(int((~called[~truth]).sum()), int((~truth).sum())))


def share(count: int, total: int) -> Share:
    """Return a proportion with its Wilson interval."""
    found, z2 = count / total, NormalDist().inv_cdf((1 + intervals.CONFIDENCE) / 2) ** 2
    middle = (found + z2 / (2 * total)) / (1 + z2 / total)
    half = (z2 * (found * (1 - found) / total + z2 / (4 * total ** 2))) ** 0.5 / (1 + z2 / total)
    return found, max(0.0, middle - half), min(1.0, middle + half)


def calibration(truth: np.ndarray, prob: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the mean probability and the share of positives in each of `BINS` bins of equal numbers of pictures."""
    from sklearn.calibration import calibration_curve

    positive, mean = calibration_curve(truth, prob, n_bins=BINS, strategy="quantile")
    return mean, positive


def brier(truth: np.ndarray, prob: np.ndarray) -> Tuple[float, float]:
    """Return the Brier score, and that of the share of positives given for every picture."""
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(truth, prob)), float(truth.mean() * (1 - truth.mean()))


def group_auc(truth: np.ndarray, prob: np.ndarray) -> Optional[Share]:
    """Return the AUC with DeLong's interval; None where a side has fewer than `FEWEST` pictures."""
    if min(truth.sum(), (~truth).sum()) < FEWEST:
        return None
    auc = intervals.auc(truth, prob)
    return (auc, *intervals.delong(auc, intervals.influence(truth, prob)))


def groups(people: Sequence[Tuple[Optional[float], str]]) -> Dict[str, np.ndarray]:
    """Return which pictures (N bool) belong to each group of age and sex; a group of none is left out."""
    ages = np.array([np.nan if age is None else age for age, _ in people])
    sexes = np.array([sex for _, sex in people])
    found = {f"age {name}": (ages >= low) & (ages < high) for name, low, high in AGES}
    found[f"age {UNKNOWN}"] = np.isnan(ages)
    found.update({f"sex {sex or UNKNOWN}": sexes == sex for sex in sorted(set(sexes), reverse=True)})
    return {name: members for name, members in found.items() if members.any()}

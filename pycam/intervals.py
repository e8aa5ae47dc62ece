"""How sure an AUC is: DeLong's variance and a stratified bootstrap, for one prediction file and for a pair."""
from statistics import NormalDist
from typing import NamedTuple, Sequence, Tuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 1
GRID = 101  # false positive rates at which a band is known


class Interval(NamedTuple):
    """Lower and upper end of a 95 % interval."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """Difference of two AUCs on the same pictures (second minus first), its interval and two-sided p values."""

    difference: float
    low: float
    high: float
    p_delong: float
    p_bootstrap: float


def wins(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compare every positive with every negative: P x Q float64, 1 where the positive scores higher, 0.5 for a tie.

    Its mean is the area under the ROC curve.
    """
    return np.asarray((np.sign(scores[positive][:, None] - scores[~positive][None, :]) + 1) / 2)


def influence(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return each picture's share in the error of the AUC: N float64 whose sum of squares is DeLong's variance.

    The variance is var(V10) / P + var(V01) / Q, where V10 (V01) holds the mean wins of each positive (negative), after
    DeLong, DeLong and Clarke-Pearson 1988. The mean of two AUCs, or their difference, has the mean or the difference of
    their shares: the covariance is in the squares.
    """
    table = wins(positive, scores)
    shares = np.zeros(len(scores))
    for members, placement in ((positive, table.mean(axis=1)), (~positive, table.mean(axis=0))):
        count = len(placement)
        shares[members] = (placement - placement.mean()) / np.sqrt(count * max(count - 1, 1))
    return shares


def delong(auc: float, shares: np.ndarray) -> Interval:
    """Return DeLong's interval of an AUC from the pictures' shares (`influence`), cut to [0, 1]."""
    half = _z() * float(np.sqrt((shares ** 2).sum()))
    return Interval(max(0.0, auc - half), min(1.0, auc + half))


def _z() -> float:
    return NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def bootstrap_aucs(labels: np.ndarray, scores: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return the AUC of each class against the rest in `RESAMPLES` resamples, drawn within each class by a fixed seed.

    Parameters
    ----------
    labels : ndarray
        N class numbers.
    scores : ndarray
        N x len(classes).
    classes : sequence of int
        Which class each column is about.

    Returns
    -------
    ndarray
        RESAMPLES x len(classes) float64. The draws depend on the labels alone, so two files resample alike.
    """
    counts = _resample(labels)
    columns = []
    for column, number in enumerate(classes):
        positive = labels == number
        table = wins(positive, scores[:, column])
        total = ((counts[:, positive] @ table) * counts[:, ~positive]).sum(axis=1)
        columns.append(total / table.size)
    return np.stack(columns, axis=1)


def roc_band(labels: np.ndarray, scores: np.ndarray, number: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pointwise 95 % band of an ROC curve, from the resamples of `bootstrap_aucs`.

    Parameters
    ----------
    labels, scores : ndarray
        N class numbers, N floats.
    number : int
        The class that is held against the rest.

    Returns
    -------
    tuple of ndarray
        False positive rates, and at each the lower and the upper end of the true positive rate.
    """
    order = np.argsort(-scores, kind="stable")
    counts, positive = _resample(labels)[:, order], (labels == number)[order]
    steps = np.append(np.diff(scores[order]) != 0, True)  # a run of ties is one step of the curve
    truly, falsely = (np.cumsum(counts * members, axis=1)[:, steps] / members.sum() for members in (positive, ~positive))
    grid = np.linspace(0, 1, GRID)
    curves = [np.interp(grid, [0, *x], [0, *y]) for x, y in zip(falsely, truly)]
    low, high = np.percentile(curves, [50 - 50 * CONFIDENCE, 50 + 50 * CONFIDENCE], axis=0)
    return grid, low, high


def _resample(labels: np.ndarray) -> np.ndarray:
    """Return how often each picture is drawn: RESAMPLES x N; each class keeps its size."""
    random = np.random.RandomState(SEED)
    counts = np.zeros((RESAMPLES, len(labels)))
    for number in np.unique(labels):
        members = np.flatnonzero(labels == number)
        counts[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), RESAMPLES)
    return counts


def percentiles(samples: np.ndarray) -> Interval:
    """Return the middle 95 % of bootstrap samples."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(samples, [tail, 100 - tail])
    return Interval(float(low), float(high))


def paired_test(difference: float, shares: np.ndarray, samples: np.ndarray) -> PairedTest:
    """Test whether a difference of two AUCs on the same pictures is zero.

    Parameters
    ----------
    difference : float
        Second AUC minus first.
    shares : ndarray
        N, `influence` of the second minus that of the first.
    samples : ndarray
        Bootstrap samples of the difference.
    """
    error = float(np.sqrt((shares ** 2).sum()))
    p_delong = 2 * NormalDist().cdf(-abs(difference) / error) if error > 0 else float(difference == 0)
    return PairedTest(difference, *percentiles(samples), p_delong, two_sided(samples))


def two_sided(samples: np.ndarray) -> float:
    """Return the two-sided p value of bootstrap samples of a difference: twice the share on the rarer side of zero."""
    tail = min((samples <= 0).sum(), (samples >= 0).sum())
    return min(1.0, 2 * (float(tail) + 1) / (len(samples) + 1))

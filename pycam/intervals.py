"""How sure an AUC is: DeLong's variance and a stratified bootstrap, for one prediction file and for a pair."""
from statistics import NormalDist
from typing import Iterator, NamedTuple, Sequence, Tuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 1
CELLS = 4_000_000  # counts in memory at a time: all resamples of 2000 pictures, some of more
FEW = 10_000  # members of a class up to which one call draws all resamples; for more it is slower than draw by draw
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


class Ranking(NamedTuple):
    """Pictures in the order of their scores: the positives' and the negatives' numbers, and what lies below each positive.

    `low` and `high` are the numbers of negatives with a lower score, and with one that is not higher.
    """

    positives: np.ndarray
    negatives: np.ndarray
    low: np.ndarray
    high: np.ndarray


def rank(positive: np.ndarray, scores: np.ndarray) -> Ranking:
    """Sort N bool and N scores once, so that no positive need be compared with every negative."""
    order = np.argsort(scores, kind="stable")
    positives, negatives = order[positive[order]], order[~positive[order]]
    low, high = (np.searchsorted(scores[negatives], scores[positives], side) for side in ("left", "right"))
    return Ranking(positives, negatives, low, high)


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve: the share of pairs whose positive scores higher; a tie counts half."""
    ranking = rank(positive, scores)
    return float((ranking.low + ranking.high).sum() / (2 * len(ranking.positives) * len(ranking.negatives)))


def influence(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return each picture's share in the error of the AUC: N float64 whose sum of squares is DeLong's variance.

    The variance is var(V10) / P + var(V01) / Q, where V10 (V01) holds the mean wins of each positive (negative), after
    DeLong, DeLong and Clarke-Pearson 1988. The mean of two AUCs, or their difference, has the mean or the difference of
    their shares: the covariance is in the squares.
    """
    shares = np.zeros(len(scores))
    for members, sign in ((positive, 1), (~positive, -1)):
        ranking = rank(members, sign * scores)
        placement = (ranking.low + ranking.high) / (2 * len(ranking.negatives))
        count = len(placement)
        shares[ranking.positives] = (placement - placement.mean()) / np.sqrt(count * max(count - 1, 1))
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
    rankings = [rank(labels == number, scores[:, column]) for column, number in enumerate(classes)]
    return np.concatenate([np.stack([_aucs(counts, ranking) for ranking in rankings], axis=1) for counts in _resamples(labels)])


def _aucs(counts: np.ndarray, ranking: Ranking) -> np.ndarray:
    """Return the AUC of each row of counts, R x N."""
    below = np.zeros((len(counts), len(ranking.negatives) + 1), np.int64)
    np.cumsum(counts[:, ranking.negatives], axis=1, out=below[:, 1:])
    won = counts[:, ranking.positives] * (below[:, ranking.low] + below[:, ranking.high])
    return np.asarray(won.sum(axis=1) / (2 * len(ranking.positives) * len(ranking.negatives)))


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
    positive, ends = (labels == number)[order], np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    grid = np.linspace(0, 1, GRID)
    curves = [np.interp(grid, *_curve(row[order], positive, ends)) for counts in _resamples(labels) for row in counts]
    low, high = np.percentile(curves, [50 - 50 * CONFIDENCE, 50 + 50 * CONFIDENCE], axis=0)
    return grid, low, high


def _curve(counts: np.ndarray, positive: np.ndarray, ends: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the false and true positive rates of an ROC curve; a run of ties, up to its end, is one step."""
    falsely, truly = (np.append(0, np.cumsum(counts * members)[ends]) for members in (~positive, positive))
    return falsely / falsely[-1], truly / truly[-1]


def _resamples(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how often each picture is drawn, R x N, `RESAMPLES` rows in all; each class keeps its size."""
    random, rows = np.random.RandomState(SEED), max(1, CELLS // len(labels))
    members = [np.flatnonzero(labels == number) for number in np.unique(labels)]
    for start in range(0, RESAMPLES, rows):
        counts = np.empty((min(rows, RESAMPLES - start), len(labels)), np.int32)
        for those in members:
            counts[:, those] = _draws(random, len(those), len(counts))
        yield counts


def _draws(random: np.random.RandomState, count: int, rows: int) -> np.ndarray:
    """Return how often each of `count` members is drawn in `count` draws, some rows of them."""
    if count <= FEW:
        return random.multinomial(count, np.full(count, 1 / count), rows)
    return np.stack([np.bincount(random.randint(0, count, count, np.int32), minlength=count) for _ in range(rows)])


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

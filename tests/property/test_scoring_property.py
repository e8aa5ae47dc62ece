import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycam import intervals
from pycam.scoring import category, score

SOME = settings(deadline=None, max_examples=60)


@st.composite
def cases(draw):
    """Labels with every class in them, and probabilities coarse enough to tie."""
    labels = [0, 1, 2, *draw(st.lists(st.integers(0, 2), max_size=25))]
    column = st.lists(st.integers(0, 10), min_size=len(labels), max_size=len(labels))
    return np.array(labels), np.array([draw(column), draw(column)]).T / 10


@SOME
@given(cases())
def test_auc_is_the_mean_of_the_wins_table_and_influence_sums_to_nothing(case):
    labels, probs = case
    truth = labels == 0
    assert category(truth, probs[:, 0])["auc"] == pytest.approx(intervals.auc(truth, probs[:, 0]))
    shares = intervals.influence(truth, probs[:, 0])
    assert shares[truth].sum() == pytest.approx(0, abs=1e-9)
    assert shares[~truth].sum() == pytest.approx(0, abs=1e-9)


@SOME
@given(cases(), st.integers(0, 1000))
def test_the_order_of_the_pictures_does_not_matter(case, seed):
    labels, probs = case
    order = np.random.RandomState(seed).permutation(len(labels))
    first, second = score(labels, probs), score(labels[order], probs[order])
    for name, figures in first.items():
        for key, value in figures.items():
            if key not in ("auc_low", "auc_high"):  # the resamples are drawn by position
                assert second[name][key] == pytest.approx(value), (name, key)


@SOME
@given(cases())
def test_every_figure_is_a_share(case):
    labels, probs = case
    results = score(labels, probs)
    assert all(0 <= value <= 1 for figures in results.values() for value in figures.values())
    assert all(f["auc_low"] <= f["auc_high"] for f in results.values())


@SOME
@given(cases())
def test_turning_the_scores_around_mirrors_the_auc(case):
    labels, probs = case
    forward, backward = score(labels, probs), score(labels, 1 - probs)
    for name, figures in forward.items():
        assert backward[name]["auc"] == pytest.approx(1 - figures["auc"])
        assert backward[name]["auc_low"] == pytest.approx(1 - figures["auc_high"])

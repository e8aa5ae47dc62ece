import itertools
import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from pycam import intervals
from pycam.__main__ import main
from pycam.errors import CamError
from pycam.intervals import two_sided
from pycam.scoring import category, compare, p_value, score, told_apart

from . import limited

IDS = [f"ISIC_{n:07}" for n in range(6)]
LABELS = np.array([0, 1, 2, 0, 2, 1])
TRUE_AUC = 0.7602  # of two normal distributions one standard deviation apart: Phi(1 / sqrt 2)
PROBS = np.array([[.9, .1], [.2, .7], [.3, .2], [.3, .1], [.5, .4], [.6, .4]])


def pairs_won(positive, negative):
    """The AUC by its definition: a fraction of pairs, ties count half."""
    points = [Fraction(1) if p > n else Fraction(1, 2) if p == n else Fraction(0)
              for p, n in itertools.product(positive, negative)]
    return float(sum(points) / len(points))


def test_auc_is_the_share_of_pairs_in_the_right_order():
    results = score(LABELS, PROBS)
    melanoma, keratosis = pairs_won([.9, .3], [.2, .3, .5, .6]), pairs_won([.7, .4], [.1, .2, .1, .4])
    assert results["melanoma"]["auc"] == pytest.approx(melanoma)
    assert results["seborrheic_keratosis"]["auc"] == pytest.approx(keratosis)
    assert results["mean"]["auc"] == pytest.approx((melanoma + keratosis) / 2)


def test_decisions_are_strictly_above_one_half():
    figures = category(np.array([True, True, True, False, False]), np.array([.5, .6, .9, .5, .51]))
    assert figures["sensitivity"] == pytest.approx(2 / 3)
    assert figures["specificity"] == pytest.approx(1 / 2)
    assert figures["accuracy"] == pytest.approx(3 / 5)


def test_average_precision_of_a_hand_computed_case():
    figures = category(np.array([True, False, True, False]), np.array([.9, .8, .7, .1]))
    assert figures["average_precision"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_average_precision_of_2017_joins_the_points_by_straight_lines():
    figures = category(np.array([True, False, True, False]), np.array([.9, .8, .7, .1]))
    points = [(0, 1), (1 / 2, 1), (1 / 2, 1 / 2), (1, 2 / 3)]  # recall, precision
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in zip(points, points[1:]))
    assert figures["average_precision_2017"] == pytest.approx(area)


def test_the_area_above_a_sensitivity_starts_on_the_line_between_two_points():
    truth, prob = np.array([True] * 5 + [False] * 4), np.array([.9, .8, .7, .3, .3, .6, .3, .3, .1])
    # the curve climbs from (1/4, 3/5) to (3/4, 1), and passes 4/5 at 1/2
    assert category(truth, prob)["auc_above_sensitivity_80"] == pytest.approx(1 / 4 * (4 / 5 + 1) / 2 + 1 / 4)


def test_specificity_at_a_sensitivity_is_the_best_one_that_reaches_it():
    random = np.random.RandomState(3)
    truth, prob = random.rand(200) < 0.3, np.round(random.rand(200), 2)
    figures = category(truth, prob)
    for percent in (82, 89, 95):
        cuts = [cut for cut in np.unique(prob) if (prob[truth] >= cut).mean() >= percent / 100]
        reached = [(prob[~truth] < cut).mean() for cut in cuts]
        assert figures[f"specificity_at_sensitivity_{percent}"] == pytest.approx(max(reached))


def test_all_figures_are_there_for_both_questions_and_the_mean():
    results = score(LABELS, PROBS)
    keys = {"auc", "auc_low", "auc_high", "auc_delong_low", "auc_delong_high", "average_precision", "accuracy",
            "specificity_at_sensitivity_82", "specificity_at_sensitivity_89", "specificity_at_sensitivity_95",
            "sensitivity", "specificity", "auc_above_sensitivity_80", "average_precision_2017"}
    assert {name: set(figures) for name, figures in results.items()} == dict.fromkeys(
        ("melanoma", "seborrheic_keratosis", "mean"), keys)


@pytest.mark.parametrize("labels", [[1, 1, 2], [0, 2, 2], [0, 0, 0]])
def test_a_class_without_pictures_has_no_auc(labels):
    with pytest.raises(CamError, match="an AUC needs both kinds"):
        score(np.array(labels), np.full((3, 2), 0.5))


def simulated(count, seed, shift=1.0):
    random = np.random.RandomState(seed)
    labels = random.choice(3, count, p=[.2, .3, .5])
    scores = 1 / (1 + np.exp(-random.randn(count, 2) - shift * (labels[:, None] == [0, 1])))
    return labels, scores


def wins(positive, prob):
    """Compare every positive with every negative: 1 where the positive is higher, 0.5 for a tie."""
    return np.array([[float(p > n) + 0.5 * (p == n) for n in prob[~positive]] for p in prob[positive]])


def test_delongs_variance_by_its_textbook_formula():
    labels, scores = simulated(80, 0)
    positive, prob = labels == 0, scores[:, 0]
    table = wins(positive, prob)
    variance = np.var(table.mean(1), ddof=1) / table.shape[0] + np.var(table.mean(0), ddof=1) / table.shape[1]
    assert (intervals.influence(positive, prob) ** 2).sum() == pytest.approx(variance)


def test_delongs_covariance_by_its_textbook_formula():
    labels, first = simulated(80, 0)
    second = 0.5 * first + 0.5 * simulated(80, 1)[1]
    positive = labels == 0
    tables = [wins(positive, s[:, 0]) for s in (first, second)]
    covariance = (np.cov([t.mean(1) for t in tables]) / tables[0].shape[0]
                  + np.cov([t.mean(0) for t in tables]) / tables[0].shape[1])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    shares = intervals.influence(positive, second[:, 0]) - intervals.influence(positive, first[:, 0])
    assert (shares ** 2).sum() == pytest.approx(variance)


def test_bootstrap_samples_are_aucs_of_resampled_pictures(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 20)
    labels, scores = simulated(60, 2)
    counts = np.concatenate(list(intervals._resamples(labels)))
    for number in range(3):  # each class keeps its size
        assert (counts[:, labels == number].sum(axis=1) == (labels == number).sum()).all()
    samples = intervals.bootstrap_aucs(labels, scores, range(2))
    for row, sample in zip(counts, samples):
        drawn = np.repeat(np.arange(60), row)
        expected = [roc_auc_score(labels[drawn] == c, scores[drawn, c]) for c in range(2)]
        np.testing.assert_allclose(sample, expected, rtol=1e-12)


def test_the_band_of_a_curve_is_that_of_resampled_curves(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 40)
    labels, scores = simulated(60, 2)
    prob = np.round(scores[:, 0], 1)  # ties
    grid, low, high = intervals.roc_band(labels, prob, 0)
    curves = []
    for row in np.concatenate(list(intervals._resamples(labels))):
        drawn = np.repeat(np.arange(60), row)
        falsely, truly, _ = roc_curve(labels[drawn] == 0, prob[drawn], drop_intermediate=False)
        curves.append(np.interp(grid, falsely, truly))
    np.testing.assert_allclose([low, high], np.percentile(curves, [2.5, 97.5], axis=0), atol=1e-12)
    assert (low <= high).all()


def test_resamples_in_parts_are_of_the_same_kind(monkeypatch):
    """Of many pictures some resamples are drawn at a time, of large classes draw by draw."""
    labels, scores = simulated(60, 2)
    whole = intervals.bootstrap_aucs(labels, scores, range(2))
    monkeypatch.setattr(intervals, "CELLS", 60 * 7)
    for few in (100, 20):
        monkeypatch.setattr(intervals, "FEW", few)
        parts = list(intervals._resamples(labels))
        assert [len(part) for part in parts] == [7] * 285 + [5]
        counts = np.concatenate(parts)
        for number in range(3):
            assert (counts[:, labels == number].sum(axis=1) == (labels == number).sum()).all()
        samples = intervals.bootstrap_aucs(labels, scores, range(2))
        np.testing.assert_allclose(samples.mean(axis=0), whole.mean(axis=0), atol=0.006)
        np.testing.assert_allclose(samples.std(axis=0), whole.std(axis=0), rtol=0.08)


@pytest.mark.slow
def test_time_and_memory_grow_with_the_rows(tmp_path):
    """25,000 rows took more than 170 s and 2.7 GB when each positive was compared with each negative."""
    labels, probs = simulated(25_000, 3)
    (tmp_path / "t.csv").write_text("image_id,melanoma,seborrheic_keratosis\n" + "".join(
        f"ISIC_{i:07},{int(label == 0)},{int(label == 1)}\n" for i, label in enumerate(labels)))
    (tmp_path / "p.csv").write_text("image_id,melanoma,seborrheic_keratosis\n" + "".join(
        f"ISIC_{i:07},{a!r},{b!r}\n" for i, (a, b) in enumerate(probs.tolist())))
    code, lines, peak = limited.run(["-m", "pycam", "score", "--truth", "t.csv", "p.csv"], tmp_path, 120)
    assert (code, lines) == (0, [])
    assert peak < 4e8


def test_both_kinds_of_interval_agree_on_many_pictures():
    results = score(*simulated(600, 4))
    for figures in results.values():
        assert figures["auc_low"] < figures["auc"] < figures["auc_high"]
        assert figures["auc_low"] == pytest.approx(figures["auc_delong_low"], abs=0.01)
        assert figures["auc_high"] == pytest.approx(figures["auc_delong_high"], abs=0.01)


def test_files_that_order_the_pictures_alike_do_not_differ():
    labels, scores = simulated(60, 5)
    for test in compare(labels, scores, scores ** 3).values():
        assert (test["difference"], test["p_delong"], test["p_bootstrap"]) == (0, 1, 1)


def test_a_clear_gain_is_significant_and_its_sign_is_second_minus_first():
    labels, weak = simulated(300, 6, shift=0.1)
    strong = simulated(300, 6, shift=2)[1]
    gains, losses = compare(labels, weak, strong), compare(labels, strong, weak)
    before, after = score(labels, weak), score(labels, strong)
    for name, gain in gains.items():
        assert gain["difference"] == pytest.approx(after[name]["auc"] - before[name]["auc"])
    gain, loss = gains["mean"], losses["mean"]
    assert 0 < gain["low"] < gain["difference"] < gain["high"]
    assert gain["p_delong"] < 0.001
    assert gain["p_bootstrap"] < 0.002
    assert loss["difference"] == -gain["difference"]


@pytest.mark.parametrize(("samples", "p"), [([1] * 9, 0.2), ([1] * 8 + [-1], 0.4), ([-1] * 8 + [0], 0.4), ([-1, 1, 1], 1)])
def test_the_difference_itself_counts_as_a_sample_on_the_rarer_side(samples, p):
    assert two_sided(np.array(samples)) == pytest.approx(p)


@pytest.mark.parametrize(("value", "text"), [(1.0, "= 1.000"), (0.0314, "= 0.031"), (0.001, "= 0.001"), (0.0009999, "< 0.001"),
                                             (1e-300, "< 0.001"), (0.0, "< 0.001")])
def test_a_p_value_is_never_written_as_nought(value, text):
    assert p_value(value) == text


def test_delongs_interval_holds_the_true_value_about_19_times_in_20():
    held = 0
    for seed in range(300):
        labels, scores = simulated(120, 100 + seed)
        auc = intervals.auc(labels == 0, scores[:, 0])
        low, high = intervals.delong(auc, intervals.influence(labels == 0, scores[:, 0]))
        held += low < TRUE_AUC < high
    assert held / 300 == pytest.approx(0.95, abs=0.04)


@pytest.fixture
def files(tmp_path):
    truth = tmp_path / "truth.csv"
    rows = [f"{i},{float(label == 0)},{float(label == 1)}" for i, label in zip(IDS, LABELS)]
    truth.write_text("\n".join(["image_id,melanoma,seborrheic_keratosis", *rows]) + "\n")
    return truth, tmp_path / "pred.csv"


def rows_of(probs=PROBS, ids=IDS):
    return [f"{i},{m},{s}" for i, (m, s) in zip(ids, probs.tolist())]


@pytest.mark.parametrize("header", [
    "image_id,melanoma,seborrheic_keratosis", "image,melanoma,seborrheic_keratosis", None])
def test_score_command_takes_each_header_and_any_order(files, capsys, tmp_path, header):
    truth, path = files
    path.write_text("\n".join(([header] if header else []) + rows_of()[::-1]) + "\n")
    out = tmp_path / "new" / "s.json"
    assert main(["score", str(path), "--truth", str(truth), "--json", str(out)]) == 0
    assert json.loads(out.read_text())["mean"]["auc"] == pytest.approx(score(LABELS, PROBS)["mean"]["auc"])
    assert "specificity_at_sensitivity_95" in capsys.readouterr().out


def test_columns_are_found_by_name(files, capsys):
    truth, path = files
    path.write_text("\n".join(["image_id,nevus,seborrheic_keratosis,melanoma"]
                              + [f"{i},0.0,{s},{m}" for i, (m, s) in zip(IDS, PROBS.tolist())]))
    assert main(["score", str(path), "--truth", str(truth)]) == 0
    assert f"{score(LABELS, PROBS)['melanoma']['auc']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(("rows", "words"), [
    (rows_of()[1:], ["without a prediction", IDS[0]]),
    ([*rows_of(), "ISIC_9999999,0.1,0.2"], ["not in the ground truth", "ISIC_9999999"]),
    ([*rows_of(), rows_of()[2]], ["twice", IDS[2]]),
    ([*rows_of()[:5], f"{IDS[5]},1.2,0.1"], ["line 6", "1.2", "between 0 and 1"]),
    ([*rows_of()[:5], f"{IDS[5]},-0.1,0.1"], ["line 6", "-0.1", "between 0 and 1"]),
    ([*rows_of()[:5], f"{IDS[5]},nan,0.1"], ["line 6", "'nan'"]),
    ([*rows_of()[:5], f"{IDS[5]},often,0.1"], ["line 6", "'often'"]),
    ([*rows_of()[:5], f"{IDS[5]},0.5"], ["line 6", "2 columns"]),
    ([f"{i},0.5" for i in IDS], ["starts with ISIC_0000000,0.5; expected the header"]),
    (["id,melanoma,nevus", *rows_of()], ["starts with id,melanoma,nevus; expected the header"]),
    (["image_id,melanoma,seborrheic_keratosis"], ["no rows below the header"]),
    ([], ["is empty"]),
])
def test_bad_prediction_files_are_refused_in_one_line(files, capsys, rows, words):
    truth, path = files
    path.write_text("\n".join(rows))
    assert main(["score", str(path), "--truth", str(truth)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert all(word in message for word in [str(path), *words])


def test_long_lists_of_ids_are_cut(tmp_path, capsys):
    ids = [f"ISIC_{n:07}" for n in range(47)]
    (tmp_path / "t.csv").write_text("image_id,melanoma,seborrheic_keratosis\n"
                                    + "".join(f"{i},{int(n == 0)},{int(n == 1)}\n" for n, i in enumerate(ids)))
    (tmp_path / "p.csv").write_text("other,0.1,0.2\n")
    assert main(["score", str(tmp_path / "p.csv"), "--truth", str(tmp_path / "t.csv")]) == 1
    message = capsys.readouterr().err
    assert "ISIC_0000009 and 37 more" in message
    assert "ISIC_0000010" not in message


def test_no_command_writes_a_p_value_as_nought(tmp_path, capsys):
    labels, probs = simulated(300, 6, shift=0.1)
    sure = np.eye(3)[labels][:, :2] * 0.5 + 0.25
    ids = [f"ISIC_{n:07}" for n in range(len(labels))]
    (tmp_path / "t.csv").write_text("image_id,melanoma,seborrheic_keratosis\n"
                                    + "".join(f"{i},{int(k == 0)},{int(k == 1)}\n" for i, k in zip(ids, labels)))
    for name, values in (("weak", probs), ("sure", sure)):
        (tmp_path / f"{name}.csv").write_text("\n".join(rows_of(values, ids)))
    (tmp_path / "rows.csv").write_text("row,predictions,against\nweak,weak.csv,\nsure,sure.csv,weak\n")
    weak, best, truth = (str(tmp_path / f"{name}.csv") for name in ("weak", "sure", "t"))
    for words, count in ((["score", best, "--against", weak, "--truth", truth], 6),
                         (["table1", "--stage1", weak, "--stage2", best, "--truth", truth, "--out", str(tmp_path)], 2),
                         (["summary", "--rows", str(tmp_path / "rows.csv"), "--root", str(tmp_path), "--truth", truth,
                           "--seeds", "1", "--out", str(tmp_path / "summary")], 1)):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert said.count("< 0.001") == count
        assert not re.search(r"p =? ?0\.00", said)


@pytest.mark.parametrize(("paths", "names"), [
    (["a/b/one.csv", "a/b/two.csv"], ["one.csv", "two.csv"]),
    (["/run1/results/p.csv", "/run2/results/p.csv"], ["run1/results/p.csv", "run2/results/p.csv"]),
    (["p.csv", "x/p.csv"], ["p.csv", "x/p.csv"]),
    (["x/p.csv"], ["p.csv"]),
    (["x/p.csv", "x/p.csv"], ["x/p.csv", "x/p.csv"])])
def test_files_have_the_shortest_names_that_tell_them_apart(paths, names):
    assert told_apart([Path(path) for path in paths]) == names

"""The table of an experiment: seeds averaged, rows held against each other, rows that were not run."""

import csv

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pycam import __main__ as pycam
from pycam import predictions, summary
from pycam.table1 import published

IDS = [f"ISIC_{number:07d}" for number in range(60)]
LABELS = np.arange(60) % 3
HEADER = "row,predictions,against\n"


@pytest.fixture
def root(tmp_path):
    """Ground truth, and predictions of three seeds: `a` is noise around the truth, `b` the truth itself (two seeds)."""
    random = np.random.default_rng(0)
    lines = [f"{i},{label == 0:.1f},{label == 1:.1f}" for i, label in zip(IDS, LABELS)]
    (tmp_path / "truth.csv").write_text("image_id,melanoma,seborrheic_keratosis\n" + "\n".join(lines) + "\n")
    exact = np.eye(3)[LABELS]
    for seed in (1, 2, 3):
        noisy = np.abs(exact + random.normal(scale=1.5, size=exact.shape))
        predictions.write(tmp_path / f"a{seed}.csv", zip(IDS, noisy / noisy.sum(axis=1, keepdims=True)))
        if seed < 3:
            predictions.write(tmp_path / f"b{seed}.csv", zip(IDS[::-1], exact[::-1]))  # joined by id, not by order
    return tmp_path


def run(root, rows, *options):
    (root / "rows.csv").write_text(HEADER + rows)
    return pycam.main(["summary", "--rows", str(root / "rows.csv"), "--root", str(root), "--truth", str(root / "truth.csv"),
                       "--out", str(root / "table"), *options])


def table(root):
    return list(csv.DictReader((root / "table.csv").read_text().splitlines()))


def auc(path):
    found = predictions.read(path)
    scores = np.array([found[i] for i in IDS])
    return np.mean([roc_auc_score(number == LABELS, scores[:, number]) for number in (0, 1)])


def test_figures_are_means_over_the_seeds(root):
    assert run(root, "noise,a{seed}.csv,\n") == 0
    each = [auc(root / f"a{seed}.csv") for seed in (1, 2, 3)]
    rows = table(root)
    assert [row["seed"] for row in rows] == ["1", "2", "3", "mean"]
    assert [float(row["AVG_AUC"]) for row in rows] == pytest.approx([*each, np.mean(each)])
    assert all(float(row["AVG_AUC_low"]) < float(row["AVG_AUC"]) < float(row["AVG_AUC_high"]) for row in rows)


def test_every_seed_may_have_its_own_ground_truth(root, capsys):
    assert run(root, "noise,a{seed}.csv,\n") == 0
    whole = table(root)
    lines = (root / "truth.csv").read_text().splitlines(keepends=True)
    for seed in (1, 2, 3):
        (root / f"truth{seed}.csv").write_text("".join(lines))
    names = lines[0].strip().split(",")
    swapped = [",".join([names[0], names[2], names[1]]) + "\n", *lines[1:]]  # the other class is the first one
    (root / "truth2.csv").write_text("".join(swapped))
    capsys.readouterr()
    assert run(root, "noise,a{seed}.csv,\n", "--truth", str(root / "truth{seed}.csv")) == 0
    own = table(root)
    assert [own[i] == whole[i] for i in range(3)] == [True, False, True]


def test_a_row_is_held_against_another_over_the_seeds_that_both_have(root):
    assert run(root, "noise,a{seed}.csv,\nexact,b{seed}.csv,noise\n") == 0
    last = table(root)[-1]
    gained = 1 - np.mean([auc(root / f"a{seed}.csv") for seed in (1, 2)])
    assert (last["row"], last["seed"], last["against"]) == ("exact", "mean", "noise")
    assert float(last["change"]) == pytest.approx(gained)
    assert 0 < float(last["change_low"]) < gained < float(last["change_high"])
    assert float(last["p"]) < 0.01


def test_a_row_against_itself_changes_nothing(root):
    assert run(root, "noise,a{seed}.csv,\nagain,a{seed}.csv,noise\n") == 0
    last = table(root)[-1]
    assert [float(last[key]) for key in ("change", "change_low", "change_high", "p")] == [0, 0, 0, 1]


def test_several_files_are_averaged(root):
    assert run(root, "both,a{seed}.csv + b{seed}.csv,\n", "--seeds", "2") == 0
    noisy, exact = (predictions.read(root / f"{name}2.csv") for name in "ab")
    predictions.write(root / "mean.csv", [(i, (np.array(noisy[i]) + exact[i]) / 2) for i in IDS])
    assert float(table(root)[0]["AVG_AUC"]) == pytest.approx(auc(root / "mean.csv"))


def test_rows_without_files_are_named(root, capsys):
    assert run(root, "noise,a{seed}.csv,\nlater,c{seed}.csv,noise\n") == 0
    assert "Not run: later." in capsys.readouterr().out
    assert "| noise | 3 |" in (root / "table.md").read_text()


@pytest.mark.parametrize(("rows", "words"), [
    ("later,c{seed}.csv,\n", "holds none of the prediction files"),
    ("later,{x}{0:q}{seed:>9999999999}.csv,\n", "holds none of the prediction files"),  # no format strings
    ("noise,a{seed}.csv,other\n", "'noise' is held against 'other', which is no earlier row"),
    ("noise\n", "expected rows with the columns row,predictions,against"), ("", "expected rows with the columns")])
def test_bad_rows_are_one_line(root, capsys, rows, words):
    assert run(root, rows) == 1
    assert words in capsys.readouterr().err
    assert not (root / "table.md").exists()


def test_the_papers_rows_stand_above():
    result = summary.Result("ours", [1], np.full((1, 3), 0.5), np.full((1, 10, 3), 0.5))
    lines = summary.to_markdown([result], {}, [], published("val")).splitlines()
    assert lines[2] == "| paper, Stage1 | | 0.782 | 0.860 | 0.821 | | |"
    assert summary.to_markdown([result], {}, []).splitlines()[2:] == lines[4:]
    assert lines[4] == "| ours | 1 | 0.500 (0.500-0.500) | 0.500 (0.500-0.500) | 0.500 (0.500-0.500) | 0.500 |  |"

import csv
import json

import numpy as np
import pytest

from pycam.__main__ import main
from pycam.scoring import score
from pycam.table1 import PAPER, cell

LABELS = np.array([0, 1, 2] * 10)


@pytest.fixture
def run(tmp_path):
    random = np.random.RandomState(0)
    ids = [f"ISIC_{n:07}" for n in range(30)]
    truth = [f"{i},{int(k == 0)},{int(k == 1)}" for i, k in zip(ids, LABELS)]
    (tmp_path / "truth.csv").write_text("\n".join(["image_id,melanoma,seborrheic_keratosis", *truth]))
    probs = {}
    for stage in ("1", "2"):
        probs[stage] = random.rand(30, 3)
        order = random.permutation(30)  # rows are joined by id
        rows = [",".join([ids[n], *map(repr, probs[stage][n].tolist())]) for n in order]
        (tmp_path / f"stage{stage}.csv").write_text("\n".join(["image_id,melanoma,seborrheic_keratosis,nevus", *rows]))
    return tmp_path, probs


def table1(folder):
    return main(["table1", "--truth", str(folder / "truth.csv"), "--stage1", str(folder / "stage1.csv"),
                 "--stage2", str(folder / "stage2.csv"), "--out", str(folder / "results")])


def test_rows_are_ours_and_then_the_papers(run, capsys):
    folder, probs = run
    assert table1(folder) == 0
    with open(folder / "results" / "table1.csv", newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["Stage1", "Stage1,2", "mean of both stages", *PAPER]
    for name, values in (("Stage1", probs["1"]), ("Stage1,2", probs["2"]),
                         ("mean of both stages", (probs["1"] + probs["2"]) / 2)):
        expected = score(LABELS, values[:, :2])
        for column, key in (("M_AUC", "melanoma"), ("SK_AUC", "seborrheic_keratosis"), ("AVG_AUC", "mean")):
            assert float(rows[name][column]) == expected[key]["auc"]
            assert float(rows[name][f"{column}_low"]) == expected[key]["auc_low"]
    assert rows["paper, Stage1,2"]["AVG_AUC"] == "0.858"
    assert rows["paper, Stage1,2"]["AVG_AUC_low"] == ""
    assert capsys.readouterr().out == (folder / "results" / "table1.md").read_text()


def test_the_papers_rows_are_its_table():
    for melanoma, keratosis, mean in PAPER.values():
        assert mean == pytest.approx((melanoma + keratosis) / 2, abs=0.0005)


def test_metrics_hold_the_paired_test(run):
    folder, probs = run
    table1(folder)
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    gain = score(LABELS, probs["2"][:, :2])["mean"]["auc"] - score(LABELS, probs["1"][:, :2])["mean"]["auc"]
    assert metrics["stage2_against_stage1"]["mean"]["difference"] == pytest.approx(gain)
    assert f"{gain:+.3f}" in (folder / "results" / "table1.md").read_text()
    assert metrics["pictures"] == 30


def test_a_bad_file_leaves_no_table(run, capsys):
    folder, _ = run
    (folder / "stage2.csv").write_text("nothing")
    assert table1(folder) == 1
    assert not (folder / "results").exists()


def test_cell():
    assert cell(0.8071, 0.7, 0.9) == "0.807 (0.700-0.900)"
    assert cell(0.858, float("nan"), float("nan")) == "0.858"

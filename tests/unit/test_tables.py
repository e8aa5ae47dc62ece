import csv
import json
from pathlib import Path

import numpy as np
import pytest

from data_tools import isic
from pycam import predictions
from pycam.__main__ import main
from pycam.scoring import score
from pycam.table1 import PUBLISHED, cell

PREDICTIONS = Path(__file__).parents[2] / "docs" / "results" / "predictions" / "vgg16_gap1-chosen" / "results"
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


def table1(folder, *more):
    return main(["table1", "--truth", str(folder / "truth.csv"), "--stage1", str(folder / "stage1.csv"),
                 "--stage2", str(folder / "stage2.csv"), "--out", str(folder / "results"), *more])


def test_rows_are_ours_and_then_the_papers(run, capsys, let_be_official):
    folder, probs = run
    let_be_official(isic.read_groundtruth(folder / "truth.csv"))
    assert table1(folder) == 0
    with open(folder / "results" / "table1.csv", newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["Stage1", "Stage1,2", "mean of both stages", *PUBLISHED["val"]]
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
    for rows in PUBLISHED.values():
        for melanoma, keratosis, mean in rows.values():
            assert np.isnan(melanoma) or mean == pytest.approx((melanoma + keratosis) / 2, abs=0.001)


def test_test_pictures_stand_beside_those_who_scored_them(run, let_be_official):
    folder, _ = run
    let_be_official(isic.read_groundtruth(folder / "truth.csv"), "test")
    assert table1(folder, "--split", "test") == 0
    text = (folder / "results" / "table1_test.md").read_text()
    assert "the paper reports" not in text
    assert "paper, Stage1" not in text  # whose figures are of the validation pictures
    assert "| challenge, rank 1, with other pictures | 0.868 | 0.953 | 0.911 |" in text
    assert "| GP-CNN-DTEL (2020), no other pictures |  |  | 0.926 |" in text


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
    assert list((folder / "results").iterdir()) == []


def test_cell():
    assert cell(0.8071, 0.7, 0.9) == "0.807 (0.700-0.900)"
    assert cell(0.858, float("nan"), float("nan")) == "0.858"


def test_a_table_that_is_up_to_date_is_printed_and_not_made(run, capsys):
    folder, _ = run
    table1(folder)
    text, files = capsys.readouterr().out, {path: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}
    assert len(files) == 4  # with the record
    table1(folder)
    assert capsys.readouterr().out == f"table/val: up to date\n{text}"
    assert files == {path: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}


@pytest.mark.parametrize("name", ["truth.csv", "stage1.csv", "stage2.csv", "results/table1.csv", "results/table1.md",
                                  "results/metrics.json"])
def test_a_table_follows_its_files(run, capsys, name, let_be_official):
    folder, _ = run
    let_be_official(isic.read_groundtruth(folder / "truth.csv"))
    table1(folder)
    before = (folder / "results" / "table1.md").read_text()
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace(",1,0", ",0,1", 3) if name == "truth.csv" else text.replace("0.9", "0.1"))
    capsys.readouterr()
    assert table1(folder) == 0
    assert "up to date" not in capsys.readouterr().out
    assert (before == (folder / "results" / "table1.md").read_text()) == name.startswith("results")


@pytest.mark.parametrize(("prefix", "data"), [("ISIC_", "ISIC pictures"), ("SYN_", "made-up pictures"), ("MY_", "own pictures")])
def test_the_papers_rows_stand_beside_its_own_pictures_only(run, prefix, data):
    folder, _ = run
    for name in ("truth.csv", "stage1.csv", "stage2.csv"):
        (folder / name).write_text((folder / name).read_text().replace("ISIC_", prefix))
    table1(folder)
    text = (folder / "results" / "table1.md").read_text()
    assert text.startswith(f"AUC on 30 pictures ({data}), ")
    assert len((folder / "results" / "table1.csv").read_text().splitlines()) == 1 + 3
    assert "paper" not in text


@pytest.mark.parametrize(("split", "row"), [("val", "paper, Stage1,2"), ("test", "challenge, rank 1, with other pictures")])
def test_published_rows_are_those_of_the_split_whose_pictures_they_are(tmp_path, split, row):
    """Whatever split a command was told; a picture less, and they are other pictures."""
    ids = list(predictions.read(PREDICTIONS / f"stage1_{split}.csv"))
    assert (isic.official_split(reversed(ids)), isic.official_split(ids[1:])) == (split, None)
    for pictures, there in ((ids, True), (ids[1:], False)):
        isic.write_groundtruth(tmp_path / "truth.csv", {image_id: n % 3 for n, image_id in enumerate(pictures)})
        for name in ("stage1.csv", "stage2.csv"):
            predictions.write(tmp_path / name, [(image_id, [0.2, 0.3, 0.5]) for image_id in pictures])
        assert table1(tmp_path, "--split", "val") == 0
        text = (tmp_path / "results" / "table1.md").read_text()
        assert text.startswith(f"AUC on {len(pictures)} pictures ({'ISIC-2017' if there else 'ISIC pictures'}), ")
        assert (f"| {row} |" in text) == there


@pytest.mark.parametrize(("words", "message"), [
    (["--json", "truth.csv"], "is --json and truth too"), (["--json", "link.csv"], "is --json and predictions too"),
    (["--roc", "stage2.csv", "--against", "stage2.csv"], "is --roc and against too"),
    (["--json", "new.png", "--roc", "new.png"], "is --json and roc too")])
def test_an_output_that_is_read_too_is_refused(run, capsys, monkeypatch, words, message):
    folder, _ = run
    monkeypatch.chdir(folder)
    (folder / "link.csv").symlink_to("stage1.csv")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["score", "--truth", "truth.csv", "stage1.csv", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_every_split_has_its_own_files(run, capsys):
    folder, _ = run
    for split in ("val", "test", "val"):
        assert table1(folder, "--split", split) == 0
    names = {path.name for path in (folder / "results").iterdir()}
    assert {"table1.csv", "table1_test.csv", "table1.md", "table1_test.md", "metrics.json", "metrics_test.json"} < names
    assert "table/val: up to date" in capsys.readouterr().out

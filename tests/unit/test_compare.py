import re

import numpy as np
import pytest

from data_tools import steps
from data_tools.isic import write_groundtruth
from pycam import predictions
from pycam.__main__ import main
from pycam.scoring import MEAN, compare

LABELS = {f"ISIC_{number:07}": number % 3 for number in range(30)}


@pytest.fixture
def runs(tmp_path):
    """Return two runs on the same pictures; both have stage 1, one has stage 2."""
    random, folders = np.random.RandomState(0), [tmp_path / name for name in "ab"]
    for folder in folders:
        (folder / "clean" / "val").mkdir(parents=True)
        write_groundtruth(folder / "clean" / "val" / "groundtruth.csv", LABELS)
        (folder / "results").mkdir()
        predictions.write(folder / "results" / "stage1_val.csv", zip(LABELS, random.dirichlet([1, 1, 1], 30)))
    predictions.write(folders[0] / "results" / "stage2_val.csv", zip(LABELS, random.dirichlet([1, 1, 1], 30)))
    for folder, rate in zip(folders, (.001, .01)):
        record = steps.Record({"base_lr": rate, "power": 1.0, "code": str(rate)}, {}, {}, True)
        steps.write_record(folder / "stage1" / "origin.json", record)
    steps.write_record(folders[0] / "stage2" / "origin.json", steps.Record({"base_lr": 1.0}, {}, {}, True))
    return folders


def test_the_difference_is_that_of_the_paired_test_and_settings_are_told(runs, capsys):
    assert main(["compare", *map(str, runs), "--out", str(runs[0] / "c.html")]) == 0
    told = capsys.readouterr().out
    labels, (first, second) = predictions.read_pair(runs[0] / "clean/val/groundtruth.csv",
                                                    *(run / "results" / "stage1_val.csv" for run in runs))
    change = f"{compare(labels, first, second)[MEAN]['difference']:+.3f}"
    line, = re.findall(r"^Stage 1, B - A.*$", told, re.MULTILINE)
    assert change in line.split("  ")[-1]
    assert "Stage 1+2" not in told
    settings = [" ".join(line.split()) for line in told.splitlines() if "stage1:" in line]
    assert settings == ["stage1: base_lr 0.001 0.01"]
    assert "only A has a record of stage2" in told
    page = (runs[0] / "c.html").read_text()
    assert "<td>stage1: base_lr</td><td>0.001</td><td>0.01</td>" in page
    assert change in page


def test_runs_of_other_pictures_are_refused(runs, capsys):
    write_groundtruth(runs[1] / "clean" / "val" / "groundtruth.csv", {**LABELS, "ISIC_0000000": 1})
    assert main(["compare", *map(str, runs)]) == 1
    assert "expected two runs on the same pictures" in capsys.readouterr().err


@pytest.mark.parametrize(("removed", "words"), [("b/results/stage1_val.csv", "no file results/stage1_val.csv or stage2_val.csv"),
                                                ("clean", "name it with --truth"), ("b", "no such folder")])
def test_what_is_missing_is_named(runs, removed, words, capsys):
    import shutil

    if removed == "clean":
        for run in runs:
            shutil.rmtree(run / "clean")
    elif removed == "b":
        shutil.rmtree(runs[1])
    else:
        (runs[0].parent / removed).unlink()
    assert main(["compare", *map(str, runs)]) == 1
    assert words in capsys.readouterr().err

"""The published tables are those of the published predictions, and the pages quote them."""

import csv
import re

import pytest

from pycam.__main__ import main
from tests.docs.test_commands import RESULTS

ROOT = RESULTS.parents[1]
PREDICTIONS = RESULTS / "predictions"
TABLES = ("table1", "folds", "vgg16", "vgg16_test", "vgg16_folds", "fusion", "fusion_test", "table1_test",
          "googlenet224", "googlenet224_test", "sharper", "sharper_test", "fusion_fold", "folds112")
CELL = re.compile(r"[-+]?\d\.\d{3} \([^)]*\d\.\d{3}\)")  # a figure with its interval


def check_table(name, truth, tmp_path, *options, rows="rows", root=PREDICTIONS):
    words = ["summary", "--rows", ROOT / "experiments" / f"{rows}.csv", "--root", root, "--truth", root / truth]
    assert main([*map(str, words), "--out", str(tmp_path / name), *options]) == 0
    assert (tmp_path / f"{name}.md").read_text() == (RESULTS / f"{name}.md").read_text()
    made, published = (list(csv.reader((folder / f"{name}.csv").read_text().splitlines())) for folder in (tmp_path, RESULTS))
    assert [[rounded(cell) for cell in row] for row in made] == [[rounded(cell) for cell in row] for row in published]


def rounded(cell):
    """Return a figure as far as every version of NumPy sums it alike."""
    return f"{float(cell):.9f}" if re.fullmatch(r"-?\d\.\d+(e-\d+)?", cell) else cell


def test_table_of_the_validation_pictures(tmp_path):
    check_table("table1", "groundtruth.csv", tmp_path)


def test_table_of_the_test_pictures(tmp_path):
    check_table("table1_test", "groundtruth_test.csv", tmp_path, "--split", "test")


@pytest.mark.parametrize(("split", "name", "truth"), [("val", "", "groundtruth.csv"), ("test", "_test", "groundtruth_test.csv")])
def test_tables_of_googlenet_gap_trained_anew(tmp_path, split, name, truth):
    check_table(f"googlenet224{name}", truth, tmp_path, "--split", split, "--run", "googlenet{seed}")
    check_table(f"sharper{name}", truth, tmp_path, "--split", split, "--run", "sharp{seed}")


def test_table_of_the_fold(tmp_path):
    check_table("fusion_fold", "fold1/groundtruth.csv", tmp_path, "--seeds", "1", rows="fusion_fold")
    check_table("folds112", "../fold1/groundtruth.csv", tmp_path, "--seeds", "1", "--run", "fold{seed}",
                root=PREDICTIONS / "folds112")
    check_table("folds", "fold{seed}/groundtruth.csv", tmp_path, "--seeds", "1", "--run", "fold{seed}")


@pytest.mark.parametrize(("split", "name", "truth"), [("val", "", "groundtruth.csv"), ("test", "_test", "groundtruth_test.csv")])
def test_tables_of_vgg_gap(tmp_path, split, name, truth):
    check_table(f"vgg16{name}", truth, tmp_path, "--split", split, "--run", "vgg16_gap{seed}")
    check_table(f"fusion{name}", truth, tmp_path, "--split", split, "--seeds", "1", rows="fusion")


def test_table_of_the_folds_of_vgg_gap(tmp_path):
    check_table("vgg16_folds", "fold{seed}/groundtruth.csv", tmp_path, "--run", "fold{seed}", root=PREDICTIONS / "vgg16_folds")


def test_pages_quote_the_tables():
    tables = "".join((RESULTS / f"{name}.md").read_text() for name in TABLES)
    known = {cell.split(", p")[0] for cell in re.findall(r"[-+]?\d\.\d{3} \([^)]*", tables)}
    for page in (ROOT / "README.md", RESULTS / "README.md"):
        lines = [line for line in page.read_text().split("`make demo`: made-up")[0].splitlines() if line.startswith("| ")]
        quoted = [cell for line in lines for cell in CELL.findall(line)]
        assert len(quoted) > 5
        assert [cell for cell in quoted if cell[:-1] not in known] == []

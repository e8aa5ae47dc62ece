"""Folds: every picture is scored once, never trained on in its own fold; the label files can be cleaned and trained from."""

import numpy as np
import pytest

from data_tools import __main__ as cli
from data_tools import folds, isic
from data_tools.errors import DataError


@pytest.fixture
def pictures(tmp_path):
    root = tmp_path / "data"
    cli.main(["synthetic", "--out", str(root), "--train", "40", "--val", "0", "--height", "48", "--width", "64"])
    return root / "train"


def test_each_picture_is_scored_once_and_classes_keep_their_shares(pictures):
    samples = isic.load_samples(pictures)
    parts = folds.split_folds(samples, 3, seed=1)
    assert sorted(sample for _, val in parts for sample in val) == sorted(samples)
    for train, val in parts:
        assert sorted([*train, *val]) == sorted(samples)
        assert [sample for sample in samples if sample in val] == val
    counts = np.array([list(isic.count_classes(sample.label for sample in val).values()) for _, val in parts])
    assert np.ptp(counts, axis=0).max() <= 1


def test_the_seed_decides(pictures):
    samples = isic.load_samples(pictures)
    assert folds.split_folds(samples, 3, seed=1) == folds.split_folds(samples, 3, seed=1)
    assert folds.split_folds(samples, 3, seed=1) != folds.split_folds(samples, 3, seed=2)


def test_a_folds_label_files_make_folders_to_train_on(pictures, tmp_path, capsys):
    assert cli.main(["folds", "--images", str(pictures), "--out", str(tmp_path / "folds"), "--folds", "2"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'folds'}: 2 folds of 40 pictures\n"
    ids = {}
    for split in ("train", "val"):
        label_file = tmp_path / "folds" / f"2_{split}.csv"
        assert cli.main(["clean", "--images", str(pictures), "--truth", str(label_file), "--out", str(tmp_path / split),
                         "--hair", "none", "--jobs", "1"]) == 0
        ids[split] = {sample.image_id for sample in isic.load_samples(tmp_path / split)}
    assert len(ids["train"] | ids["val"]) == 40
    assert len(ids["train"]) == len(ids["val"]) == 20


@pytest.mark.parametrize("count", [1, 20])
def test_folds_that_cannot_be_made_are_refused(pictures, count):
    with pytest.raises(DataError, match=f"{count} folds of 40 pictures"):
        folds.split_folds(isic.load_samples(pictures), count, seed=1)

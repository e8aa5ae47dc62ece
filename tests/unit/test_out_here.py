"""`--out .`: refused in one line where the folder would be replaced by a new one, or holds what was not made here."""

import pytest

from data_tools.__main__ import main as data_tools
from pycam.__main__ import main as pycam

SYNTHETIC = ["synthetic", "--train", "12", "--val", "0", "--test", "0", "--height", "60", "--width", "80"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures") / "made"
    assert data_tools([*SYNTHETIC, "--out", str(root)]) == 0
    return root / "train"


def words(command, pictures):
    return {"clean": ["clean", "--images", str(pictures), "--jobs", "1"], "synthetic": SYNTHETIC,
            "lmdb": ["lmdb", "--images", str(pictures), "--augment", "none", "--jobs", "1"]}[command]


@pytest.mark.parametrize("out", [".", ".."])
@pytest.mark.parametrize("command", ["lmdb", "synthetic"])
def test_a_folder_is_not_replaced_below_the_process(tmp_path, monkeypatch, pictures, command, out, capsys):
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert data_tools([*words(command, pictures), "--out", out]) == 1
    assert "the current folder is there" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


def test_cleaned_pictures_may_come_to_an_empty_folder_alone(tmp_path, monkeypatch, pictures, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("precious")
    assert data_tools([*words("clean", pictures), "--out", "."]) == 1
    assert "not made here (mine)" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "mine").unlink()
    assert data_tools([*words("clean", pictures), "--out", "."]) == 0
    assert (tmp_path / "groundtruth.csv").is_file()


@pytest.mark.parametrize("option", ["--json", "--roc"])
def test_a_folder_for_a_file(tmp_path, monkeypatch, pictures, option, capsys):
    monkeypatch.chdir(tmp_path)
    truth = str(pictures / "groundtruth.csv")
    assert pycam(["score", truth, "--truth", truth, option, "."]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: .: ")
    assert list(tmp_path.iterdir()) == []

"""Names that are no UTF-8, that are empty, loops or devices: each command works, or says in one line why not."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_tools import __main__ as data_tools
from data_tools import files
from data_tools.errors import DataError
from pycam import __main__ as pycam
from torchcaffe import __main__ as torchcaffe_main
from torchcaffe import snapshot
from torchcaffe.errors import CaffeError

ROOT = Path(__file__).resolve().parents[2]
NET, MODELS = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt", ROOT / "models"
ODD = "a\udcff{x}$_{"  # a byte that is no UTF-8, and marks of formats and formulas
SMALL = ["--augment", "none", "--size", "64", "--patch-size", "56", "--jobs", "1"]
WITH = ["--net", "{odd}/n.prototxt", "--weights", "{odd}/w.caffemodel", "--engine", "torch"]
CASES = {
    "clean": ["clean", "--images", "{odd}/v", "--out", "{odd}/o", "--jobs", "1"],
    "lmdb and verify": ["lmdb", "--images", "{odd}/v", "--out", "{odd}/o", *SMALL],
    "folds": ["folds", "--images", "{odd}/v", "--out", "{odd}/o", "--folds", "2"],
    "preview": ["hair-preview", "{odd}/p/{name}.png", "--out", "{odd}/o.png"],
    "predict": ["predict", *WITH, "--images", "{odd}/v", "--out", "{odd}/o.csv"],
    "crops": ["crops", *WITH, "--images", "{odd}/v", "--out", "{odd}/o"],
    "localize": ["localize", *WITH, "--images", "{odd}/v", "--masks", "{odd}/m", "--out", "{odd}/o", "--draw", "1"],
    "classify": ["classify", "{odd}/p", "--out", "{odd}/o", "--engine", "torch", "--maps"],
    "cam": ["cam", "{odd}/p/{name}.png", *WITH, "--out", "{odd}/o"],
    "score": ["score", "{odd}/{name}.csv", "--truth", "{odd}/v/groundtruth.csv", "--roc", "{odd}/o.png"],
    "table1": ["table1", "--truth", "{odd}/v/groundtruth.csv", "--stage1", "{odd}/{name}.csv", "--stage2", "{odd}/{name}.csv",
               "--out", "{odd}/o"],
    "summary": ["summary", "--rows", "{odd}/rows.csv", "--root", "{odd}", "--truth", "{odd}/v/groundtruth.csv",
                "--out", "{odd}/o"],
    "compare": ["compare", "{odd}/run", "{odd}/run", "--out", "{odd}/o.html", "--truth", "{odd}/v/groundtruth.csv"],
    "report": ["report", "--run", "{odd}/run", "--out", "{odd}/o.html"],
    "import": ["weights", "import", "--net", "{odd}/n.prototxt", "--weights", "{odd}/w.npz", "--out", "{odd}/{name}.caffemodel",
               "--engine", "torch"],
    "edit": ["edit", "--net", "{odd}/n.prototxt", "--out", "{odd}/{name}.prototxt", "--edit", "conv1_1.num_output=8"]}


def run_command(words):
    return (data_tools if words[0] in ("clean", "lmdb", "folds", "hair-preview", "verify") else pycam).main(words)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with one of everything that the commands read."""
    folder = tmp_path_factory.mktemp("made")
    data_tools.main(["synthetic", "--out", str(folder / "isic"), "--train", "0", "--val", "6", "--height", "100",
                     "--width", "120", "--jobs", "1"])
    shutil.copytree(folder / "isic" / "val", folder / "v")
    shutil.copytree(folder / "isic" / "masks", folder / "m")
    (folder / "p").mkdir()
    files.write_image(folder / "p" / f"{ODD}.png", np.full((90, 90, 3), 99, np.uint8))
    shutil.copy(NET, folder / "n.prototxt")
    shutil.copy(MODELS / "stage1.caffemodel", folder / "w.caffemodel")
    np.savez(folder / "w.npz", conv1_1_w=np.zeros((8, 3, 3, 3), np.float32), conv1_1_b=np.zeros(8, np.float32))
    labels = (folder / "v" / "groundtruth.csv").read_text().splitlines()
    rows = [labels[0], *(f"{line.split(',')[0]},0.{number}1,0.{9 - number}" for number, line in enumerate(labels[1:], 1))]
    (folder / "run" / "results").mkdir(parents=True)
    for path in (f"{ODD}.csv", "run/results/stage1_val.csv", "run/results/stage2_val.csv"):
        (folder / path).write_text("\n".join([*rows, ""]))
    shutil.copytree(folder / "v", folder / "run" / "clean" / "val")
    (folder / "rows.csv").write_text("row,predictions,against\none,run/results/stage1_val.csv,\n")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_names_that_are_no_utf8(made, tmp_path, case, capfd):  # which writes any name, as a terminal's streams do
    odd = tmp_path / ODD
    shutil.copytree(made, odd)
    code = run_command([word.replace("{odd}", str(odd)).replace("{name}", ODD) for word in CASES[case]])
    said = capfd.readouterr().err
    assert (code, said.count("error: ")) == (0, 0), said
    assert [path for path in odd.iterdir() if path.name.startswith(("o", ODD[:2]))]
    if case == "lmdb and verify":
        assert run_command(["verify", str(odd / "o")]) == 0


@pytest.mark.parametrize("out", ["", ".", "loop"])
@pytest.mark.parametrize("case", ["edit", "import", "predict", "score", "summary", "compare", "lmdb and verify"])
def test_outputs_that_are_no_names(made, tmp_path, monkeypatch, case, out, capsys):
    words = [word.replace("{odd}", str(made)).replace("{name}", ODD) for word in CASES[case]]
    option = "--roc" if case == "score" else "--out"
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    os.symlink("loop", "loop")
    words[words.index(option) + 1] = out
    if run_command(words):
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert not list(here.glob(".*partial*"))


@pytest.mark.parametrize("out", ["fifo", "folder", "file/x.csv", "n" * 300])
@pytest.mark.parametrize(("case", "option"), [("score", "--json"), ("compare", "--out"), ("predict", "--submission"),
                                              ("summary", "--out"), ("report", "--out")])
def test_an_output_that_cannot_be_written_is_told_before_the_work(made, tmp_path, case, option, out, capsys):
    os.mkfifo(tmp_path / "fifo.csv")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "file").touch()
    words = [word.replace("{odd}/o", str(tmp_path / "o")).replace("{odd}", str(made)).replace("{name}", ODD)
             for word in CASES[case]]
    before = sorted(tmp_path.rglob("*"))
    assert run_command([*words, option, str(tmp_path / out)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"error: {tmp_path / out}")
    assert "cannot be written (" in said[-1]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["fifo", "folder", "link to a device"])
def test_no_file_replaces_what_is_none(tmp_path, kind):
    path = tmp_path / "case"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    mode = path.lstat().st_mode
    with pytest.raises(DataError, match="cannot be written"):
        files.write_atomic(path, b"x")
    with pytest.raises(CaffeError, match="cannot write"):
        snapshot.write_whole(str(path), b"x")
    assert path.lstat().st_mode == mode
    assert os.listdir(tmp_path) == ["case"]


TRAIN = ["train", "--stage", "stage1", "--solver", "solver.prototxt", "--weights", str(MODELS / "stage1.caffemodel"), "--run"]
STRAY = {
    "a run's folder that is no UTF-8": (pycam, [*TRAIN, ODD]), "a run's folder that is a loop": (pycam, [*TRAIN, "loop"]),
    "weights that are no UTF-8": (torchcaffe_main, ["train", "-solver", "solver.prototxt", "-weights", ODD]),
    "a solver that is no UTF-8": (torchcaffe_main, ["train", "-solver", ODD]),
    "a file in 1500 folders": (pycam, ["edit", "--net", str(NET), "--out", "d/" * 1500 + "x.prototxt"]),
}


@pytest.mark.parametrize("case", STRAY)
def test_names_that_no_prototxt_or_system_can_hold(run, case, monkeypatch, capsys):
    monkeypatch.chdir(run.folder)
    run.job(lambda text: text.replace("build/lmdb", str(run.folder / "lmdb")))
    Path(ODD).write_text("")
    os.symlink("loop", "loop")
    program, words = STRAY[case]
    assert program.main(words) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")


def test_usage_is_told_in_a_line_of_bounded_length(capsys):
    with pytest.raises(SystemExit):
        data_tools.main(["hair-preview", "p.png", "--out", "x/\n" * 3000])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert len(lines[0]) < 2000

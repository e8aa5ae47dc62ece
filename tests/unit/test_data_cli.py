import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_tools import __main__ as cli
from data_tools import build

ROOT = Path(cli.__file__).parents[1]
SMALL = ["--size", "32", "--patch-size", "28", "--jobs", "1"]
NONE = ["--augment", "none", *SMALL]


@pytest.fixture
def data(tmp_path):
    """A made-up data set of 6 + 3 pictures."""
    cli.main(["synthetic", "--out", str(tmp_path / "data"), "--train", "6", "--val", "3", "--height", "90",
              "--width", "120"])
    return tmp_path / "data"


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def problems(err):
    return [line for line in err.splitlines() if not line.startswith("note: ")]


def test_from_nothing_to_verified_databases(data, tmp_path, capsys):
    for split, count in (("train", 6), ("val", 3)):
        code, out, _ = run(capsys, "clean", "--isic", data, "--split", split, "--out", tmp_path / split, "--jobs", 1)
        assert (code, f"{count} pictures, 0 kept" in out) == (0, True)
    code, out, _ = run(capsys, "lmdb", "--images", tmp_path / "train", "--out", tmp_path / "db_train", *SMALL)
    assert (code, "180 records of 6 pictures" in out) == (0, True)
    code, out, _ = run(capsys, "lmdb", "--images", tmp_path / "val", "--out", tmp_path / "db_val", *NONE)
    assert (code, "3 records of 3 pictures" in out) == (0, True)
    code, out, _ = run(capsys, "verify", tmp_path / "db_train")
    assert (code, out.endswith("nevus 60: verified\n")) == (0, True)


@pytest.mark.parametrize(("options", "count"), [
    (["--rotations", "0,90,180,270"], 40), (["--no-flip"], 15), (["--patches", "centre"], 6),
    (["--augment", "none", "--patches", "whole"], 1), (["--augment", "none", "--rotations", "0,180"], 2),
])
def test_augmentation_options(data, tmp_path, capsys, options, count):
    code, out, _ = run(capsys, "lmdb", "--images", data / "val", "--out", tmp_path / "db", *options, *SMALL)
    assert (code, f"{3 * count} records" in out) == (0, True)


def test_unlisted_pictures_are_mentioned(data, tmp_path, capsys):
    table = data / "val" / "groundtruth.csv"
    table.write_text("".join(table.read_text().splitlines(True)[:-1]))
    code, out, err = run(capsys, "lmdb", "--images", data / "val", "--out", tmp_path / "db", *NONE)
    assert (code, "2 records" in out) == (0, True)
    assert "note: 1 pictures of" in err


@pytest.mark.parametrize("arguments", [
    ["clean", "--isic", "{0}", "--split", "test", "--out", "{0}/x"],
    ["clean", "--images", "{0}/none", "--out", "{0}/x"],
    ["clean", "--images", "{0}/val", "--out", "{0}/val"],
    ["clean", "--images", "{0}/val", "--truth", "{0}/train/groundtruth.csv", "--out", "{0}/x"],
    ["lmdb", "--images", "{0}/val", "--out", "{0}/val"],
    ["lmdb", "--images", "{0}/val", "--out", "{0}/x", "--rotations", "0,45"],
    ["lmdb", "--images", "{0}/val", "--out", "{0}/x", "--size", "10"],
    ["lmdb", "--images", "{0}/val", "--out", "/proc/x"],
    ["verify", "{0}/val"],
])
def test_bad_input_is_one_line_exit_1_and_changes_nothing(data, capsys, arguments):
    before = sorted(data.rglob("*"))
    code, out, err = run(capsys, *(argument.format(data) for argument in arguments))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")
    assert sorted(data.rglob("*")) == before


@pytest.mark.parametrize("arguments", [
    [], ["unknown"], ["clean", "--out", "x"], ["clean", "--isic", "x", "--out", "x"],
    ["clean", "--isic", "x", "--split", "val", "--images", "y", "--out", "x"],
    ["clean", "--isic", "x", "--split", "val", "--truth", "y", "--out", "x"],
    ["lmdb", "--images", "x", "--out", "y", "--jobs", "0"],
    ["lmdb", "--images", "x", "--out", "y", "--quality", "101"],
    ["lmdb", "--images", "x", "--out", "y", "--seed", "-1"],
    ["lmdb", "--images", "x", "--out", "y", "--rotations", "a"],
])
def test_wrong_usage_is_exit_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert re.fullmatch("error: .*; see python -m data_tools.* --help\n", capsys.readouterr().err)


@pytest.mark.parametrize("command", ["clean", "lmdb", "verify", "synthetic"])
def test_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert f"example: python -m data_tools {command} " in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")


def test_debug_shows_where_an_error_comes_from(tmp_path):
    with pytest.raises(cli.DataError):
        cli.main(["verify", "--debug", str(tmp_path)])


def test_interrupt_in_the_middle_leaves_nothing(data, tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(build, "write_records", stop)
    code, out, err = run(capsys, "lmdb", "--images", data / "val", "--out", tmp_path / "db", *SMALL)
    assert (code, out, len(problems(err))) == (130, "", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_control_c_with_worker_processes_is_one_line_and_exit_130(data, tmp_path):
    command = [sys.executable, "-m", "data_tools", "lmdb", "--images", str(data / "train"), "--out",
               str(tmp_path / "db"), "--size", "1500", "--patch-size", "1400", "--encoding", "png", "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, cwd=str(tmp_path),
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".db.partial/data.mdb")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and workers
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert len(problems(err.decode())) == 1, err.decode()
    assert problems(err.decode())[0].startswith("interrupted: ")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("words", [
    ["lmdb", "--images", "x", "--out", "y", "--size", "100000"], ["lmdb", "--images", "x", "--out", "y", "--patch-size", "0"],
    ["synthetic", "--out", "y", "--height", "1"], ["synthetic", "--out", "y", "--width", "100000", "--height", "100000"],
    ["synthetic", "--out", "y", "--train", "1000000"], ["clean", "--images", "x", "--out", "y", "--jobs", "9" * 5000],
    ["folds", "--images", "x", "--out", "y", "--folds", "1"], ["lmdb", "--images", "x", "--out", "y", "--seed", "\u0663"]])
def test_a_number_out_of_its_range_is_refused_before_anything_is_done(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert "expected a whole number from" in error
    assert len(error) < 500


def test_a_picture_too_long_for_a_lesion_is_refused(tmp_path, capsys):
    assert cli.main(["synthetic", "--out", str(tmp_path / "y"), "--height", "10", "--width", "500"]) == 1
    assert "a lesion does not fit" in capsys.readouterr().err

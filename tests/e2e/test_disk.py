"""A disk that fills in the middle and a folder without permission: one line, exit 1, and nothing lost."""

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools import __main__ as cli
from data_tools import manifest

ROOT = Path(cli.__file__).parents[1]
DROP_FROM_BOUNDING_SET, OVERRIDE, READ_ALL = 24, 1, 2  # prctl's number, and the rights by which root writes anywhere
SMALL = ["--size", "96", "--patch-size", "80", "--encoding", "png"]


@pytest.fixture
def pictures(tmp_path):
    cli.main(["synthetic", "--out", str(tmp_path / "data"), "--train", "12", "--val", "2", "--height", "200", "--width", "300"])
    return tmp_path / "data"


@pytest.fixture
def small_disk(tmp_path):
    """Give a folder on a disk of 150 KB, and what a process must do first where none can be mounted: limit its files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder, None if mounted else limit(15_000)
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def limit(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def without_rights():
    """Take from root what lets it write into every folder; others have no such right, and fail to give it up."""
    for right in (OVERRIDE, READ_ALL):
        ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, right, 0, 0, 0)


def fails(first, *words):
    """Run a command that must fail; return its one line."""
    done = subprocess.run([sys.executable, "-m", "data_tools", *map(str, words), "--jobs", "1"], cwd=str(ROOT), text=True,
                          capture_output=True, check=False, preexec_fn=first)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".clean.json"}


def test_clean_goes_on_when_there_is_room_again(pictures, small_disk, tmp_path):
    folder, first = small_disk
    line = fails(first, "clean", "--images", pictures / "train", "--out", folder / "x")
    assert "No space left on device" in line or "File too large" in line
    assert str(folder) in line
    made = content(folder / "x")
    assert "groundtruth.csv" not in made
    assert cli.main(["clean", "--images", str(pictures / "train"), "--out", str(tmp_path / "whole"), "--jobs", "1"]) == 0
    whole = content(tmp_path / "whole")
    assert all(whole[name] == made[name] for name in made)
    if not first:
        assert 0 < len(made) < 12
        subprocess.run(["mount", "-o", "remount,size=9m", str(folder)], check=True)
    assert cli.main(["clean", "--images", str(pictures / "train"), "--out", str(folder / "x"), "--jobs", "1"]) == 0
    assert content(folder / "x") == whole


def test_lmdb_keeps_the_earlier_one_when_the_disk_fills(pictures, tmp_path):
    database = tmp_path / "made" / "db"
    assert cli.main(["lmdb", "--images", str(pictures / "val"), "--out", str(database), *SMALL, "--jobs", "1"]) == 0
    line = fails(limit(1_000_000), "lmdb", "--images", pictures / "train", "--out", database, *SMALL)
    assert "LMDB cannot write record" in line
    line = fails(limit(100_000), "lmdb", "--images", pictures / "train", "--out", database, *SMALL)
    assert "File too large" in line
    assert manifest.verify(database).pictures == 2
    assert [path.name for path in database.parent.iterdir()] == ["db"]


def test_lmdb_does_not_start_on_a_disk_that_is_too_small(pictures, small_disk):
    folder, first = small_disk
    line = fails(first, "lmdb", "--images", pictures / "train", "--out", folder / "db", *SMALL)
    assert "are free, about" in line or "File too large" in line
    assert not list(folder.iterdir())


@pytest.mark.parametrize("command", ["clean", "lmdb"])
def test_a_folder_without_permission(pictures, tmp_path, command):
    (tmp_path / "closed").mkdir(mode=0o500)
    line = fails(without_rights, command, "--images", pictures / "train", "--out", tmp_path / "closed" / "x")
    assert "ermission denied" in line
    assert str(tmp_path / "closed") in line
    assert not list((tmp_path / "closed").iterdir())

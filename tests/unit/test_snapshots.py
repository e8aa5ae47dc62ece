"""Snapshots that a training goes on from, and where an earlier one's go."""

from pathlib import Path

import pytest

from pycam import snapshots


def test_without_a_snapshot_there_is_no_state(tmp_path):
    assert snapshots.newest_state(tmp_path / "net") is None
    assert snapshots.newest_state(tmp_path / "missing" / "net") is None


def test_the_newest_is_by_number_not_by_name(tmp_path, snapshot):
    for iteration in (10, 9, 100):
        snapshot(tmp_path, iteration)
    snapshot(tmp_path, 3)
    (tmp_path / "net_iter_3.solverstate").rename(tmp_path / "other_iter_900.solverstate")
    assert snapshots.newest_state(tmp_path / "net") == (100, tmp_path / "net_iter_100.solverstate")


@pytest.mark.parametrize("parts", [{"state": 50}, {"model": 50}, {"state": 0}, {"model": 0}, {"model": None}])
def test_half_written_pairs_are_passed_over(tmp_path, capsys, snapshot, parts):
    snapshot(tmp_path, 10)
    snapshot(tmp_path, 20, **parts)
    assert snapshots.newest_state(tmp_path / "net", tell=True) == (10, tmp_path / "net_iter_10.solverstate")
    assert "passed over" in capsys.readouterr().err
    (tmp_path / "net_iter_10.caffemodel").write_text("no weights")
    assert snapshots.newest_state(tmp_path / "net") is None


def test_what_is_set_aside_has_a_folder_of_its_own_each_time(tmp_path, snapshot):
    assert snapshots.set_aside(tmp_path) is None
    for number in (1, 2):
        snapshot(tmp_path, 7, state=3)
        for name in ("train.log", "origin.json", "solver.prototxt", "train_val.prototxt", "final.caffemodel", "curves.png"):
            (tmp_path / name).write_text(f"{number}")
        assert snapshots.set_aside(tmp_path) == tmp_path / f"old-{number}"
        assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"curves.png"}
        assert len(list((tmp_path / f"old-{number}").iterdir())) == 7
        assert (tmp_path / f"old-{number}" / "train.log").read_text() == f"{number}"


def test_a_move_that_is_killed_leaves_the_record_to_the_last(tmp_path, snapshot, monkeypatch):
    snapshot(tmp_path, 7)
    (tmp_path / "origin.json").write_text("{}")
    moved = []
    monkeypatch.setattr(Path, "rename", lambda path, target: moved.append(path.name))
    snapshots.set_aside(tmp_path)
    assert moved == ["net_iter_7.caffemodel", "net_iter_7.solverstate", "origin.json"]

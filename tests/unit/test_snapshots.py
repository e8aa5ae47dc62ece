"""Snapshots that a training goes on from, and changes that forbid it."""

from pathlib import Path

import pytest

from pycam import snapshots
from pycam.errors import CamError

ROOT = Path(__file__).resolve().parents[2]

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


ORIGIN = {"records": {"stage1_train": "1a"}, "weights": "2b"}
ORIGIN_TEXT = '{"records": {"stage1_train": "1a"}, "weights": "2b"}'
HARMLESS = [("max_iter: 400", "max_iter: 800"), ("display: 20", "display: 7"), ("test_interval: 100", "test_interval: 9"),
            ("test_iter: 15", "test_iter: 3"), ("snapshot: 200", "snapshot: 5"), ("average_loss: 20", "average_loss: 2"),
            ("solver_mode: CPU", "solver_mode: GPU"), ('"build/', '"build/./'), ("batch_size: 10", "batch_size: 5"),
            ("# Stage 1", "# Step 1"), ('/stage2_train" batch_size: 32', '/stage2_train" batch_size: 2')]
HARMFUL = [("base_lr: 0.01", "base_lr: 0.02", "base_lr"), ("momentum: 0.9", "momentum: 0.8", "momentum"),
           ("stepsize: 300", "stepsize: 100", "stepsize"), ("gamma: 0.1", "gamma: 0.2", "gamma"),
           ('type: "SGD"', 'type: "Adam"', "type"), ("clip_gradients: 5\n", "", "clip_gradients"),
           ("random_seed: 1\n", "random_seed: 1\niter_size: 2\n", "layer data"),
           ("batch_size: 32", "batch_size: 16", "layer data"), ("dropout_ratio: 0.5", "dropout_ratio: 0.4", "layer CAM_dropout"),
           ("mean_value: 103.939", "mean_value: 104", "layer data"),
           ('stage: "stage1"', 'stage: "stageX"', "layer data")]


@pytest.mark.parametrize(("old", "new"), HARMLESS)
def test_a_training_goes_on_after_a_harmless_change(run, old, new):
    folder = run.begin(ORIGIN_TEXT)
    assert old in run.written
    _, _, solver, net = run.texts(lambda text: text.replace(old, new))
    snapshots.check_unchanged(folder, solver, net, ORIGIN)


def test_a_training_goes_on_with_pieces_of_its_batch(run):
    folder = run.begin(ORIGIN_TEXT)
    _, _, solver, net = run.texts(batch=8)
    snapshots.check_unchanged(folder, solver, net, ORIGIN)


@pytest.mark.parametrize(("old", "new", "name"), HARMFUL)
def test_a_training_does_not_go_on_with_another_solver_or_net(run, old, new, name):
    folder = run.begin(ORIGIN_TEXT)
    assert old in run.written
    _, _, solver, net = run.texts(lambda text: text.replace(old, new))
    with pytest.raises(CamError, match=rf"changed since its snapshots were made: .*{name}.*--fresh \(RESUME=no of make\)"):
        snapshots.check_unchanged(folder, solver, net, ORIGIN)


def test_the_number_of_iterations_counts_where_the_rate_depends_on_it(run):
    folder = run.begin(ORIGIN_TEXT)
    poly = (folder / snapshots.SOLVER).read_text().replace('"step"', '"poly"')
    (folder / snapshots.SOLVER).write_text(poly)
    _, _, solver, net = run.texts(lambda text: text.replace('"step"', '"poly"').replace("max_iter: 400", "max_iter: 800"))
    with pytest.raises(CamError, match="were made: max_iter; change back"):
        snapshots.check_unchanged(folder, solver, net, ORIGIN)


@pytest.mark.parametrize(("origin", "name"), [({**ORIGIN, "records": {"stage1_train": "9"}}, "training records"),
                                              ({**ORIGIN, "weights": "9"}, "starting weights"),
                                              ({**ORIGIN, "weights": ""}, None)])
def test_a_training_does_not_go_on_with_other_data_or_weights(run, origin, name):
    folder = run.begin(ORIGIN_TEXT)
    _, _, solver, net = run.texts()
    if name is None:  # no weights were named
        snapshots.check_unchanged(folder, solver, net, origin)
        return
    with pytest.raises(CamError, match=f"made: {name}; change back"):
        snapshots.check_unchanged(folder, solver, net, origin)


def test_snapshots_from_elsewhere_are_taken_with_a_note(run, capsys):
    folder = run.begin(ORIGIN_TEXT)
    (folder / snapshots.ORIGIN).unlink()
    _, _, solver, net = run.texts()
    snapshots.check_unchanged(folder, solver, net, ORIGIN)
    assert capsys.readouterr().err.startswith("note: ")

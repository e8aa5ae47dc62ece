"""The whole pipeline through make, on both engines, and what passes from one engine to the other."""

import csv
import os
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest

from data_tools.isic import read_groundtruth
from data_tools.steps import read_record, write_record
from pycam import predictions
from torchcaffe.snapshot import read_weights

LOSS = re.compile(r"\] Iteration (\d+) .*, loss = (\S+)")
OTHER = {"torch": "caffe", "caffe": "torch"}
PARITY = 1e-5  # of probabilities
LOSS_PARITY = 1e-4  # relative, of losses after a switch of engines
LONG = 60  # iterations, of which four are over in no time
WAY_PARITY = 0.02  # difference of the weights as a share of the way that they went since the switch


@pytest.fixture
def run(data, tmp_path):
    """Return a fresh run that has its LMDBs."""
    folder = tmp_path / "run"
    shutil.copytree(data, folder)
    return folder


def losses(log):
    return {int(found.group(1)): float(found.group(2)) for found in LOSS.finditer(log.read_text())}


def test_make_report_goes_all_the_way(bench, finished, engine):
    folder, out = finished(engine)
    for split, count in (("train", 12), ("val", 10)):
        assert len(read_groundtruth(folder / "crops" / split / "groundtruth.csv")) == count
    rows = list(csv.reader((folder / "results" / "table1.csv").read_text(encoding="utf-8").splitlines()))
    assert {"Stage1", "Stage1,2"} <= {row[0] for row in rows}
    probs = predictions.read(folder / "results" / "stage2_val.csv")
    assert set(probs) == set(read_groundtruth(bench.isic / "val" / "groundtruth.csv"))
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in probs.values())
    page = (folder / "results" / "report.html").read_text(encoding="utf-8")
    assert "Left out" not in page
    assert page.count("<h2") >= 5
    assert "Stage1,2" in out


def test_stage_2_starts_from_the_weights_of_stage_1(finished, engine):
    folder, _ = finished(engine)
    log = (folder / "stage2" / "train.log").read_text()
    assert f"Finetuning from {folder / 'stage1' / 'final.caffemodel'}" in log
    assert "Optimization Done" in log


def test_a_second_make_does_nothing(bench, finished, engine):
    folder, _ = finished(engine)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    status, out, err = bench.run(engine, *bench.make(engine, "report", folder))
    assert (status, err) == (0, "")
    assert "-m pycam" not in out
    assert "-m data_tools" not in out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("through", ["make", "command"])
def test_an_interrupted_training_goes_on_from_its_newest_snapshot(bench, run, engine, through, waiting):
    long = bench.solver("stage1", "long_stage1", max_iter=LONG, snapshot=2)
    bench.solver("stage2", "long_stage2")  # which make looks at too, before it begins
    words = bench.make(engine, "stage1", run, prefix="long_") if through == "make" else bench.train(engine, run, long)
    process = bench.start(engine, *words)
    waiting(lambda: list(run.glob("stage1/*_iter_4.solverstate")), process)
    if through == "make":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to make and the command
    else:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode in ((-signal.SIGINT, 2) if through == "make" else (130,)), err
    assert err.count("\ninterrupted") == 1
    assert "Traceback" not in err
    assert not (run / "stage1" / "final.caffemodel").exists()
    newest = max(int(path.stem.rpartition("_")[2]) for path in run.glob("stage1/*.solverstate"))
    (run / "stage1" / f"tiny_iter_{newest + 9}.solverstate").write_bytes(b"\x08")  # cut off
    (run / "stage1" / f"tiny_iter_{newest + 8}.solverstate").write_bytes(b"")
    status, _, err = bench.run(engine, *bench.train(engine, run, long))
    assert status == 0, err
    assert f"-snapshot {run}/stage1/tiny_iter_{newest}.solverstate" in err
    assert err.count("passed over") == 2
    assert "it/s" not in err
    assert (run / "stage1" / "final.caffemodel").read_bytes() == (run / "stage1" / f"tiny_iter_{LONG}.caffemodel").read_bytes()
    assert sorted(losses(run / "stage1" / "train.log"))[:2] == [0, 1]  # the log has both parts
    assert read_record(run / "stage1" / "origin.json").facts["resumed"] == [newest]
    status, out, _ = bench.run(engine, *bench.train(engine, run, long))
    assert (status, out) == (0, "train/stage1: up to date\n")


def test_a_failing_training_stops_make_and_leaves_no_final_weights(bench, run, engine):
    typo = bench.net("typo", ('bottom: "conv2_1"', 'bottom: "conv2_0"'))
    for stage in ("stage1", "stage2"):
        bench.solver(stage, f"typo_{stage}", net=typo)
    status, out, err = bench.run(engine, *bench.make(engine, "stage1", run, prefix="typo_"))
    assert status == 2
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert [line for line in out.splitlines() if line.startswith("FAIL  stage1") and "conv2_0" in line]
    assert not list(run.glob("stage1/*.caffemodel"))


@pytest.mark.slow
@pytest.mark.caffe
@pytest.mark.parametrize("trained", ["torch", "caffe"])
def test_weights_predict_the_same_in_the_other_engine(bench, finished, trained, tmp_path, live_cases):
    folder, _ = finished(trained)
    finished("caffe")  # skips without it
    out = tmp_path / "probs.csv"
    bench.pycam(OTHER[trained], "pycam", "predict", "--net", bench.deploy, "--weights", folder / "stage1", "--images",
                folder / "clean" / "val", "--out", out, "--engine", OTHER[trained])
    mine, other = predictions.read(folder / "results" / "stage1_val.csv"), predictions.read(out)
    assert list(mine) == list(other)
    np.testing.assert_allclose(list(mine.values()), list(other.values()), rtol=0, atol=PARITY)
    assert np.std(list(mine.values()), axis=0).max() > 1e-6  # it does depend on the picture
    live_cases(len(mine))


@pytest.mark.slow
@pytest.mark.caffe
@pytest.mark.parametrize("began", ["torch", "caffe"])
def test_a_solver_state_goes_on_in_the_other_engine(bench, finished, run, began, live_cases):
    folder, _ = finished(began)
    finished("caffe")
    (run / "stage1").mkdir()
    for name in ("tiny_iter_3.solverstate", "tiny_iter_3.caffemodel", "solver.prototxt", "train_val.prototxt"):
        shutil.copy(folder / "stage1" / name, run / "stage1")
    record = read_record(folder / "stage1" / "origin.json")
    write_record(run / "stage1" / "origin.json", replace(record, finished=False))  # as one that was stopped leaves it
    status, _, err = bench.run(OTHER[began], *bench.train(OTHER[began], run))
    assert status == 0, err
    assert "/tiny_iter_3.solverstate" in err
    told = read_record(run / "stage1" / "origin.json").facts["engine"]
    assert ("BVLC Caffe" in told, "torchcaffe" in told) == (True, True)
    straight, switched = losses(folder / "stage1" / "train.log"), losses(run / "stage1" / "train.log")
    assert sorted(straight) == [0, 1, 2, 3, 4, 5]
    assert sorted(switched) == [3, 4, 5]
    for iteration, loss in switched.items():
        assert loss == pytest.approx(straight[iteration], rel=LOSS_PARITY)
    straight_end, switched_end = (dict(read_weights(str(path / "stage1" / "final.caffemodel"))) for path in (folder, run))
    for name, blobs in read_weights(str(run / "stage1" / "tiny_iter_3.caffemodel")):
        for began_at, one, two in zip(blobs, straight_end[name], switched_end[name]):  # a lost momentum shows at the tenths
            assert np.linalg.norm(two - one) <= WAY_PARITY * np.linalg.norm(one - began_at), name
    live_cases(len(switched))

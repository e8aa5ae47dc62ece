"""The training command without an engine: a program prints what Caffe would."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_tools import manifest
from pycam import train
from pycam.errors import CamError
from pycam.probe import Probe

ROOT = Path(__file__).resolve().parents[2]
START = "I1123 05:10:25.204546 25718 solver.cpp:{}] "
ENGINE = """
import signal, sys, time
def line(text): print("I1123 05:10:25.204546 25718 solver.cpp:290] " + text, file=sys.stderr, flush=True)
def stop(*_):
    open({marker!r}, "w").write("snapshot")
    line("Optimization stopped early.")
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
line("Starting Optimization")
{body}
"""
TRAINED = ("line('Iteration 0 (-inf iter/s, 0.03s/3 iters), loss = 1.4')\n"
           "line('Iteration 3, loss = 1.2')\nline('Optimization Done.')")
LONG = "line('Iteration 0 (2 iter/s, 1s/1 iters), loss = 1.4')\nfor _ in range(2000): time.sleep(0.01)"  # 20 seconds


def program(folder, body):
    """Return the words of a program that prints like Caffe, and writes `marker` when SIGINT reaches it."""
    path = folder / "engine.py"
    path.write_text(ENGINE.format(body=body, marker=str(folder / "marker")))
    return [sys.executable, str(path)]


def test_what_the_engine_prints_is_kept(tmp_path, capsys):
    log = tmp_path / "train.log"
    words = program(tmp_path, TRAINED)
    train.execute(words, log, 3, appending=False)
    assert log.read_text().count("\n") == 4
    train.execute(words, log, 3, appending=True)
    assert log.read_text().count("\n") == 8
    train.execute(words, log, 3, appending=False)
    assert log.read_text().count("\n") == 4
    assert f"+ {sys.executable} {words[1]}" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["nan", "-nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_ends_the_engine_without_a_snapshot(tmp_path, loss):
    body = f"line('Iteration 40 (2 iter/s, 1s/1 iters), loss = {loss}')\n" + LONG
    began = time.monotonic()
    with pytest.raises(CamError, match=f"the loss is {loss} at iteration 40: lower base_lr.*--fresh"):
        train.execute(program(tmp_path, body), tmp_path / "log", 100, appending=False)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "marker").exists()


def test_infinite_speed_is_no_infinite_loss(tmp_path):
    train.execute(program(tmp_path, TRAINED), tmp_path / "log", 3, appending=False)


@pytest.mark.parametrize(("body", "reason"), [
    ("print('F1123 05:10:25.2 25718 data.cpp:29] Check failed: mdb_status == 0 (2 vs. 0) No such file', file=sys.stderr)\n"
     "print('*** Check failure stack trace: ***', file=sys.stderr)\nimport os; os.abort()",
     "Check failed: mdb_status == 0 (2 vs. 0) No such file"),
    ("sys.exit('error: layer conv: no such type')", "layer conv: no such type"),
    ("raise RuntimeError('out of memory')", "exit status 1, last line: RuntimeError: out of memory"),
    ("sys.exit(3)", "exit status 3, last line: I1123"),
    ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
    ("stop()", "somebody interrupted the engine"),
    ("line('Iteration 1, loss = 1')", "exit status 0, last line: "),
])
def test_a_failure_is_told_with_its_reason(tmp_path, body, reason):
    with pytest.raises(CamError) as caught:
        train.execute(program(tmp_path, body), tmp_path / "train.log", 3, appending=False)
    assert str(caught.value).startswith(f"training stopped: {reason}")
    assert str(caught.value).endswith(f"(whole log: {tmp_path / 'train.log'})")


CALLER = """
import sys
from pathlib import Path
from pycam import train, __main__
class Run:
    debug = False
    @staticmethod
    def run(args): train.execute([sys.executable, sys.argv[1]], Path(sys.argv[2]), 3, appending=False)
__main__.make_parser = lambda: type("P", (), {"parse_args": lambda self, argv: Run})()
sys.exit(__main__.main([]))
"""


@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False),
                                               (signal.SIGHUP, False)])
def test_an_interrupt_reaches_the_engine_and_waits_for_its_snapshot(tmp_path, number, group):
    engine = program(tmp_path, LONG)[1]
    process = subprocess.Popen([sys.executable, "-c", CALLER, engine, str(tmp_path / "log")], cwd=str(ROOT), text=True,
                               stderr=subprocess.PIPE, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 30
    while "Iteration 0" not in ((tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert (tmp_path / "marker").read_text() == "snapshot"
    assert "Optimization stopped early" in (tmp_path / "log").read_text()


def test_a_second_interrupt_ends_an_engine_that_hangs(tmp_path, monkeypatch):
    class Hanging:
        killed = False

        def send_signal(self, number):
            assert number == signal.SIGINT

        def communicate(self, timeout):
            raise KeyboardInterrupt

    with open(tmp_path / "log", "wb") as file:
        train._stop(Hanging(), file)  # execute kills afterwards


# ---------------------------------------------------------------- the command
def arguments(run, fresh):
    return argparse.Namespace(solver=run.folder / "solver.prototxt", stage="stage1", folder=run.folder, weights=None, batch=None,
                              into=None, seed=None, precision="fp32", fresh=fresh, engine="torch", gpu=None)


def test_fresh_forgets_snapshots_only_after_the_checks(run, snapshot):
    folder = run.begin("{}")
    snapshot(folder, 20)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    args = arguments(run, fresh=True)
    net = run.folder / "net.prototxt"
    net.write_text(net.read_text().replace('    weight_filler { type: "msra" }\n', ""))
    with pytest.raises(CamError, match="have no filler"):
        train.run(args)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.fixture
def engine_says_well(monkeypatch):
    net = {"params": {"fc": [[3, 4], [3]]}, "numbers": 10}
    monkeypatch.setattr(train, "probe", lambda *_: Probe([{"torchcaffe": "1.0.0"}, {"error": 1e-7}, net, net], ""))


@pytest.mark.usefixtures("engine_says_well")
def test_fresh_forgets_what_an_earlier_training_left(run, snapshot, monkeypatch):
    folder = run.begin("{}")
    snapshot(folder, 20)
    (folder / "final.caffemodel").write_text("old")

    def execute(*_, **__):
        assert {path.name for path in folder.iterdir()} == {train.SOLVER, train.NET, train.ORIGIN}
        snapshot(folder, 400)
    monkeypatch.setattr(train, "execute", execute)
    train.run(arguments(run, fresh=True))
    assert (folder / "final.caffemodel").read_bytes() == (folder / "net_iter_400.caffemodel").read_bytes()


@pytest.mark.usefixtures("engine_says_well")
def test_a_finished_training_is_not_trained_again(run, snapshot, monkeypatch, capsys):
    folder = run.begin("{}")
    (folder / train.ORIGIN).unlink()
    snapshot(folder, 400)
    monkeypatch.setattr(train, "execute", lambda *_, **__: pytest.fail("trained"))
    train.run(arguments(run, fresh=False))
    assert (folder / "final.caffemodel").read_bytes() == (folder / "net_iter_400.caffemodel").read_bytes()
    said = capsys.readouterr()
    assert "stage1 after 400 iterations" in said.out
    assert "engine: torchcaffe 1.0.0\n" in said.err
    made = manifest.read(run.folder / "lmdb" / "stage1_train")
    assert json.loads((folder / train.ORIGIN).read_bytes()) == {"records": {"stage1_train": made.data_sha256}, "weights": ""}

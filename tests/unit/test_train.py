"""The training command without an engine: a program prints what Caffe would."""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from data_tools import build, steps
from data_tools.augment import variants
from data_tools.errors import DataError
from data_tools.files import locked
from data_tools.isic import load_samples
from pycam import checks, engine, train
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
    train.execute(words, log, 3, start=None)
    assert log.read_text().count("\n") == 4
    train.execute(words, log, 3, start=2)
    assert log.read_text().count("\n") == 8
    train.execute(words, log, 3, start=None)
    assert log.read_text().count("\n") == 4
    assert f"+ {sys.executable} {words[1]}" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["nan", "-nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_ends_the_engine_without_a_snapshot(tmp_path, loss):
    body = f"line('Iteration 40 (2 iter/s, 1s/1 iters), loss = {loss}')\n" + LONG
    began = time.monotonic()
    with pytest.raises(CamError, match=f"the loss is {loss} at iteration 40: lower base_lr.*then start again"):
        train.execute(program(tmp_path, body), tmp_path / "log", 100, start=None)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "marker").exists()


def test_infinite_speed_is_no_infinite_loss(tmp_path):
    train.execute(program(tmp_path, TRAINED), tmp_path / "log", 3, start=None)


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
        train.execute(program(tmp_path, body), tmp_path / "train.log", 3, start=None)
    assert str(caught.value).startswith(f"training stopped: {reason}")
    assert str(caught.value).endswith(f"(whole log: {tmp_path / 'train.log'})")


CALLER = """
import sys
from pathlib import Path
from pycam import train, __main__
class Run:
    debug = False
    @staticmethod
    def run(args): train.execute([sys.executable, sys.argv[1]], Path(sys.argv[2]), 3, start=None)
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
    assert err.splitlines()[-1].startswith("interrupted")
    assert "stopping: the engine finishes its iteration and writes a snapshot, from which the same command goes on;" in err
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
        train._stop(Hanging(), file, "the same command")  # execute kills afterwards


class Bar(list):
    """Stands in for the bar: notes what it is made with and how far it is moved."""

    def __init__(self, **given):
        self.given = given

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def set_postfix(self, **_):
        pass

    update = list.append


def test_a_bar_that_goes_on_counts_only_what_is_new(tmp_path, monkeypatch):
    bars = []
    monkeypatch.setattr(train, "tqdm", lambda **given: bars.append(Bar(**given)) or bars[-1])
    body = "line('Iteration 100, loss = 1')\nline('Iteration 103, loss = 1')\nline('Optimization Done.')"
    train.execute(program(tmp_path, body), tmp_path / "log", 200, start=100)
    assert bars == [[0, 3]]
    assert (bars[0].given["initial"], bars[0].given["total"], bars[0].given["disable"]) == (100, 200, None)


def test_no_bar_goes_into_a_file(tmp_path, capfd):
    train.execute(program(tmp_path, TRAINED), tmp_path / "log", 3, start=None)
    assert "it/s" not in capfd.readouterr().err


# ---------------------------------------------------------------- the step
NET = {"shapes": {"fc": [[3, 4], [3]]}, "parameters": 15, "values": 10}


@pytest.fixture
def trained(run, monkeypatch, snapshot, capsys):
    """Return a function that trains with an engine that writes a snapshot, and gives (did it work, words, stderr)."""
    calls = []

    def execute(words, log, max_iter, start, again=""):
        calls.append(words[3:])
        log.write_text("log")
        for iteration in execute.stops or (max_iter,):
            snapshot(log.parent, iteration)
        if execute.stops:
            raise CamError("stopped")
    execute.stops = ()
    monkeypatch.setattr(train, "execute", execute)
    monkeypatch.setattr(checks, "probe", lambda _, requests: Probe(
        {"engine": {"torchcaffe": "1.0.0"}, "device": 1e-7, **{request.name: NET for request in requests}}))

    def train_it(change=lambda text: text, stops=(), **more):
        run.job(change)
        execute.stops = stops
        args = {"solver": run.folder / "solver.prototxt", "stage": "stage1", "folder": run.folder, "weights": None, "batch": None,
                "into": None, "seed": None, "max_iter": None, "precision": "fp32", "fresh": False, "checked": True,
                "engine": "torch", "gpu": None, "edit": [], "patch": None, **more}
        calls.clear()
        try:
            steps.run(train.step(argparse.Namespace(**args)))
        finally:
            train_it.out, train_it.err = capsys.readouterr()
        assert len(calls) <= 1
        return calls[0] if calls else None
    train_it.stage, train_it.run = run.folder / "stage1", run
    train_it.record = lambda: steps.read_record(train_it.stage / "origin.json")
    return train_it


def changed(old, new):
    return lambda text: text.replace(old, new)


def names(folder):
    return {path.name for path in folder.iterdir()}


WHOLE = {"final.caffemodel", "net_iter_400.caffemodel", "net_iter_400.solverstate", "origin.json", "solver.prototxt", "train.log",
         "train_val.prototxt"}
HARMLESS = [("display: 20", "display: 7"), ("test_interval: 100", "test_interval: 9"), ("test_iter: 15", "test_iter: 3"),
            ("snapshot: 200", "snapshot: 5"), ("average_loss: 20", "average_loss: 2"), ("solver_mode: CPU", "solver_mode: GPU"),
            ('"build/', '"build/./'), ("batch_size: 10", "batch_size: 5"), ("# Stage 1", "# Step 1"),
            ('/stage2_train" batch_size: 32', '/stage2_train" batch_size: 2')]
HARMFUL = [("base_lr: 0.01", "base_lr: 0.02", "base_lr"), ("momentum: 0.9", "momentum: 0.8", "momentum"),
           ("stepsize: 300", "stepsize: 100", "stepsize"), ("gamma: 0.1", "gamma: 0.2", "gamma"),
           ('type: "SGD"', 'type: "Adam"', "type"), ("clip_gradients: 5\n", "", "clip_gradients"),
           ("max_iter: 400", "max_iter: 800", "max_iter"), ("random_seed: 1\n", "random_seed: 1\niter_size: 2\n", "layer data"),
           ("batch_size: 32", "batch_size: 16", "layer data"), ("dropout_ratio: 0.5", "dropout_ratio: 0.4", "layer CAM_dropout"),
           ('test_state { stage: "stage1" }\ntest_iter: 15\n', "", "test nets"),  # which takes its share of the random numbers
           ('lr_policy: "step"\n', 'lr_policy: "step" base_lr: 0.3\n', "base_lr")]


def harm(old, new):
    def change(text):
        text = text.replace(old, new)
        return text.replace("base_lr: 0.01\n", "") if "base_lr: 0.3" in text else text
    return change


def test_only_torchcaffe_is_asked_to_go_on_at_the_record_where_it_stopped(trained, monkeypatch):
    with pytest.raises(CamError, match="stopped"):
        trained(stops=(200,))
    assert "-resume_data" in trained()
    monkeypatch.setattr(train, "command", lambda name: [name])
    backend = types.SimpleNamespace(gpu=None, precision="fp32")
    for name in ("caffe", "torch"):
        step = types.SimpleNamespace(parameters={train.ROUNDING: {"engine": name}})
        words = train.Training._words(types.SimpleNamespace(
            step=step, backend=backend, state=(1, "a"), start=None, job=types.SimpleNamespace(folder=trained.stage)))
        assert ("-resume_data" in words) == (name == "torch")


@pytest.mark.parametrize(("old", "new"), HARMLESS)
def test_a_finished_training_is_up_to_date_after_a_harmless_change(trained, old, new):
    assert old in trained.run.written
    trained()
    trained(changed(old, new))
    assert trained.out == "train/stage1: up to date\n"
    assert names(trained.stage) == WHOLE


@pytest.mark.parametrize(("old", "new"), HARMLESS)
def test_an_unfinished_training_goes_on_after_a_harmless_change(trained, old, new):
    with pytest.raises(CamError, match="stopped"):
        trained(stops=(200,))
    assert trained(changed(old, new))[-2:] == ["-snapshot", str(trained.stage / "net_iter_200.solverstate")]
    assert trained.record().facts["resumed"] == [200]
    assert "old-1" not in names(trained.stage)


@pytest.mark.parametrize("stops", [(), (200,)], ids=["finished", "unfinished"])
@pytest.mark.parametrize(("old", "new", "name"), HARMFUL)
def test_a_changed_training_begins_anew_and_keeps_the_old_one_apart(trained, old, new, name, stops):
    assert old in trained.run.written
    with pytest.raises(CamError, match="stopped") if stops else contextlib.nullcontext():
        trained(stops=stops)
    left = names(trained.stage)
    assert "-snapshot" not in trained(harm(old, new))
    assert re.search(rf"note: train/stage1 begins anew \(.*{name}.*\); what was there is in {trained.stage}/old-1", trained.err)
    assert names(trained.stage / "old-1") == left
    assert "net_iter_200.caffemodel" not in names(trained.stage)
    assert trained.record().finished
    assert trained(harm(old, new)) is None


def test_inputs_decide_by_their_content(trained, snapshot):
    weights = trained.run.folder / "net_iter_1.caffemodel"
    snapshot(trained.run.folder, 1)
    assert trained(weights=weights)[-2:] == ["-weights", str(weights)]
    other = trained.run.folder / "other.caffemodel"
    other.write_bytes(weights.read_bytes())
    assert trained(weights=other) is None
    assert "-weights" not in trained()
    assert trained(weights=other)[-1] == str(other)
    samples = load_samples(trained.run.folder / "isic" / "train")[1:]
    build.build(samples, trained.run.folder / "lmdb" / "stage1_train", variants((0,), False, "centre"), size=32, patch_size=28)
    assert trained(weights=other)[-1] == str(other)
    assert trained(weights=other) is None
    samples = load_samples(trained.run.folder / "isic" / "val")[1:]  # only for the curve
    build.build(samples, trained.run.folder / "lmdb" / "stage1_val", variants((0,), False, "centre"), size=32, patch_size=28)
    assert trained(weights=other) is None


def test_rounding_is_part_of_a_finished_training_and_not_of_an_unfinished_one(trained):
    trained()
    assert trained(batch=8) is not None
    with pytest.raises(CamError):
        trained(batch=4, stops=(100,))
    assert "-snapshot" in trained(precision="bf16")
    assert trained.record().parameters["rounding"] == {"engine": "torch", "device": "CPU", "precision": "bf16", "pieces": 1}
    assert trained.record().facts["engine"] == "torchcaffe 1.0.0, torchcaffe 1.0.0 in bf16"
    assert trained(precision="bf16") is None
    assert trained() is not None


def test_both_engines_of_a_training_are_told(trained, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(CamError):
        trained(stops=(100, 200))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(engine, "version", lambda name: f"{name} 9")
    monkeypatch.setattr(engine, "choose", lambda *_: "caffe")
    monkeypatch.setattr(train, "command", lambda name: [name, "-m", "x"])
    assert trained()[-1].endswith("net_iter_200.solverstate")
    facts = trained.record().facts
    assert (facts["engine"], facts["device"], facts["iterations"], facts["resumed"]) == (
        "torchcaffe 1.0.0, caffe 9", "CPU (threads: 2), CPU (threads: 1)", 400, [200])


def test_fresh_takes_only_a_training_in_one_go(trained):
    with pytest.raises(CamError):
        trained(stops=(200,))
    trained()
    trained()
    assert trained.out == "train/stage1: up to date\n"
    assert "-snapshot" not in trained(fresh=True)
    assert "begins anew (--fresh)" in trained.err
    assert trained(fresh=True) is None
    assert trained() is None
    with pytest.raises(CamError):
        trained(changed("gamma: 0.1", "gamma: 0.2"), stops=(200,))
    assert "-snapshot" not in trained(changed("gamma: 0.1", "gamma: 0.2"), fresh=True)
    assert {"old-1", "old-2", "old-3"} < names(trained.stage)


def test_a_training_that_begins_anew_is_one_in_one_go(trained):
    with pytest.raises(CamError):
        trained(stops=(200,))
    trained()
    assert trained.record().parameters["resumed"]
    trained(seed=5)
    trained(seed=5, fresh=True)
    assert trained.out == "train/stage1: up to date\n"


def test_nothing_is_moved_before_the_checks(trained):
    trained()
    before = {path: path.read_bytes() for path in trained.stage.iterdir()}
    with pytest.raises(CamError, match="have no filler"):
        trained(changed('    weight_filler { type: "msra" }\n', ""))
    assert {path: path.read_bytes() for path in trained.stage.iterdir()} == before


def test_weights_that_would_be_moved_aside_are_no_start(trained):
    trained()
    for weights in (trained.stage, trained.stage / "net_iter_400.caffemodel"):
        with pytest.raises(CamError, match=r"stage1/.*: lies where this training would put its own weights; .*--into"):
            trained(changed("gamma: 0.1", "gamma: 0.2"), weights=weights)
    assert names(trained.stage) == WHOLE
    assert trained(changed("gamma: 0.1", "gamma: 0.2"), weights=trained.stage, into="more") is not None


def test_snapshots_from_elsewhere_are_taken_with_a_note(trained, snapshot):
    trained.stage.mkdir()
    snapshot(trained.stage, 200)
    assert trained()[-1].endswith("net_iter_200.solverstate")
    assert "note: " in trained.err
    assert trained.record().facts["engine"] == "unknown, torchcaffe 1.0.0"
    assert trained() is None
    assert trained(fresh=True) is not None


def test_a_record_that_is_damaged_is_not_trusted(trained):
    with pytest.raises(CamError):
        trained(stops=(200,))
    (trained.stage / "origin.json").write_text("[]")
    assert "-snapshot" not in trained()
    assert "net_iter_200.solverstate" in names(trained.stage / "old-1")
    assert "begins anew (no sound record)" in trained.err


def test_final_weights_that_are_lost_are_made_again_of_the_last_snapshot(trained):
    trained()
    (trained.stage / "final.caffemodel").unlink()
    assert trained() is None
    assert names(trained.stage) == WHOLE


def test_an_unfinished_training_without_a_snapshot_begins_again_in_its_place(trained, monkeypatch):
    with pytest.raises(CamError):
        trained(stops=(200,))
    (trained.stage / "net_iter_200.solverstate").unlink()
    assert "-snapshot" not in trained()
    assert "old-1" not in names(trained.stage)
    assert trained.record().facts["resumed"] == []


def test_the_way_that_the_pictures_were_made_is_told_on(trained):
    for source, value in (("stage1_train", 5), ("stage1_val", 6)):
        steps.write_record(trained.run.folder / "lmdb" / source / ".lmdb.json", steps.Record({"pictures": {"region": value}}, {}))
    trained()
    assert trained.record().parameters["pictures"] == {"region": 5}


def test_checks_are_made_once_and_tell_notes(trained, monkeypatch):
    trained(checked=False)
    assert "note: test_iter 15 x batch_size 10 is not the 3 records" in trained.err
    monkeypatch.setattr(checks, "probe", lambda *_: pytest.fail("tried"))
    trained(changed("gamma: 0.1", "gamma: 0.2"))
    assert "note: test_iter 15 x batch_size 10 is not the 3 records" in trained.err
    assert trained(changed("gamma: 0.1", "gamma: 0.2"), checked=False) is None
    (trained.run.folder / "lmdb" / "stage1_train" / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"stage1_train/manifest\.json: cannot be read"):
        trained(changed("gamma: 0.1", "gamma: 0.3"))


def test_two_trainings_of_a_folder_at_once_end_in_one_line(trained):
    with locked(trained.stage), pytest.raises(DataError, match="stage1: another process is writing there"):
        trained()


def test_an_engine_ends_with_a_killed_command(tmp_path):
    """It has a session of its own, and would write on beside the next run."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            train.execute(["sh", "-c", f"echo $$ >{tmp_path / 'engine'}; exec sleep 60"], tmp_path / "log", 5, None)
        os._exit(0)
    deadline = time.monotonic() + 30
    while not (tmp_path / "engine").exists() or not (tmp_path / "engine").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    stat = Path("/proc", (tmp_path / "engine").read_text().strip(), "stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the engine lives on"
        time.sleep(0.02)

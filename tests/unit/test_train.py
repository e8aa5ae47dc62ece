"""The training command without an engine: texts, snapshots, checks, and a program that prints what Caffe would."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_tools import build, manifest
from data_tools.augment import variants
from data_tools.isic import load_samples
from data_tools.synthetic import make_root
from pycam import train
from pycam.errors import CamError
from torchcaffe.netparam import parse_text, read_net, read_solver
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
NARROW = ROOT / "solvers" / "narrow_stage1.prototxt"
NET = (ROOT / "prototxt" / "vgg_gap_narrow_train_val.prototxt").read_text()
SOLVER = """# Stage 1
net: "{net}"
train_state {{ stage: "stage1" }}
test_state {{ stage: "stage1" }}
test_iter: 15
test_interval: 100
max_iter: 400
type: "SGD"
base_lr: 0.01
lr_policy: "step"
gamma: 0.1
stepsize: 300
momentum: 0.9
weight_decay: 0.0005
clip_gradients: 5
display: 20
average_loss: 20
snapshot: 200
snapshot_prefix: "build/stage1/net"
random_seed: 1
solver_mode: CPU
"""


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the committed solvers name their net from here


# ---------------------------------------------------------------- texts
@pytest.mark.parametrize("solver", ["stage1", "stage2", "stage1_scratch", "narrow_stage1", "narrow_stage2", "demo_stage1"])
def test_the_run_replaces_build_and_nothing_else_changes(tmp_path, solver):
    source = ROOT / "solvers" / f"{solver}.prototxt"
    solver_text, net_text = train.rewrite(source, Path("my/run"), Path("my/run/stage1"), 0, None)
    old = read_solver(str(source))
    old_net = Path(old.net).read_text()
    assert 'build/' in old_net
    assert 'build/' not in net_text + "".join(line for line in solver_text.splitlines() if not line.startswith("#"))
    assert net_text.replace('"my/run/', '"build/') == old_net
    (tmp_path / "solver").write_text(solver_text)
    new = read_solver(str(tmp_path / "solver"))
    assert (new.net, new.solver_mode) == ("my/run/stage1/train_val.prototxt", new.GPU)
    assert new.snapshot_prefix == old.snapshot_prefix.replace("build", "my/run")
    for field in ("net", "solver_mode", "snapshot_prefix"):
        new.ClearField(field)
        old.ClearField(field)
    assert new == old


@pytest.mark.parametrize(("gpu", "mode"), [(None, "CPU"), (0, "GPU"), (3, "GPU")])
@pytest.mark.parametrize("written", ["solver_mode: CPU", "solver_mode: GPU", "  solver_mode : GPU # comment", ""])
def test_the_gpu_decides_the_mode(tmp_path, gpu, mode, written):
    source = tmp_path / "s.prototxt"
    lines = [line for line in NARROW.read_text().splitlines() if not line.startswith("solver_mode")]
    source.write_text("\n".join([*lines, written]))  # without a line end
    text, _ = train.rewrite(source, tmp_path, tmp_path / "stage1", gpu, None)
    source.write_text(text)
    assert read_solver(str(source)).solver_mode == getattr(caffe_pb2.SolverParameter, mode)
    assert text.count("solver_mode") == 1


def test_a_folder_with_signs_of_regular_expressions(tmp_path):
    root = tmp_path / r"a\1 (b)"
    text, net = train.rewrite(NARROW, root, root / "stage1", None, None)
    assert f'net: "{root}/stage1/train_val.prototxt"' in text
    assert f'"{root}/lmdb/stage1_train"' in net


def test_the_seed_replaces_the_solvers(tmp_path):
    text, _ = train.rewrite(NARROW, tmp_path, tmp_path / "stage1", None, None, 7)
    assert parse_text(text, caffe_pb2.SolverParameter(), "solver").random_seed == 7


@pytest.mark.parametrize(("iter_size", "batch", "expected"), [(None, 8, 4), (None, 32, 1), (3, 16, 6)])
def test_pieces_of_a_batch_make_the_batch(tmp_path, iter_size, batch, expected):
    source = tmp_path / "s.prototxt"
    source.write_text(NARROW.read_text() + (f"iter_size: {iter_size}" if iter_size else ""))
    text, net_text = train.rewrite(source, tmp_path, tmp_path, None, batch)
    source.write_text(text)
    assert read_solver(str(source)).iter_size == expected
    (tmp_path / "net").write_text(net_text)
    sizes = {(layer.include[0].phase, layer.data_param.batch_size) for layer in read_net(str(tmp_path / "net")).layer
             if layer.type == "Data"}
    assert sizes == {(caffe_pb2.TRAIN, batch), (caffe_pb2.TEST, 10)}


@pytest.mark.parametrize("batch", [0, -4, 5, 64])
def test_a_batch_that_does_not_divide_is_refused(batch):
    with pytest.raises(CamError, match=rf"--batch {batch}: must divide .* \[32\]"):
        train.split_batch(NET, batch)


@pytest.mark.parametrize("line", ["snapshot: 0", "snapshot_after_train: false", "snapshot_format: HDF5"])
def test_a_training_that_could_not_go_on_is_refused(tmp_path, line):
    text = "\n".join(part for part in NARROW.read_text().splitlines() if not part.startswith(line.partition(":")[0] + ":"))
    with pytest.raises(CamError, match="needs snapshot"):
        train._parse((f"{text}\n{line}\n", 'layer { name: "a" type: "Input" }'), NARROW)


# ---------------------------------------------------------------- snapshots
def snapshot(folder, iteration, state=True, model=True):
    stem = folder / f"net_iter_{iteration}"
    whole_state = caffe_pb2.SolverState(iter=iteration, learned_net=f"{stem}.caffemodel")
    whole_state.history.add().data.extend([0.5] * 100)
    whole_model = caffe_pb2.NetParameter(name="n")
    whole_model.layer.add(name="fc").blobs.add().data.extend([0.5] * 100)
    for part, message, end in ((state, whole_state, "solverstate"), (model, whole_model, "caffemodel")):
        if part is not None:
            content = message.SerializeToString()
            Path(f"{stem}.{end}").write_bytes(content if part is True else content[:part])


def test_without_a_snapshot_there_is_no_state(tmp_path):
    assert train.newest_state(tmp_path / "net") is None
    assert train.newest_state(tmp_path / "missing" / "net") is None


def test_the_newest_is_by_number_not_by_name(tmp_path):
    for iteration in (10, 9, 100):
        snapshot(tmp_path, iteration)
    snapshot(tmp_path, 3)
    (tmp_path / "net_iter_3.solverstate").rename(tmp_path / "other_iter_900.solverstate")
    assert train.newest_state(tmp_path / "net") == (100, tmp_path / "net_iter_100.solverstate")


@pytest.mark.parametrize("parts", [{"state": 50}, {"model": 50}, {"state": 0}, {"model": 0}, {"model": None}])
def test_half_written_pairs_are_passed_over(tmp_path, capsys, parts):
    snapshot(tmp_path, 10)
    snapshot(tmp_path, 20, **parts)
    assert train.newest_state(tmp_path / "net") == (10, tmp_path / "net_iter_10.solverstate")
    assert "passed over" in capsys.readouterr().err
    (tmp_path / "net_iter_10.caffemodel").write_text("no weights")
    assert train.newest_state(tmp_path / "net") is None


# ---------------------------------------------------------------- checks
@pytest.fixture
def run(tmp_path):
    """Return a folder with the stage's LMDBs, of 6 and 3 records, and a function that reads texts there."""
    make_root(tmp_path / "isic", {"train": 6, "val": 3}, height=60, width=80)
    for split in ("train", "val"):
        samples, database = load_samples(tmp_path / "isic" / split), tmp_path / "lmdb" / f"stage1_{split}"
        build.build(samples, database, variants((0,), False, "centre"), size=32, patch_size=28)

    def texts(change=lambda text: text, batch=None):
        source, net = tmp_path / "solver.prototxt", tmp_path / "net.prototxt"
        net.write_text(change(NET))
        source.write_text(change(SOLVER.format(net=net)))
        written = train.rewrite(source, tmp_path, tmp_path / "stage1", None, batch)
        return (*written, *train._parse(written, source))
    return SimpleNamespace(folder=tmp_path, texts=texts)


def test_data_is_checked_and_hashed(run, capsys):
    _, _, solver, net = run.texts()
    made = manifest.read(run.folder / "lmdb" / "stage1_train")
    assert train.check_data(net, solver, "stage1") == {"stage1_train": made.data_sha256}
    assert "note: test_iter 15 x batch_size 10 is not the 3 records of " in capsys.readouterr().err
    _, _, solver, net = run.texts(lambda text: text.replace("iter: 15", "iter: 1").replace("batch_size: 10", "batch_size: 3"))
    train.check_data(net, solver, "stage1")
    assert capsys.readouterr().err == ""
    with pytest.raises(Exception, match="stage2_train"):
        train.check_data(net, solver, "stage2")


def test_too_few_outputs_are_refused(run):
    _, _, solver, net = run.texts(lambda text: text.replace("num_output: 3\n", "num_output: 2\n"))
    with pytest.raises(CamError, match="stage1_train: 3 classes, the net has 2 outputs"):
        train.check_data(net, solver, "stage1")


def test_a_net_without_fillers_needs_weights(run):
    _, _, _, net = run.texts(lambda text: text.replace('    weight_filler { type: "msra" }\n', ""))
    with pytest.raises(CamError, match=r"conv1_2 and others have no filler.*INIT="):
        train.check_start(None, net, "", "stage1", None)


def begin(run, origin):
    """Leave the copies of a training that began."""
    solver_text, net_text, *_ = run.texts()
    folder = run.folder / "stage1"
    folder.mkdir()
    (folder / train.SOLVER).write_text(solver_text)
    (folder / train.NET).write_text(net_text)
    (folder / train.ORIGIN).write_text(origin)
    return folder


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
    folder = begin(run, ORIGIN_TEXT)
    assert old in SOLVER + NET
    _, _, solver, net = run.texts(lambda text: text.replace(old, new))
    train.check_unchanged(folder, solver, net, ORIGIN)


def test_a_training_goes_on_with_pieces_of_its_batch(run):
    folder = begin(run, ORIGIN_TEXT)
    _, _, solver, net = run.texts(batch=8)
    train.check_unchanged(folder, solver, net, ORIGIN)


@pytest.mark.parametrize(("old", "new", "name"), HARMFUL)
def test_a_training_does_not_go_on_with_another_solver_or_net(run, old, new, name):
    folder = begin(run, ORIGIN_TEXT)
    assert old in SOLVER + NET
    _, _, solver, net = run.texts(lambda text: text.replace(old, new))
    with pytest.raises(CamError, match=rf"changed since its snapshots were made: .*{name}.*--fresh \(RESUME=no of make\)"):
        train.check_unchanged(folder, solver, net, ORIGIN)


def test_the_number_of_iterations_counts_where_the_rate_depends_on_it(run):
    folder = begin(run, ORIGIN_TEXT)
    poly = (folder / train.SOLVER).read_text().replace('"step"', '"poly"')
    (folder / train.SOLVER).write_text(poly)
    _, _, solver, net = run.texts(lambda text: text.replace('"step"', '"poly"').replace("max_iter: 400", "max_iter: 800"))
    with pytest.raises(CamError, match="were made: max_iter; change back"):
        train.check_unchanged(folder, solver, net, ORIGIN)


@pytest.mark.parametrize(("origin", "name"), [({**ORIGIN, "records": {"stage1_train": "9"}}, "training records"),
                                              ({**ORIGIN, "weights": "9"}, "starting weights"),
                                              ({**ORIGIN, "weights": ""}, None)])
def test_a_training_does_not_go_on_with_other_data_or_weights(run, origin, name):
    folder = begin(run, ORIGIN_TEXT)
    _, _, solver, net = run.texts()
    if name is None:  # no weights were named
        train.check_unchanged(folder, solver, net, origin)
        return
    with pytest.raises(CamError, match=f"made: {name}; change back"):
        train.check_unchanged(folder, solver, net, origin)


def test_snapshots_from_elsewhere_are_taken_with_a_note(run, capsys):
    folder = begin(run, ORIGIN_TEXT)
    (folder / train.ORIGIN).unlink()
    _, _, solver, net = run.texts()
    train.check_unchanged(folder, solver, net, ORIGIN)
    assert capsys.readouterr().err.startswith("note: ")


# ---------------------------------------------------------------- the engine's process
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
__main__.build_parser = lambda: type("P", (), {"parse_args": lambda self, argv: Run})()
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
                              seed=None,
                              fresh=fresh, engine="torch", gpu=None)


def test_fresh_forgets_snapshots_only_after_the_checks(run, monkeypatch):
    folder = begin(run, ORIGIN_TEXT)
    snapshot(folder, 20)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    args = arguments(run, fresh=True)
    net = run.folder / "net.prototxt"
    net.write_text(net.read_text().replace('    weight_filler { type: "msra" }\n', ""))
    monkeypatch.setattr(train.engine, "load", lambda *_: SimpleNamespace(__name__="torchcaffe"))
    with pytest.raises(CamError, match="have no filler"):
        train.run(args)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_finished_training_is_not_trained_again(run, monkeypatch, capsys):
    folder = begin(run, ORIGIN_TEXT)
    (folder / train.ORIGIN).unlink()
    snapshot(folder, 400)
    monkeypatch.setattr(train.engine, "load", lambda *_: SimpleNamespace(__name__="torchcaffe"))
    monkeypatch.setattr(train, "execute", lambda *_, **__: pytest.fail("trained"))
    train.run(arguments(run, fresh=False))
    assert (folder / "final.caffemodel").read_bytes() == (folder / "net_iter_400.caffemodel").read_bytes()
    assert "stage1 after 400 iterations" in capsys.readouterr().out

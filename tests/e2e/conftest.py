"""A made-up data set, a reduced network and solver, and runs of the whole pipeline that the end-to-end tests share."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NET = ROOT / "prototxt" / "vgg_gap_narrow_train_val.prototxt"
DEPLOY = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"
RECORDS, BATCH = 12, 4  # so that a snapshot every three iterations falls on the end of an epoch
SOLVER = """net: "{net}"
train_state {{ stage: "{stage}" }}
test_state {{ stage: "{stage}" }}
test_iter: 1
test_interval: 6
max_iter: 6
base_lr: 0.001
lr_policy: "fixed"
momentum: 0.9
weight_decay: 0.0005
clip_gradients: 5
display: 1
snapshot: 3
snapshot_prefix: "build/{stage}/tiny"
random_seed: 1
solver_mode: CPU
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Bench:
    """Runs the real command lines on a tiny data set; `pythons` maps the engines to the Python that has them."""

    def __init__(self, folder, pythons):
        self.folder, self.pythons, self.isic = folder, pythons, folder / "isic"
        self.deploy = DEPLOY
        self.pycam("torch", "data_tools", "synthetic", "--out", self.isic, "--train", RECORDS, "--val", 10,
                   "--height", 200, "--width", 260)
        self.net("net")
        for stage in ("stage1", "stage2"):
            self.solver(stage, stage)

    def net(self, name, *changes):
        """Write the network with small batches, without dropout, and with some texts replaced; return the file."""
        text = NET.read_text().replace("batch_size: 32", f"batch_size: {BATCH}")
        dropout = text.index('layer {\n  name: "CAM_dropout"')  # its random stream starts anew with every resume
        text = text[:dropout] + text[text.index("# The class scores", dropout):]
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self.folder / f"{name}.prototxt"
        path.write_text(text)
        return path

    def solver(self, stage, name, net=None, **fields):
        """Write the tiny solver with other values of some fields under a name; return the file."""
        text = SOLVER.format(net=net or self.folder / "net.prototxt", stage=stage)
        for field, value in fields.items():
            text = "".join(line for line in text.splitlines(True) if not line.startswith(f"{field}:")) + f"{field}: {value}\n"
        path = self.folder / f"{name}.prototxt"
        path.write_text(text)
        return path

    def start(self, engine, *words, **options):
        """Start a program and return its process, whose signals are those of a terminal's child."""
        command = [self.pythons[engine], "-m", *map(str, words)] if words[0] != "make" else [*map(str, words)]
        return subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, **ONE_THREAD}, start_new_session=True,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)

    def run(self, engine, *words):
        """Run a program to its end; return (exit status, stdout, stderr)."""
        process = self.start(engine, *words)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err

    def pycam(self, engine, *words):
        """Run a program that must succeed; return its stdout."""
        status, out, err = self.run(engine, *words)
        assert status == 0, err
        return out

    def train(self, engine, run, solver=None, *more):
        """Return the words of a training of stage 1."""
        return ["pycam", "train", "--solver", solver or self.folder / "stage1.prototxt", "--stage", "stage1", "--run", run,
                "--engine", engine, *more]

    def make(self, engine, target, run, *more, prefix=""):
        """Return the words of make for a target, with the solvers whose names begin with a prefix."""
        solvers = f"{os.path.relpath(self.folder, ROOT / 'solvers')}/{prefix}"
        return ["make", target, f"PYTHON={self.pythons[engine]}", f"RUN={run}", f"ISIC={self.isic}", "NET=vgg_gap_narrow",
                f"ENGINE={engine}", f"SOLVERS={solvers}", "AUGMENT=none", "JOBS=2", *more]


def wait_for(condition, process, seconds=60):
    """Wait until a condition holds; fail when the process ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    pythons = {"torch": sys.executable, "caffe": os.environ.get("SKIN_CAFFE") or str(ROOT / ".caffe" / "bin" / "python3")}
    return Bench(tmp_path_factory.mktemp("bench"), pythons)


@pytest.fixture(params=["torch", pytest.param("caffe", marks=[pytest.mark.caffe, pytest.mark.slow])])
def engine(request):
    """Name each engine in turn; without real Caffe its turn is skipped."""
    if request.param == "caffe":
        request.getfixturevalue("real_caffe")
    return request.param


@pytest.fixture(scope="session")
def finished(bench, request):
    """Return a function that gives an engine's finished run, made once by `make report`."""
    made = {}

    def run_of(engine):
        if engine == "caffe":
            request.getfixturevalue("real_caffe")
        if engine not in made:
            folder = bench.folder / f"run_{engine}"
            made[engine] = folder, bench.pycam(engine, *bench.make(engine, "report", folder, "--jobs=2"))
        return made[engine]
    return run_of


@pytest.fixture
def waiting():
    return wait_for


@pytest.fixture(scope="session")
def data(bench, tmp_path_factory):
    """Return a run's folder that has everything that comes before the training."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        bench.pycam("torch", "data_tools", "clean", "--isic", bench.isic, "--split", split, "--out", folder / "clean" / split)
        bench.pycam("torch", "data_tools", "lmdb", "--images", folder / "clean" / split, "--out",
                    folder / "lmdb" / f"stage1_{split}", "--augment", "none")
    return folder

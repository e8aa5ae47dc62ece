"""A small copy of the repository in which the commands of the documents run as they stand.

Its networks are narrow and its solvers stop after two iterations, under the names of the real ones; its pictures are made up.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import torchcaffe
from data_tools.__main__ import main as data_tools

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "data/weights/vgg16CAM_train_iter_90000.caffemodel"
GOOGLENET = "data/weights/bvlc_googlenet.caffemodel"
VGG16 = "data/weights/vgg16.caffemodel"
MAKE = ["PYTHON=python", "ENGINE=torch", "JOBS=1", "AUGMENT=none"]
SOLVER = {"test_iter": 1, "test_interval": 2, "max_iter": 2, "snapshot": 2, "display": 1, "solver_mode": "CPU"}


class Sandbox:
    """Runs commands in the folder of the small copy."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)
        for name in ("examples", "experiments", "benchmarks", "tools", "docs", "docker"):  # copies: docs/results is written
            shutil.copytree(ROOT / name, folder / name)
        (folder / "bin").mkdir()
        (folder / "bin" / "docker").symlink_to("/bin/true")  # an engine that answers; what it is told: tests/unit/test_docker.py
        self._nets()
        self._solvers()

    def _nets(self):
        there = self.folder / "prototxt"
        shutil.copytree(ROOT / "prototxt", there)
        for name in ("vgg_gap_deploy", "vgg16_gap_deploy"):
            shutil.copy(there / "vgg_gap_narrow_deploy.prototxt", there / f"{name}.prototxt")
        for name in ("vgg_gap_train_val", "vgg_gap_scratch_train_val", "vgg16_gap_random_train_val"):
            shutil.copy(there / "vgg_gap_narrow_train_val.prototxt", there / f"{name}.prototxt")
        for path in there.glob("*_train_val.prototxt"):
            path.write_text(re.sub(r"batch_size: \d+", "batch_size: 2", path.read_text()))

    def _solvers(self):
        (self.folder / "solvers").mkdir()
        for path in (ROOT / "solvers").glob("*.prototxt"):
            text = path.read_text()
            for name, value in SOLVER.items():
                text, count = re.subn(rf"(?m)^{name}: .*", f"{name}: {value}", text)
                assert count == 1, (path, name)
            (self.folder / "solvers" / path.name).write_text(text)

    def call(self, words):
        """Run `-m MODULE WORDS` and return its exit status: here, or for training in a process of its own."""
        if words[0] == "torchcaffe":
            return subprocess.run([sys.executable, "-m", *words], check=False, stderr=subprocess.DEVNULL).returncode
        try:
            return importlib.import_module(f"{words[0]}.__main__").main(words[1:])
        except SystemExit as end:
            return end.code

    def make(self, *words):
        """Return the lines that make would run, and see that it knows how to make the target.

        What is given reaches the driver through the environment; here its words say it, after what makes a run short.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        environment["PATH"] = f"{self.folder / 'bin'}:{environment['PATH']}"
        done = subprocess.run(["make", "-n", *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        given = [word for word in (*MAKE, *words) if "=" in word and not word.startswith("PYTHON=")]
        lines = done.stdout.replace("\\\n", " ").splitlines()
        return [f"{line} {shlex.join(given)}" if re.search(r" -m pycam (pipeline|experiment)\b", line) else line
                for line in lines]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """Return the copy after `make all`: each command that make names was run."""
    with pytest.MonkeyPatch.context() as patch:
        box = Sandbox(tmp_path_factory.mktemp("repository"))
        patch.chdir(box.folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        _make_data()
        for line in box.make("all", f"INIT={WEIGHTS}", *MAKE):
            words = shlex.split(line)
            if words[:2] == ["python", "-m"]:
                assert box.call(words[2:]) == 0, line
        Path("build/demo").symlink_to(box.folder / "build")
        shutil.copy("prototxt/vgg_gap_narrow_deploy.prototxt", "build/deploy.prototxt")  # in the demo's folder lies its own
        Path("build/isic").symlink_to(box.folder / "data" / "isic2017")
        yield box
    torchcaffe.set_precision("fp32")  # for the tests that come after


def _make_data():
    """Make up the data set, weights under the name of the public ones, and somebody's own pictures."""
    words = "synthetic --out data/isic2017 --train 12 --val 10 --height 120 --width 160"
    assert data_tools(words.split()) == 0
    Path(WEIGHTS).parent.mkdir()
    for name, net in ((WEIGHTS, "vgg_gap"), (VGG16, "vgg16_gap"), (GOOGLENET, "googlenet_gap")):
        torchcaffe.Net(f"prototxt/{net}_deploy.prototxt", torchcaffe.TEST).save(name)
    shutil.copytree("data/isic2017", "mine")

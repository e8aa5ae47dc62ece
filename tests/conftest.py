"""What tests share: real BVLC Caffe's Python, a count of the comparisons made with it, and a process as if new."""

import hashlib
import os
import signal
import sys
from pathlib import Path

import pytest

from data_tools import isic

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads must not spin: tests run side by side
LIVE = "live Caffe cases"  # key of record_property


@pytest.fixture(scope="session")
def real_caffe():
    """Return the path of a Python that imports real Caffe; SKIN_CAFFE names it, `make caffe` makes .caffe/bin/python3."""
    python = Path(os.environ.get("SKIN_CAFFE") or ROOT / ".caffe" / "bin" / "python3")
    if not python.is_file():
        pytest.skip(f"no real Caffe: {python} is missing (make caffe; SKIN_CAFFE names another Python)")
    return str(python)


@pytest.fixture(autouse=True)
def _log_shown(monkeypatch):
    """Forget what an earlier test of the same process said about log lines: one may have hidden them."""
    monkeypatch.delenv("GLOG_minloglevel", raising=False)


@pytest.fixture(autouse=True)
def _signals_as_in_a_new_process():
    """Let Ctrl-C raise: an earlier test may have trained, which takes signals, or all tests run with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _no_name_told_twice():
    """Forget that `caffe` is torchcaffe: an earlier test may have run its command line, which says so for the whole process."""
    if sys.modules.get("caffe", sys) is sys.modules.get("torchcaffe"):
        del sys.modules["caffe"]


@pytest.fixture
def live_cases(record_property):
    """Return a function that adds to the number of live comparisons that the summary shows."""
    return lambda count=1: record_property(LIVE, count)


def pytest_terminal_summary(terminalreporter):
    passed = terminalreporter.stats.get("passed", [])
    count = sum(value for report in passed for name, value in report.user_properties if name == LIVE)
    terminalreporter.write_line(f"compared with real BVLC Caffe live: {count} cases")


@pytest.fixture
def let_be_official(monkeypatch):
    """Let pictures of these ids be those of a split of ISIC-2017."""
    def run(image_ids, split="val"):
        digest = hashlib.sha256("\n".join(sorted(image_ids)).encode()).hexdigest()
        monkeypatch.setitem(isic._OFFICIAL, digest, split)
    return run


@pytest.fixture
def make_net(tmp_path):
    """Return a function that makes a torchcaffe net of a text, in the TRAIN phase unless told."""
    import torchcaffe

    def make(text, phase=torchcaffe.TRAIN, **more):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return torchcaffe.Net(str(path), phase, **more)
    return make

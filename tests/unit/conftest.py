"""A stage's folder with tiny LMDBs, and its solver and net, for the tests of training and its checks."""

import contextlib
import functools
import http.server
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_tools import build
from data_tools.augment import variants
from data_tools.isic import load_samples
from data_tools.synthetic import make_root
from pycam.job import read_job
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def run(tmp_path):
    """Return a folder with the stage's LMDBs, of 6 and 3 records, and a function: a job there, of changed texts."""
    make_root(tmp_path / "isic", {"train": 6, "val": 3}, height=60, width=80)
    for split in ("train", "val"):
        samples, database = load_samples(tmp_path / "isic" / split), tmp_path / "lmdb" / f"stage1_{split}"
        build.build(samples, database, variants((0,), False, "centre"), size=32, patch_size=28)

    def job(change=lambda text: text, **more):
        source, net = tmp_path / "solver.prototxt", tmp_path / "net.prototxt"
        net.write_text(change(NET))
        source.write_text(change(SOLVER.format(net=net)))
        return read_job(source, tmp_path, "stage1", **more)
    return SimpleNamespace(folder=tmp_path, job=job, written=SOLVER.format(net="") + NET)


@pytest.fixture
def snapshot():
    """Return a function that writes a pair of snapshot files, whole, cut off after some bytes, or not at all (None)."""
    return write_snapshot


def write_snapshot(folder, iteration, state=True, model=True):
    stem = folder / f"net_iter_{iteration}"
    whole_state = caffe_pb2.SolverState(iter=iteration, learned_net=f"{stem}.caffemodel")
    whole_state.history.add().data.extend([0.5] * 100)
    whole_model = caffe_pb2.NetParameter(name="n")
    whole_model.layer.add(name="fc").blobs.add(data=[0.5] * 100).shape.dim.append(100)
    for part, message, end in ((state, whole_state, "solverstate"), (model, whole_model, "caffemodel")):
        if part is not None:
            content = message.SerializeToString()
            Path(f"{stem}.{end}").write_bytes(content if part is True else content[:part])


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_):
        """Say nothing."""


@contextlib.contextmanager
def running(server):
    """Run a server in a thread for a block, which gets its address."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def serve():
    """Return a function that serves a folder, or with a handler of one's own nothing yet, and gives (address, server)."""
    with contextlib.ExitStack() as stack:
        def start(folder=None, handler=None):
            handler = handler or functools.partial(QuietHandler, directory=str(folder))
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            return stack.enter_context(running(server)), server
        yield start

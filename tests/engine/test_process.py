"""What concerns the whole process: copies of it, its memory, threads, settings, and files that a killed one leaves."""
import fcntl
import os
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe import __main__ as command
from torchcaffe import context, parallel, snapshot, threads, wire
from torchcaffe.layers import loss
from torchcaffe.proto import caffe_pb2 as pb

FROZEN = """
layer { name: "d" type: "DummyData" top: "x" top: "label" dummy_data_param { shape { dim: 4 dim: 6 } shape { dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" %s inner_product_param { num_output: 3 bias_term: false
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
"""


def write_solver(folder, more="", net=FROZEN % ""):
    (folder / "net.prototxt").write_text(net)
    path = folder / "s.prototxt"
    path.write_text(f'net: "{folder}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2 {more}')
    return str(path)


# ------------------------------------------------------------ several processes
@pytest.mark.parametrize(("gpu", "count", "started"), [("all", 1, 0), ("all", 2, 2), ("0", 1, 0), ("0,1", 2, 2), ("1,1,1", 2, 3)])
@pytest.mark.parametrize("launched", [False, True])
def test_processes_start_for_several_gpus_only_and_never_by_one_of_them(tmp_path, monkeypatch, gpu, count, started, launched):
    """`-gpu all` on a machine with one GPU once started processes without end."""
    solver, starts, gpus = write_solver(tmp_path), [], []
    monkeypatch.setattr(parallel.torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(parallel, "start", lambda words, number: starts.append(number))
    monkeypatch.setattr(parallel, "join", lambda named: str(named[0]))
    monkeypatch.setattr(command, "_choose_device", lambda one, line: gpus.append(one))
    monkeypatch.setattr(command, "_choose_precision", mock.Mock(side_effect=caffe.CaffeError("far enough")))
    if launched:
        monkeypatch.setenv("WORLD_SIZE", "2")
    assert command.main(["train", "-solver", solver, "-gpu", gpu]) == (0 if started and not launched else 1)
    assert starts == ([started] if started and not launched else [])
    assert len(gpus) == (not starts)
    assert all(one.isdigit() for one in gpus)


def test_no_gpu_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parallel.torch.cuda, "device_count", lambda: 0)
    for words in (["train", "-solver", write_solver(tmp_path), "-gpu", "all"], ["device_query"], ["device_query", "-gpu", "all"]):
        assert command.main(words) == 1
        assert "PyTorch sees no CUDA device" in capsys.readouterr().err.splitlines()[-1]


def test_more_processes_than_gpus_named_is_one_line(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(caffe.CaffeError, match="-gpu names 1 GPUs, this is process 2 on this machine"):
        parallel.join([0])


def test_two_processes_with_nothing_to_learn(tmp_path):
    solver = write_solver(tmp_path, "display: 1 snapshot_after_train: false", FROZEN % "param { lr_mult: 0 }")
    launch = "from torchcaffe import parallel; import sys; parallel.start(sys.argv[1:], 2)"
    words = [sys.executable, "-m", "torchcaffe", "train", "-solver", solver]
    done = subprocess.run([sys.executable, "-c", launch, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Optimization Done." in done.stderr


# ------------------------------------------------------------ nothing process-wide
SIDE_EFFECTS = """
import os, resource, signal, sys
import numpy as np, torch
def state():
    return (torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
            [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)], dict(os.environ),
            torch.get_default_dtype(), torch.is_grad_enabled(), np.geterr(), os.getcwd())
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
torch.randn(8, 8) @ torch.randn(8, 8)
before = state()
import torchcaffe as caffe
caffe.set_precision("tf32"); caffe.set_precision("fp32")
small = caffe.Net(sys.argv[2], caffe.TRAIN)
small.forward(); small.backward()
rest = resident()
net = caffe.Net(sys.argv[1], caffe.TRAIN)
net.forward(); net.backward()
assert state() == before, (state(), before)
for _ in range(3):
    net.forward()
net.blobs["big"].data
peak = resident()
del net
import gc; gc.collect()
print(rest, peak, resident())
"""
BIG = """
layer { name: "d" type: "Input" top: "x" input_param { shape { dim: 1 dim: 64 dim: 700 dim: 700 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "big" convolution_param { num_output: 64 kernel_size: 1
  weight_filler { type: "xavier" } } }
layer { name: "r" type: "TanH" bottom: "big" top: "y" }
"""


def test_a_library_changes_nothing_of_the_process(tmp_path):
    """Arrays of 125 MB are given back to the system when they are freed: malloc stays as it is."""
    (tmp_path / "big").write_text(BIG)
    (tmp_path / "small").write_text(BIG.replace("700", "7"))
    done = subprocess.run([sys.executable, "-c", SIDE_EFFECTS, str(tmp_path / "big"), str(tmp_path / "small")],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rest, peak, after = map(float, done.stdout.split())
    assert peak > rest + 300  # MB
    assert after < rest + 60


# ------------------------------------------------------------ threads
@pytest.fixture
def used(monkeypatch):
    """Return a function that says what other processes used since the start of torchcaffe, 10 seconds ago."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_start", (100.0, 50.0))
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 4)

    def say(seconds, lapse=10.0):
        threads.free.cache_clear()
        monkeypatch.setattr(threads, "_used", lambda: (100.0 + lapse, 50.0 + seconds))
    yield say
    threads.free.cache_clear()


@pytest.mark.parametrize(("seconds", "left"), [(0, 4), (4, 4), (9, 3), (25, 2), (39, 1), (80, 1)])
def test_cores_that_others_use_are_left_to_them(used, seconds, left):
    used(seconds)
    assert threads.free() == left


def test_a_pass_takes_fewer_threads_and_puts_torchs_number_back(used, monkeypatch):
    import torch
    said = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: said[-1])
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    used(35)
    with threads.limited():
        assert said[-1] == 1
    assert said == [2, 1, 2]
    used(0)
    with threads.limited():
        assert said == [2, 1, 2]
    used(35, lapse=0.01)  # not long enough to know
    assert threads.free() is None
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    used(35)
    assert threads.free() is None


_FORK = """
import multiprocessing, sys
import numpy as np
import torch
torch.set_num_threads(2)
import torchcaffe as caffe
net = caffe.Net(sys.argv[1], caffe.TEST)
net.forward()
def work(i):
    again = caffe.Net(sys.argv[1], caffe.TEST)
    return float(net.forward()["y"].sum()), float(again.forward()["y"].sum()), torch.get_num_threads()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert [found[2] for found in pool.map_async(work, range(2)).get(60)] == [1, 1]
assert torch.get_num_threads() == 2
"""


def test_a_fork_of_a_process_with_threads_computes(tmp_path):
    """OpenMP would wait there for threads that a fork does not have."""
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 8 dim: 64 dim: 64 } } }\n'
        'layer { name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 32 kernel_size: 3 '
        'weight_filler { type: "gaussian" } } }')
    subprocess.run([sys.executable, "-c", _FORK, str(tmp_path / "net.prototxt")], check=True, timeout=90,
                   env={**os.environ, "OMP_NUM_THREADS": "2"})


def test_other_processes_are_counted_not_this_one():
    def all_used():
        with open("/proc/stat") as file:
            words = [int(word) for word in file.readline().split()[1:9]]
        return (sum(words) - words[3] - words[4]) / os.sysconf("SC_CLK_TCK")
    (_, before), everything, begin = threads._used(), all_used(), time.process_time()
    while time.process_time() - begin < 1:
        pass
    assert threads._used()[1] - before <= all_used() - everything - 0.9


# ------------------------------------------------------------ files
def test_files_reach_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    calls, flush, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("flush") or flush(handle))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("rename") or rename(*paths))
    snapshot.write_whole(str(tmp_path / "a.caffemodel"), b"x")
    assert calls == ["flush", "rename", "flush"]
    assert (tmp_path / "a.caffemodel").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["a.caffemodel"]


WRITER = """
import os, signal, sys
from torchcaffe import snapshot
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
snapshot.write_whole(sys.argv[1], b"x" * 1000)
"""


def test_what_a_killed_process_left_goes_with_the_next_file(tmp_path):
    path = str(tmp_path / "a.caffemodel")
    assert subprocess.run([sys.executable, "-c", WRITER, path], check=False).returncode == -9
    left, = os.listdir(tmp_path)
    assert left.startswith(".a.caffemodel.")
    busy = tmp_path / ".b.caffemodel.1.snapshot"
    busy.write_bytes(b"of a living writer")
    with open(busy, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        snapshot.write_whole(str(tmp_path / "c.caffemodel"), b"y")
    assert sorted(os.listdir(tmp_path)) == [busy.name, "c.caffemodel"]


def test_a_download_that_can_go_on_stays(tmp_path):
    """Weights are saved into the folder in which public ones are fetched, as `.NAME.part` until they are whole."""
    download = tmp_path / ".VGG_ILSVRC_16_layers.caffemodel.part"
    download.write_bytes(b"half of it")
    snapshot.write_whole(str(tmp_path / "c.caffemodel"), b"y")
    assert sorted(os.listdir(tmp_path)) == [download.name, "c.caffemodel"]


def test_weights_are_read_once(tmp_path, monkeypatch):
    solver = write_solver(tmp_path)
    net = caffe.get_solver(solver).net
    net.save(str(tmp_path / "w.caffemodel"))
    sizes, read = [], wire.Reader.content
    monkeypatch.setattr(wire.Reader, "content", lambda self, start, end: sizes.append(end - start) or read(self, start, end))
    write_solver(tmp_path, f'weights: "{tmp_path}/w.caffemodel" test_iter: 1 test_interval: 1')
    caffe.get_solver(solver)
    (largest,) = [blobs[0].data.nbytes for blobs in net.params.values()][:1]
    assert sum(size > largest for size in sizes) == 1


# ------------------------------------------------------------ labels
def make_loss(text='type: "SoftmaxWithLoss"', classes=3):
    layer = caffe.layers  # the package is loaded
    assert layer
    from google.protobuf import text_format
    param = text_format.Parse(f'name: "l" {text}', pb.LayerParameter())
    made = loss.SoftmaxWithLoss(param, caffe.TRAIN)
    made.top_shapes([(2, classes), (2,)])
    return made


def test_labels_on_a_gpu_are_checked_one_pass_later_without_waiting(monkeypatch):
    """What leaves a GPU is still on its way when the pass goes on."""
    import torch
    waited, layer = [], make_loss()
    monkeypatch.setattr(loss, "_fetched", lambda numbers: (numbers, lambda: waited.append(1)))

    class OnGPU(torch.Tensor):
        is_cuda = True
    labels = torch.tensor([[0], [7]]).as_subclass(OnGPU)
    index, _ = layer.labels(labels, 3, None)
    assert index.tolist() == [[0], [2]]  # no access outside of memory
    assert waited == []
    with pytest.raises(caffe.CaffeError, match=r"^layer 'l' \(SoftmaxWithLoss\): label 7 is outside 0..2$"):
        layer.labels(torch.zeros(2, 1).as_subclass(OnGPU), 3, None)
    assert waited == [1]
    layer.labels(labels, 3, 7)  # ignored
    layer.settle()


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "HingeLoss", "Accuracy", "InfogainLoss"])
@pytest.mark.parametrize("label", [-1, 3, 1e10, np.nan])
def test_labels_out_of_range_are_named(make_net, tmp_path, kind, label):
    (tmp_path / "h").write_bytes(pb.BlobProto(shape=pb.BlobShape(dim=[3, 3]), data=[1] * 9).SerializeToString())
    more = f'infogain_loss_param {{ source: "{tmp_path}/h" }}' if kind == "InfogainLoss" else ""
    net = make_net(f"""layer {{ name: "x" type: "Input" top: "x" top: "t"
        input_param {{ shape {{ dim: 2 dim: 3 }} shape {{ dim: 2 }} }} }}
      layer {{ name: "l" type: "{kind}" bottom: "x" bottom: "t" top: "l" {more} }}""")
    net.blobs["t"].data[...] = [0, label]
    with pytest.raises(caffe.CaffeError, match=r"^layer 'l' .*label -?\d+ is outside 0..2$"):
        net.forward()


# ------------------------------------------------------------ gradients that nobody computes
def test_a_gradient_that_stays_zero_is_said_once(make_net, capsys):
    text = ('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }'
            'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }')
    net = make_net(text)
    net.forward()
    net.blobs["y"].diff[...] = 1
    for _ in range(2):
        assert not net.backward(diffs=["y"])["x"].any()
    told = [line for line in capsys.readouterr().err.splitlines() if "force_backward" in line]
    assert len(told) == 1
    assert "blob 'x': its gradient stays zero" in told[0]
    net = make_net("force_backward: true " + text)
    net.params["ip"][0].data[...] = 1
    net.forward()
    net.blobs["y"].diff[...] = 1
    assert (net.backward()["x"] == 2).all()
    assert "force_backward" not in capsys.readouterr().err


def test_labels_need_no_gradient_and_nothing_is_said_of_them(make_net, capsys):
    net = make_net(FROZEN.replace('type: "DummyData"', 'type: "Input"').replace("dummy_data_param", "input_param") % "")
    net.forward()
    net.backward()
    assert [line.split("blob ")[1][:3] for line in capsys.readouterr().err.splitlines() if "force_backward" in line] == ["'x'"]


def test_hooks_are_arguments(tmp_path):
    asked = mock.Mock(side_effect=["none", "stop"])
    solver = caffe.get_solver(write_solver(tmp_path, "snapshot_after_train: false").replace("max_iter: 2", ""), requested=asked,
                              frugal=True)
    solver.step(9)
    assert solver.iter == 2
    assert context.solver_count() == 1

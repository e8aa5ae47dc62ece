"""Damaged files give one clear line or still work: never a traceback, never an endless run, never all of the memory.

The cases run in a process of its own with limits. FUZZ=10000 sets their number.
"""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("FUZZ") or 400)
SECONDS = 10          # for one case
MEMORY = 6 * 2**30    # address space, torch's libraries included
RESIDENT = 2 * 2**30  # memory in use, at most
SMALL = 2_000_000     # values of a net that is also run

NET = """name: "small"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 } } include { phase: TRAIN } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 1 group: 1 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" batch_norm_param { eps: 0.001 } }
layer { name: "scale" type: "Scale" bottom: "norm" top: "norm" scale_param { axis: 1 bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" relu_param { negative_slope: 0.1 } }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 pad: 0 } }
layer { name: "lrn" type: "LRN" bottom: "pool" top: "lrn" lrn_param { local_size: 3 alpha: 0.1 beta: 0.75 } }
layer { name: "cut" type: "Slice" bottom: "lrn" top: "a" top: "b" slice_param { axis: 1 slice_point: 2 } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" eltwise_param { operation: SUM coeff: 1 coeff: 0.5 } }
layer { name: "join" type: "Concat" bottom: "sum" bottom: "a" top: "join" concat_param { axis: 1 } }
layer { name: "flat" type: "Reshape" bottom: "join" top: "flat" reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "drop" type: "Dropout" bottom: "flat" top: "flat" dropout_param { dropout_ratio: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "t" top: "loss" loss_weight: 1 include { phase: TRAIN }
  loss_param { ignore_label: 255 normalization: VALID } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" include { phase: TEST } }
"""
OLD = """input: "x" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 2 kernel_size: 3 } }
layers { name: "p" type: POOLING bottom: "c" top: "p"
  pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 1 pad_w: 1 } }
layers { name: "i" type: INNER_PRODUCT bottom: "p" top: "i" inner_product_param { num_output: 3 } }
layers { name: "s" type: SOFTMAX bottom: "i" top: "s" }
"""
SOLVER = """net: "net.prototxt" test_iter: 1 test_interval: 2 base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 2 max_iter: 3
momentum: 0.9 weight_decay: 0.001 regularization_type: "L2" iter_size: 2 clip_gradients: 3 average_loss: 2 random_seed: 1
snapshot_prefix: "a" snapshot_after_train: false type: "SGD" delta: 1e-8
"""
DATA = """layer { name: "d" type: "Data" top: "x" top: "t" data_param { source: "lmdb" batch_size: 2 backend: LMDB }
transform_param { crop_size: 5 mirror: true mean_value: 3 scale: 0.5 } }"""
NUMBERS = ["0", "-1", "2", "7", "1000000", "2147483647", "4294967296", "-2147483648", "1e38", "nan", "0.5", "inf"]


def mutate_text(text, draw):
    """Change a text at a few places: numbers, words, braces, letters."""
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        tokens = re.findall(r'[\w.+-]+|"[^"]*"|\s+|.', text)
        i = draw.randrange(len(tokens))
        kind = draw.randrange(6)
        if kind <= 1:
            numbers = [k for k, token in enumerate(tokens) if re.match(r"-?[\d.]+$", token)] or [i]
            tokens[draw.choice(numbers)] = draw.choice(NUMBERS)
        elif kind == 2:
            tokens[i] = draw.choice(tokens)
        elif kind == 3:
            del tokens[i:i + draw.choice([1, 1, 2, 30])]
        elif kind == 4:
            tokens[i:i] = tokens[i:i + draw.randrange(30)]
        else:
            tokens[i] = "".join(chr(draw.randrange(1, 300)) for _ in range(3))
        text = "".join(tokens)
    return text or "x"


def mutate_bytes(data, draw):
    """Flip, cut, repeat or drop bytes."""
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5])):
        i = draw.randrange(len(data) or 1)
        j = i + draw.choice([1, 2, 8, 100])
        kind = draw.randrange(4)
        if kind == 0:
            data[i:i + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            del data[i:j]
        elif kind == 2:
            data[i:i] = data[i:j]
        else:
            data[i:j] = bytes(draw.randrange(256) for _ in range(j - i))
    return bytes(data)[:draw.choice([None, None, None, len(data) // 2])]


def use(net):
    """Run a net if it is small."""
    if sum(blob.count for blob in net.blobs.values()) < SMALL:
        net.forward()
        net.backward()


def cases(caffe, draw):
    """Yield (kind, damaged content, what to do with it) without end; the current folder has whole files."""
    model, state = Path("a_iter_0.caffemodel").read_bytes(), Path("a_iter_0.solverstate").read_bytes()
    datum = caffe.proto.caffe_pb2.Datum(channels=3, height=8, width=8, data=bytes(192), label=1).SerializeToString()
    while True:
        phase = draw.choice([caffe.TRAIN, caffe.TEST])
        yield "net", mutate_text(NET, draw), lambda path, phase=phase: use(caffe.Net(path, phase))
        yield "old", mutate_text(OLD, draw), lambda path: use(caffe.Net(path, caffe.TEST))
        yield "solver", mutate_text(SOLVER, draw), lambda path: step(caffe, path)
        yield "model", mutate_bytes(model, draw), lambda path: use(caffe.Net("net.prototxt", caffe.TRAIN, weights=path))
        yield "state", mutate_bytes(state, draw), lambda path: caffe.get_solver("solver.prototxt").restore(path)
        yield "datum", mutate_bytes(datum, draw), lambda path: read(caffe, path, DATA)
        yield "data", mutate_text(DATA, draw), lambda path: use(caffe.Net(path, caffe.TRAIN))


def step(caffe, path):
    solver = caffe.get_solver(path)
    if solver.param.iter_size < 100 and all(n < 100 for n in solver.param.test_iter):
        solver.step(2)


def read(caffe, path, text):
    """Make an LMDB of a record and read it."""
    write_lmdb("damaged", [Path(path).read_bytes()] * 2)
    Path("data.prototxt").write_text(text.replace("lmdb", "damaged"))
    use(caffe.Net("data.prototxt", caffe.TRAIN))


def write_lmdb(folder, values):
    import shutil

    import lmdb
    shutil.rmtree(folder, ignore_errors=True)
    with lmdb.open(folder, map_size=1 << 20) as database, database.begin(write=True) as transaction:
        for i, value in enumerate(values):
            transaction.put(b"%08d" % i, value)


def attempt(caffe, action, path):
    """Return None where all is well, else what happened."""
    try:
        signal.alarm(SECONDS)
        action(path)
    except caffe.CaffeError as error:
        return f"not one line: {error!r}" if "\n" in str(error) else None
    except BaseException as error:
        import traceback
        return f"{error!r}\n{traceback.format_exc(limit=-3)}"
    finally:
        signal.alarm(0)
    return None


def main(count, seed):
    """Run cases; print those that went wrong and the most memory in use, as JSON."""
    import torch

    import torchcaffe as caffe
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    def too_long(*_):
        raise TimeoutError(f"more than {SECONDS} s")
    signal.signal(signal.SIGALRM, too_long)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    write_lmdb("lmdb", [caffe.proto.caffe_pb2.Datum(channels=1, height=8, width=8, data=bytes(64)).SerializeToString()] * 3)
    caffe.get_solver("solver.prototxt").snapshot()
    wrong = []
    for number, (kind, content, action) in zip(range(count), cases(caffe, random.Random(seed))):
        path = Path(f"case.{kind}")
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        Path("last").write_text(f"{kind} {number}\n{content!r}")
        fault = attempt(caffe, action, str(path))
        if fault:
            wrong.append({"case": number, "kind": kind, "fault": fault, "content": repr(content)[:3000]})
    print(json.dumps([wrong, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def test_damaged_files(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOG_minloglevel": "3"}
    run = subprocess.run([sys.executable, __file__, str(COUNT), "1"], cwd=tmp_path, env=environment,
                         capture_output=True, text=True, check=False)  # fmt: skip
    if run.returncode:
        last = (tmp_path / "last").read_text()
        pytest.fail(f"the process ended with {run.returncode} on {last}\n{run.stderr[-2000:]}")
    wrong, resident = json.loads(run.stdout.splitlines()[-1])
    assert not wrong, f"{len(wrong)} of {COUNT}: {json.dumps(wrong[:3], indent=1)}"
    assert resident < RESIDENT


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

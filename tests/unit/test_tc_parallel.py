"""Several processes equal one with the larger batch; one that fails ends all, in one line."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from torchcaffe import parallel
from torchcaffe.errors import CaffeError
from torchcaffe.snapshot import read_weights

ROOT = Path(__file__).resolve().parents[2]
LOSS = re.compile(r"\] Iteration \d+ .*loss = (\S+)")
NET = """
layer {{ name: "data" type: "ImageData" top: "data" top: "label"
  transform_param {{ scale: 0.0078125 mean_value: 128 }} image_data_param {{ source: "{source}" batch_size: {batch} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param {{ num_output: 3
  weight_filler {{ type: "msra" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""
SOLVER = """net: "{net}" base_lr: 0.02 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.005 max_iter: 20 display: 1
snapshot: 20 snapshot_prefix: "{prefix}" random_seed: 3 clip_gradients: 2
"""


def write(folder, batch):
    """Write ten pictures (so that batches of four wrap around), a net and a solver; return the solver's path."""
    rng = np.random.RandomState(0)
    lines = []
    for i in range(10):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), rng.randint(0, 256, (12, 12, 3), np.uint8))
        lines.append(f"{path} {i % 3}\n")
    (folder / "list.txt").write_text("".join(lines))
    name = f"batch{batch}"
    (folder / f"{name}.prototxt").write_text(NET.format(source=folder / "list.txt", batch=batch))
    solver = folder / f"{name}_solver.prototxt"
    solver.write_text(SOLVER.format(net=folder / f"{name}.prototxt", prefix=folder / name))
    return solver


def words(solver, *more):
    return [sys.executable, "-m", "torchcaffe", "train", "-solver", str(solver), *more]


def result(folder, batch, err):
    weights = dict(read_weights(str(folder / f"batch{batch}_iter_20.caffemodel")))
    return [float(x) for x in LOSS.findall(err)], [a for name in ("conv", "fc") for a in weights[name]]


@pytest.mark.slow
def test_two_processes_equal_one_with_the_double_batch(tmp_path):
    one = subprocess.run(words(write(tmp_path, 4)), cwd=ROOT, capture_output=True, text=True, check=True)
    launch = "from torchcaffe import parallel; import sys; parallel.start(sys.argv[1:], 2)"
    two = subprocess.run([sys.executable, "-c", launch, *words(write(tmp_path, 2))], cwd=ROOT, capture_output=True, text=True,
                         check=True)
    (losses, weights), (found, shared) = result(tmp_path, 4, one.stderr), result(tmp_path, 2, two.stderr)
    assert len(losses) == 20  # one log, not two
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for a, b in zip(weights, shared):
        np.testing.assert_allclose(b, a, atol=1e-5 * np.abs(a).max())


@pytest.mark.slow
def test_several_processes_go_on_where_their_data_stopped(tmp_path):
    """Seven steps of two processes with batches of two are 28 of ten pictures: in the middle of a round."""
    solver, launch = write(tmp_path, 2), "from torchcaffe import parallel; import sys; parallel.start(sys.argv[1:], 2)"
    solver.write_text(solver.read_text().replace("snapshot: 20", "snapshot: 7"))

    def train(*more):
        run = subprocess.run([sys.executable, "-c", launch, *words(solver, "-resume_data", *more)], cwd=ROOT, capture_output=True,
                             text=True, check=True)
        return result(tmp_path, 2, run.stderr)
    losses, weights = train()
    found, reached = train("-snapshot", str(tmp_path / "batch2_iter_7.solverstate"))
    np.testing.assert_allclose(found, losses[7:], rtol=1e-5)
    for a, b in zip(weights, reached):
        np.testing.assert_allclose(b, a, atol=1e-5 * np.abs(a).max())


def test_a_rank_that_dies_ends_the_job_in_one_line():
    program = "import os, sys, time; sys.exit(7) if os.environ['RANK'] == '1' else time.sleep(60)"
    began = time.monotonic()
    with pytest.raises(CaffeError, match=r"^rank 1 of 3 ended with exit status 7; the others were stopped$"):
        parallel.start([sys.executable, "-c", program], 3)
    assert time.monotonic() - began < 20


def test_the_gpu_flag():
    assert parallel.devices("") == []
    assert parallel.devices("0,2") == [0, 2]
    with pytest.raises(CaffeError, match="-gpu is '0,x'"):
        parallel.devices("0,x")


def test_no_gpu_at_all_is_one_line(tmp_path):
    done = subprocess.run(words(write(tmp_path, 2), "-gpu", "all"), cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: -gpu all: PyTorch sees no CUDA device")

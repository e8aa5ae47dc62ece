"""Recordings of real Caffe for machines without it: `python -m tests.parity.record` writes tests/engine/recorded.npz anew.

Runs the cases of cases.py (layers, batches, trainings by the six solvers) and two commands `caffe train` whose logs are kept. All
inputs are made from fixed seeds by numpy, so that nothing but Caffe's results is stored: small layers whole, of batches every
fourth pixel, of trainings the losses, the weights at the end and how far Caffe's BLAS kernels part.
"""

import os
import re
import subprocess
import sys
import tempfile
from typing import Any, Dict, List

import numpy as np

from . import cases, live

FILE = os.path.join(live.ROOT, "tests", "engine", "recorded.npz")
MOST = 1000  # values of an array of a layer that is stored
KERNELS = live.kernels("SKYLAKEX", "NEHALEM", "SANDYBRIDGE")
DATA = [name for name in cases.DATA if "jpeg" not in name and "files" not in name]  # JPEG differs with OpenCV's version
NET = cases.NET.replace('layer {{ name: "data" type: "Input" top: "data" include {{ phase: TEST }}\n  input_param {{ shape {{ '
                        'dim: 4 dim: 3 dim: 16 dim: 16 }} }} }}\n',
                        'layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}\n'
                        '  transform_param {{ mean_value: 115 scale: 0.02 {transform} }}\n'
                        '  data_param {{ source: "{source}" batch_size: 6 backend: LMDB }} }}\n').replace(
    ' include {{ phase: TRAIN }} }}\nlayer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" include {{ phase: TEST }} }}',
    ' }}\nlayer {{ name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include {{ phase: TEST }} }}')
LOGS = {  # solver fields
    "average": 'type: "SGD" base_lr: 0.05 momentum: 0.9 weight_decay: 0.002 lr_policy: "step" gamma: 0.5 stepsize: 5 '
               "max_iter: 12 display: 1 average_loss: 3 iter_size: 2 test_iter: 3 test_interval: 4 test_compute_loss: true "
               "snapshot: 6",
    "debug": 'type: "Nesterov" base_lr: 0.02 momentum: 0.9 weight_decay: 0.002 lr_policy: "multistep" gamma: 0.1 stepvalue: 2 '
             "max_iter: 5 display: 2 debug_info: true clip_gradients: 0.05 test_iter: 2 test_interval: 4 "
             "test_initialization: false"}
KEPT = re.compile(r"^(Iteration|Snapshotting|Gradient clipping|MultiStep|Solving|Learning Rate Policy|Optimization Done|"
                  r"Test loss|    Train net|    Test net|    \[(Forward|Backward|Update)\])")


def write_log_case(folder: str, name: str) -> List[str]:
    """Write net and solver of a recorded command; return its words."""
    net = live._write(os.path.join(folder, f"log_{name}_net.prototxt"),
                      NET.format(source=os.path.join(folder, "lmdb"), transform="crop_size: 16"))
    solver = live._write(os.path.join(folder, f"log_{name}.prototxt"),
                         f'net: "{net}" {LOGS[name]} random_seed: 5 solver_mode: CPU snapshot_prefix: "{folder}/log_{name}"\n')
    return ["train", "-solver", solver, "-weights", os.path.join(folder, "start.caffemodel")]


def kept_lines(log: str, folder: str) -> List[str]:
    """Return what a log says of the training, without times and the folder's name."""
    lines = (line.split("] ", 1)[1] for line in log.splitlines() if re.match(r"[IWE]\d{4} ", line) and "] " in line)
    return [re.sub(r" \([^()]*iters\)", "", line).replace(folder, "FOLDER") for line in lines if KEPT.match(line)]


def small(results: live.Arrays) -> live.Arrays:
    """Return what is stored of layers, batches and trainings."""
    found: live.Arrays = {}
    for key, array in results.items():
        kind, name = key.split("/")[:2]
        if kind == "train" or (kind == "layer" and array.size <= MOST):
            found[key] = array.astype(np.float32) if kind == "layer" else array
        if kind == "data" and name in DATA:
            found[key] = array[:, :, ::4, ::4] if array.ndim == 4 else array
    return found


def main() -> None:
    python = os.environ.get("SKIN_CAFFE") or os.path.join(live.ROOT, ".caffe", "bin", "python3")
    with tempfile.TemporaryDirectory() as folder:
        live.prepare(folder)
        stored: Dict[str, Any] = small(live.run_caffe(python, folder, None, "first"))
        for kernel in KERNELS:
            again = live.run_caffe(python, folder, kernel, "trainings")
            for key in [key for key in stored if key.startswith("train/")]:
                spread = live.error(again[key], stored[key])
                stored["spread/" + key] = max(spread, stored.get("spread/" + key, 0.0))
        for name in LOGS:
            words = [os.path.join(os.path.dirname(python), "caffe"), *write_log_case(folder, name)]
            env = {**live.environment(), "GLOG_minloglevel": "0"}
            done = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, check=True)
            stored[f"log/{name}"] = np.array("\n".join(kept_lines(done.stderr, folder)))
    np.savez_compressed(FILE, **stored)
    print(f"{FILE}: {len(stored)} arrays, {os.path.getsize(FILE)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()

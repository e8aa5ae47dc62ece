"""Time the full VGG-GAP in real Caffe, torchcaffe and a hand-written PyTorch loop, step by step in turn; print and store ratios.

Each side is a process of its own; while one runs a step the others wait. Ratios are of medians. Real Caffe runs with the
OPENBLAS_CORETYPE that is fastest here. On a GPU there is no Caffe; the share of the rate of a matrix product is printed instead.

example: python benchmarks/speed.py --rounds 7 --json benchmarks/results/speed.json
         python benchmarks/speed.py --gpu --batch 128 --json benchmarks/results/speed_gpu.json
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.parity import live  # noqa: E402

CASES = {"fine-tuning, batch 8": ("finetune", 8), "all layers, batch 4": ("all", 4), "forward, batch 8": ("forward", 8)}
BOUNDS = {"fine-tuning, batch 8": (1.5, 3.0), "all layers, batch 4": (1.6, 3.0), "forward, batch 8": (1.9, 3.5)}
GFLOP = {"finetune": 37.4, "all": 94.0, "forward": 31.4}  # a picture (docs/performance.md, Floors)
CUBE = 8192  # side of the matrices whose product is the measure of a GPU
KERNELS = live.kernels("Haswell", "SKYLAKEX")  # Zen and Cooperlake are slower than both on the machines tried
SOLVER = ('net: "{}" base_lr: 0.0001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 '
          'max_iter: 1 display: 1 snapshot_after_train: false\n')
INPUT = """layer {{ name: "data" type: "Input" top: "data" top: "label" input_param {{
  shape {{ dim: {0} dim: 3 dim: 224 dim: 224 }} shape {{ dim: {0} }} }} }}
"""

PAUSE = 0.1  # seconds between two turns


class Side:
    """A process that runs steps when told to."""

    def __init__(self, python: str, words: List[str], **environment: str) -> None:
        command = [python, str(ROOT / "benchmarks/side.py"), *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT)
        self.step()  # the first one sets up

    def step(self) -> float:
        """Run a step; return its seconds.

        It waits a little first: the threads of a side of PyTorch still spin for some milliseconds after their turn, and would
        slow the next one down; Caffe's sleep at once.
        """
        time.sleep(PAUSE)
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self) -> float:
        """End the process; return the largest memory it had, MB."""
        return float(self.process.communicate()[0])


def write_text(folder: Path, mode: str, batch: int) -> str:
    """Write the prototxt of a mode, its data an Input layer; return its path."""
    if mode == "forward":
        return str(ROOT / "prototxt/vgg_gap_deploy.prototxt")
    source = ROOT / "prototxt" / f"vgg_gap_{'' if mode == 'finetune' else 'scratch_'}train_val.prototxt"
    text = source.read_text()
    net, solver = folder / f"{mode}.prototxt", folder / f"{mode}_solver.prototxt"
    net.write_text('name: "VGG_GAP"\n' + INPUT.format(batch) + text[text.index('layer {\n  name: "conv1_1"'):])
    solver.write_text(SOLVER.format(net))
    return str(solver)


def time_case(case: str, rounds: int, caffe: str, kinds: Sequence[str], batch: int, flags: List[str]) -> Dict[str, Any]:
    """Return the medians and memory of each side of a case."""
    mode = CASES[case][0]
    with tempfile.TemporaryDirectory() as name:
        common = [mode, "--batch", str(batch), "--text", write_text(Path(name), mode, batch), *flags]
        sides = {f"{side} {kind}": Side(sys.executable, [side, *common, "--precision", kind])
                 for kind in kinds for side in ("torchcaffe", "hand")}
        if caffe:
            sides.update({f"caffe {kernel}": Side(caffe, ["caffe", *common], OPENBLAS_CORETYPE=kernel) for kernel in KERNELS})
        seconds: Dict[str, List[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, process in sides.items():
                seconds[side].append(process.step())
        medians = {side: statistics.median(values) for side, values in seconds.items()}
        memory = {side: process.end() for side, process in sides.items()}
        return {"batch": batch, "seconds": medians, "all seconds": seconds, "peak MB": memory}


def add_ratios(case: str, found: Dict[str, Any], kinds: Sequence[str], peaks: Dict[str, float]) -> None:
    """Add and print what the case must show."""
    medians, memory = found["seconds"], found["peak MB"]
    best = min((t for side, t in medians.items() if side.startswith("caffe")), default=None)
    found["ratios"] = {}
    print(f"\n{case}, {found['batch']} pictures: " + ", ".join(f"{side} {t:.3f} s" for side, t in medians.items()))
    for kind in kinds:
        mine, hand = medians[f"torchcaffe {kind}"], medians[f"hand {kind}"]
        ratios = {"torchcaffe / hand": mine / hand, "memory / hand": memory[f"torchcaffe {kind}"] / memory[f"hand {kind}"]}
        if best is not None:
            ratios[f"Caffe / torchcaffe (must be >= {BOUNDS[case][kind == 'bf16']})"] = best / mine
        if peaks:
            rate = GFLOP[CASES[case][0]] * found["batch"] / mine / 1000
            ratios["share of the matrix product's rate (must be >= 0.45)"] = rate / peaks[kind]
        found["ratios"][kind] = ratios
        print(f"  {kind}: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))


def matrix_rate(kind: str) -> float:
    """Return the TFLOP/s of a product of two CUBE x CUBE matrices on the GPU."""
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    a = torch.randn(CUBE, CUBE, device="cuda", dtype=torch.bfloat16 if kind == "bf16" else torch.float32)
    seconds = []
    for _ in range(12):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ a
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * CUBE ** 3 / statistics.median(seconds) / 1e12


def about() -> Dict[str, str]:
    """Return versions, machine and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    known = dict(re.findall(r"(?m)^(model name|cpu family|model)\s*: (.*)$", Path("/proc/cpuinfo").read_text()))
    cpu = ", ".join(f"{name} {value}" for name, value in known.items())
    return {"commit": commit, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "cpu": cpu or platform.processor(), "cores": str(os.cpu_count()),
            "load before": "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--caffe", type=Path, default=ROOT / ".caffe/bin/python3", help="Python that imports real Caffe")
    parser.add_argument("--gpu", action="store_true", help="time on the GPU, without real Caffe")
    parser.add_argument("--batch", type=int, help="pictures a step, in place of each case's own")
    parser.add_argument("--cpu-time", action="store_true",
                        help="one thread and its processor seconds: ratios that hold on a machine that others use")
    parser.add_argument("--json", type=Path, help="store all numbers there")
    args = parser.parse_args()
    caffe = str(args.caffe) if args.caffe.is_file() and not args.gpu else ""
    flags = [f"--{name.replace('_', '-')}" for name in ("gpu", "cpu_time") if getattr(args, name)]
    if args.cpu_time:
        os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    result: Dict[str, Any] = {"about": {**about(), "clock": "cpu, 1 thread" if args.cpu_time else "wall"}, "cases": {}}
    kinds = ("fp32", "tf32", "bf16") if args.gpu else ("fp32", "bf16")
    peaks = result["matrix product, TFLOP/s"] = {kind: matrix_rate(kind) for kind in kinds} if args.gpu else {}
    for case in args.cases:
        found = result["cases"][case] = time_case(case, args.rounds, caffe, kinds, args.batch or CASES[case][1], flags)
        add_ratios(case, found, kinds, peaks)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

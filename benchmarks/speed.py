"""Time the full VGG-GAP in real Caffe, torchcaffe and a hand-written PyTorch loop, step by step in turn; print and store ratios.

Each side is a process of its own; while one runs a step the others wait. Ratios are of medians. Real Caffe runs with the
OPENBLAS_CORETYPE that is fastest here.

example: python benchmarks/speed.py --rounds 7 --json benchmarks/results/speed.json
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
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
CASES = {"fine-tuning, batch 8": ("finetune", 8), "all layers, batch 4": ("all", 4), "forward, batch 8": ("forward", 8)}
BOUNDS = {"fine-tuning, batch 8": (1.5, 3.0), "all layers, batch 4": (1.6, 3.0), "forward, batch 8": (1.9, 3.5)}
KERNELS = ("Haswell", "SKYLAKEX")  # Zen and Cooperlake are slower than both on the machines tried
SOLVER = ('net: "{}" base_lr: 0.0001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 '
          'max_iter: 1 display: 1 snapshot_after_train: false\n')
INPUT = """layer {{ name: "data" type: "Input" top: "data" top: "label" input_param {{
  shape {{ dim: {0} dim: 3 dim: 224 dim: 224 }} shape {{ dim: {0} }} }} }}
"""


class Side:
    """A process that runs steps when told to."""

    def __init__(self, python: str, words: List[str], **environment: str) -> None:
        command = [python, str(ROOT / "benchmarks/side.py"), *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT)
        self.step()  # the first one sets up

    def step(self) -> float:
        """Run a step; return its seconds."""
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


def time_case(case: str, rounds: int, caffe: str, flags: List[str]) -> Dict[str, Any]:
    """Return the medians and memory of each side of a case."""
    mode, batch = CASES[case]
    with tempfile.TemporaryDirectory() as name:
        common = [mode, "--batch", str(batch), "--text", write_text(Path(name), mode, batch), *flags]
        sides = {f"{side} {kind}": Side(sys.executable, [side, *common, "--precision", kind])
                 for kind in ("fp32", "bf16") for side in ("torchcaffe", "hand")}
        if caffe:
            sides.update({f"caffe {kernel}": Side(caffe, ["caffe", *common], OPENBLAS_CORETYPE=kernel) for kernel in KERNELS})
        seconds: Dict[str, List[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, process in sides.items():
                seconds[side].append(process.step())
        medians = {side: statistics.median(values) for side, values in seconds.items()}
        return {"seconds": medians, "all seconds": seconds, "peak MB": {side: p.end() for side, p in sides.items()}}


def add_ratios(case: str, found: Dict[str, Any]) -> None:
    """Add and print what the case must show."""
    medians, memory = found["seconds"], found["peak MB"]
    best = min((t for side, t in medians.items() if side.startswith("caffe")), default=float("nan"))
    found["ratios"] = {}
    print(f"\n{case}: " + ", ".join(f"{side} {t:.3f} s" for side, t in medians.items()))
    for kind, bound in zip(("fp32", "bf16"), BOUNDS[case]):
        mine, hand = medians[f"torchcaffe {kind}"], medians[f"hand {kind}"]
        share = memory[f"torchcaffe {kind}"] / memory[f"hand {kind}"]
        found["ratios"][kind] = {"caffe / torchcaffe": best / mine, "torchcaffe / hand": mine / hand, "memory / hand": share}
        print(f"  {kind}: Caffe / torchcaffe {best / mine:.2f} (must be >= {bound}), torchcaffe / hand {mine / hand:.3f} "
              f"(must be <= 1.05), peak memory / hand {share:.2f}")


def about() -> Dict[str, str]:
    """Return versions, machine and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {"commit": commit, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "cpu": cpu.group(1) if cpu else platform.processor(), "cores": str(os.cpu_count()),
            "load before": "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--caffe", type=Path, default=ROOT / ".caffe/bin/python3", help="Python that imports real Caffe")
    parser.add_argument("--gpu", action="store_true", help="time on the GPU, without real Caffe")
    parser.add_argument("--cpu-time", action="store_true",
                        help="one thread and its processor seconds: ratios that hold on a machine that others use")
    parser.add_argument("--json", type=Path, help="store all numbers there")
    args = parser.parse_args()
    caffe = str(args.caffe) if args.caffe.is_file() and not args.gpu else ""
    flags = [f"--{name.replace('_', '-')}" for name in ("gpu", "cpu_time") if getattr(args, name)]
    if args.cpu_time:
        os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    result: Dict[str, Any] = {"about": {**about(), "clock": "cpu, 1 thread" if args.cpu_time else "wall"}, "cases": {}}
    for case in args.cases:
        result["cases"][case] = time_case(case, args.rounds, caffe, flags)
        add_ratios(case, result["cases"][case])
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

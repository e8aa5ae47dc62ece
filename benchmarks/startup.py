"""Time from the command to the first iteration's line: `torchcaffe train` on the full VGG-GAP with weights loaded.

example: python benchmarks/startup.py --json benchmarks/results/startup.json
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Tuple

from speed import ROOT, about, write_text

MAKE = "import sys, torchcaffe as c; c.get_solver(sys.argv[1]).net.save(sys.argv[2])"


def first_iteration(solver: str, weights: Path) -> Tuple[float, float]:
    """Return the wall and processor seconds from the start of the command to the end of its first iteration."""
    words = [sys.executable, "-m", "torchcaffe", "train", "-solver", solver, "-weights", str(weights)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, cwd=ROOT, check=True, stderr=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="store the numbers there")
    args = parser.parse_args()
    result: Dict[str, Any] = {"about": about()}
    with tempfile.TemporaryDirectory() as name:
        solver, weights = write_text(Path(name), "finetune", 8), Path(name) / "weights.caffemodel"
        subprocess.run([sys.executable, "-c", MAKE, solver, str(weights)], cwd=ROOT, check=True, stderr=subprocess.PIPE,
                       env={**os.environ, "GLOG_minloglevel": "2"})
        times = [first_iteration(solver, weights) for _ in range(args.rounds)]
    result["wall seconds"], result["cpu seconds"] = (sorted(t) for t in zip(*times))
    wall, busy = (result[kind][len(times) // 2] for kind in ("wall seconds", "cpu seconds"))
    print(f"one iteration of batch 8 and the end included: {wall:.1f} s (must be <= 6), {busy:.1f} s of processor time")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

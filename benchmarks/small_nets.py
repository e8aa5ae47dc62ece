"""Time a step of the narrow VGG-GAP at small batches: as Caffe adds, as oneDNN adds, in real Caffe, in turn; print ratios.

Layers of up to SMALL multiply-adds add in the order of Caffe's BLAS (docs/parity.md); with one picture all of this net do.

example: python benchmarks/small_nets.py --rounds 15
"""
import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict

from speed import INPUT, ROOT, SOLVER, Side, about

sys.path.insert(0, str(ROOT))


def write_text(folder: Path, batch: int) -> str:
    """Write the net with an Input layer, and its solver; return the solver's path."""
    text = (ROOT / "prototxt/vgg_gap_narrow_train_val.prototxt").read_text()
    net, solver = folder / f"net_{batch}.prototxt", folder / f"solver_{batch}.prototxt"
    net.write_text('name: "narrow"\n' + INPUT.format(batch) + text[text.index('layer {\n  name: "conv1_1"'):])
    solver.write_text(SOLVER.format(net))
    return str(solver)


def time_batch(solver: str, batch: int, caffe: Path, rounds: int) -> Dict[str, float]:
    """Return the median seconds of a step for each side."""
    import torchcaffe
    from torchcaffe.layers import small
    ours, limits = torchcaffe.get_solver(solver), {"as Caffe adds": small.SMALL, "as oneDNN adds": 0}
    theirs = Side(str(caffe), ["caffe", "all", "--batch", str(batch), "--text", solver], OPENBLAS_CORETYPE="HASWELL")
    seconds: Dict[str, Any] = {name: [] for name in (*limits, "Caffe")}
    for _ in range(rounds):
        for name, small.SMALL in limits.items():
            ours.step(1)  # lays the weights as this way wants them
            seconds[name].append(timed(ours))
        seconds["Caffe"].append(theirs.step())
    theirs.end()
    small.SMALL = limits["as Caffe adds"]
    return {name: statistics.median(values) for name, values in seconds.items()}


def timed(solver: Any) -> float:
    """Return the seconds of a step."""
    start = time.perf_counter()
    solver.step(1)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 8, 32])
    parser.add_argument("--caffe", type=Path, default=ROOT / ".caffe/bin/python3", help="Python that imports real Caffe")
    parser.add_argument("--json", type=Path, help="store all numbers there")
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in args.batches:
            row = rows[batch] = time_batch(write_text(Path(folder), batch), batch, args.caffe, args.rounds)
            exact, fast, theirs = row.values()
            times = ", ".join(f"{name} {1000 * t:.1f} ms" for name, t in row.items())
            print(f"batch {batch}: {times}; as Caffe / as oneDNN {exact / fast:.2f}, Caffe / torchcaffe {theirs / exact:.2f}",
                  flush=True)
    if args.json:
        args.json.write_text(json.dumps({"about": about(), "seconds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Train the full-width network a few iterations with both engines from the same weights and compare the losses.

No dropout and no random transform, so the losses must agree, as far as Caffe agrees with itself: a third run is Caffe with
another BLAS kernel. Prints a table and, with --json, stores it.

example: python benchmarks/full_width.py --lmdb build/lmdb/stage1_train --caffe .caffe/bin --iterations 20
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[1]
LOSS = re.compile(r"\] +Train net output #\d+: loss = (\S+)")
OTHER = "NEHALEM"  # an OpenBLAS kernel that adds in another order
DROPOUT = re.compile(r'layer \{\n  name: "CAM_dropout".*?\n\}\n', re.DOTALL)
SOLVER = """net: "{net}"
train_state {{ stage: "stage1" }}
max_iter: {iterations}
base_lr: 0.0001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005
display: 1 snapshot: {iterations} snapshot_prefix: "{prefix}" snapshot_after_train: true
random_seed: 1 solver_mode: CPU
"""


def write_texts(folder: Path, lmdb: Path, batch: int, iterations: int) -> None:
    net = (ROOT / "prototxt/vgg_gap_scratch_train_val.prototxt").read_text()
    net = DROPOUT.sub("", net).replace("build/lmdb/stage1_train", str(lmdb.resolve()))
    net = re.sub(r"batch_size: 32", f"batch_size: {batch}", net)
    (folder / "net.prototxt").write_text(net)
    for engine in ("torchcaffe", "caffe"):
        text = SOLVER.format(net=folder / "net.prototxt", iterations=iterations, prefix=folder / engine)
        (folder / f"{engine}.prototxt").write_text(text)


def make_weights(folder: Path) -> None:
    code = (f"import torchcaffe as c; c.set_random_seed(1); n = c.Net('{folder}/net.prototxt', c.TRAIN, stages=['stage1']); "
            f"n.save('{folder}/start.caffemodel')")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "GLOG_minloglevel": "2"})


def losses(words: List[str], solver: Path, **environment: str) -> List[float]:
    done = subprocess.run([*words, "train", "-solver", str(solver), "-weights", str(solver.parent / "start.caffemodel")],
                          cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return [float(value) for value in LOSS.findall(done.stderr)]


def print_table(caffe: List[float], mine: List[float], other: List[float]) -> None:
    gaps, noise = ([abs(a - b) / abs(b) for a, b in zip(values, caffe)] for values in (mine, other))
    print("iteration  Caffe      torchcaffe  relative difference  Caffe with another kernel")
    for i, row in enumerate(zip(caffe, mine, gaps, noise)):
        print("{:9}  {:<9.6g}  {:<10.6g}  {:<19.1e}  {:.1e}".format(i, *row))
    print(f"largest in the first ten: torchcaffe {max(gaps[:10]):.1e}, Caffe with another kernel {max(noise[:10]):.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lmdb", type=Path, required=True, help="training LMDB")
    parser.add_argument("--caffe", type=Path, default=ROOT / ".caffe/bin", help="folder with real Caffe's program")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--json", type=Path, help="store the losses there")
    args = parser.parse_args()
    found: Dict[str, List[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder, args.lmdb, args.batch, args.iterations)
        make_weights(folder)
        found["torchcaffe"] = losses([sys.executable, "-m", "torchcaffe"], folder / "torchcaffe.prototxt")
        found["caffe"] = losses([str(args.caffe / "caffe")], folder / "caffe.prototxt")
        found["caffe, other kernel"] = losses([str(args.caffe / "caffe")], folder / "caffe.prototxt", OPENBLAS_CORETYPE=OTHER)
    print_table(found["caffe"], found["torchcaffe"], found["caffe, other kernel"])
    if args.json:
        args.json.write_text(json.dumps({**found, "batch": args.batch}, indent=1) + "\n")


if __name__ == "__main__":
    main()

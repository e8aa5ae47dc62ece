"""Train the full-width network a few iterations with both engines from the same weights and compare the losses.

Three cases: from scratch; stage 1 of the paper (fine-tuning, conv1 to conv4 frozen) with the solver's own rates, from weights
that torchcaffe trained a little before; the same from VGG-16's weights (--weights), with CAM_conv and CAM_fc3 drawn. No dropout
and no random transform, so the losses must agree, as far as Caffe agrees with itself: a third run is Caffe with another BLAS
kernel, a fourth Caffe from weights changed by a millionth, as much as convolutions of the two engines differ. Where a rectifier's
input is next to 0, that decides a gradient. Prints a table; --out writes it to a Markdown file.

example: python benchmarks/full_width.py --case finetune --lmdb build/lmdb/stage1_train --caffe .caffe/bin --iterations 20
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

import numpy as np

from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[1]
LOSS = re.compile(r"\] +Train net output #\d+: loss = (\S+)")
KERNEL, OTHER = "HASWELL", "NEHALEM"  # OpenBLAS kernels that add in different orders; Debian's knows no newer processor by itself
NUDGE = 1e-6
DROPOUT = re.compile(r'layer \{\n  name: "CAM_dropout".*?\n\}\n', re.DOTALL)
CASES = {"scratch": ("vgg_gap_scratch_train_val", "base_lr: 0.0001"),
         "finetune": ("vgg_gap_train_val", "base_lr: 0.001"),
         "vgg16": ("vgg16_gap_train_val", "base_lr: 0.001")}
SOLVER = """net: "{net}"
train_state {{ stage: "stage1" }}
max_iter: {iterations}
{rate} lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005
display: 1 snapshot: {iterations} snapshot_prefix: "{prefix}" snapshot_after_train: true
random_seed: 1 solver_mode: CPU
"""


def write_texts(folder: Path, case: str, args: argparse.Namespace) -> None:
    """Write the net of a case and one solver an engine, as snapshots go beside each other."""
    name, rate = CASES[case]
    net = DROPOUT.sub("", (ROOT / f"prototxt/{name}.prototxt").read_text())
    net = net.replace("build/lmdb/stage1_train", str(args.lmdb.resolve()))
    path = folder / f"{case}.prototxt"
    path.write_text(re.sub(r"batch_size: 32", f"batch_size: {args.batch}", net))
    iterations = args.iterations if case == args.case else args.warm_up
    for engine in ("torchcaffe", "caffe"):
        (folder / f"{case}_{engine}.prototxt").write_text(
            SOLVER.format(net=path, iterations=iterations, rate=rate, prefix=folder / f"{case}_{engine}"))


def make_weights(folder: Path, args: argparse.Namespace) -> Path:
    """Return the weights to start from: drawn by the fillers, or a file's; for fine-tuning trained a little."""
    drawn, case = folder / "start.caffemodel", "vgg16" if args.weights else "scratch"
    code = (f"import torchcaffe as c; c.set_random_seed(1); n = c.Net('{folder}/{case}.prototxt', c.TRAIN, stages=['stage1']); "
            f"{f'n.copy_from({str(args.weights)!r}); ' if args.weights else ''}n.save('{drawn}')")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "GLOG_minloglevel": "2"})
    if args.case != "finetune":
        return drawn
    losses([sys.executable, "-m", "torchcaffe"], folder / "scratch_torchcaffe.prototxt", drawn)
    return folder / f"scratch_torchcaffe_iter_{args.warm_up}.caffemodel"


def nudge(weights: Path) -> Path:
    """Write weights that differ by a millionth, drawn for each value, and return their path."""
    net, random = caffe_pb2.NetParameter.FromString(weights.read_bytes()), np.random.default_rng(1)
    for layer in net.layer:
        for blob in layer.blobs:
            values = np.array(blob.data, np.float32)
            blob.ClearField("data")
            blob.data.extend((values * (1 + NUDGE * random.standard_normal(values.shape))).astype(np.float32))
    path = weights.with_name("nudged.caffemodel")
    path.write_bytes(net.SerializeToString())
    return path


def losses(words: List[str], solver: Path, weights: Path, **environment: str) -> List[float]:
    """Train with a command line and return the losses that it prints."""
    done = subprocess.run([*words, "train", "-solver", str(solver), "-weights", str(weights)],
                          cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, "GLOG_minloglevel": "0", **environment})
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return [float(value) for value in LOSS.findall(done.stderr)]


def table(caffe: List[float], mine: List[float], other: List[float], nudged: List[float]) -> str:
    """Return the losses side by side, with differences relative to the loss, or to 0.001 where it is smaller."""
    gaps = [[abs(a - b) / max(abs(b), 0.001) for a, b in zip(values, caffe)] for values in (mine, other, nudged)]
    names = ("iteration", "Caffe", "torchcaffe", "relative difference", "Caffe, another kernel",
             "Caffe, other weights by a millionth")
    lines = [f"| {' | '.join(names)} |", "| --- " * len(names) + "|"]
    for i, row in enumerate(zip(caffe, mine, *gaps)):
        lines.append("| {} | {:.6g} | {:.6g} | {:.1e} | {:.1e} | {:.1e} |".format(i, *row))
    first, middle = ([max(gap[:10]) for gap in gaps], [statistics.median(gap) for gap in gaps])
    says = "torchcaffe {:.1e}, Caffe with another kernel {:.1e}, with changed weights {:.1e}"
    return "\n".join([*lines, "", f"Largest in the first ten: {says.format(*first)}.",
                      f"Medians of all: {says.format(*middle)}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=sorted(CASES), default="finetune")
    parser.add_argument("--lmdb", type=Path, required=True, help="training LMDB")
    parser.add_argument("--caffe", type=Path, default=ROOT / ".caffe/bin", help="folder with real Caffe's program")
    parser.add_argument("--weights", type=Path, help="VGG-16's caffemodel, for the case vgg16")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=20, help="iterations from scratch before fine-tuning")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    args = parser.parse_args()
    if (args.case == "vgg16") != bool(args.weights):
        parser.error("the case vgg16 needs --weights, and no other takes it")
    found: Dict[str, List[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in CASES:
            write_texts(folder, case, args)
        start, caffe = make_weights(folder, args), [str(args.caffe / "caffe")]
        found["torchcaffe"] = losses([sys.executable, "-m", "torchcaffe"], folder / f"{args.case}_torchcaffe.prototxt", start)
        found["caffe"] = losses(caffe, folder / f"{args.case}_caffe.prototxt", start, OPENBLAS_CORETYPE=KERNEL)
        found["other"] = losses(caffe, folder / f"{args.case}_caffe.prototxt", start, OPENBLAS_CORETYPE=OTHER)
        found["nudged"] = losses(caffe, folder / f"{args.case}_caffe.prototxt", nudge(start), OPENBLAS_CORETYPE=KERNEL)
    text = table(found["caffe"], found["torchcaffe"], found["other"], found["nudged"])
    print(text)
    if args.out:
        starts = {"finetune": f", after {args.warm_up} iterations from scratch", "vgg16": ", from VGG-16's weights"}
        args.out.write_text(f"Case `{args.case}`, batch {args.batch}{starts.get(args.case, '')}:\n\n{text}")


if __name__ == "__main__":
    main()

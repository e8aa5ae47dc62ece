"""Time classic small nets in torchcaffe, a hand-written PyTorch loop and real Caffe, in turn; print ratios.

LeNet, CIFAR-10 quick, the narrow VGG-GAP and a ResNet-20: a training step (`solver.step`) of a batch that is there or, as in
`torchcaffe train`, read from an LMDB, and a forward pass. Each side is a process of its own; while one runs, the others wait.
Ratios are medians of those of single rounds, so that other work on the machine meets all sides alike. With one thread, times
are processor seconds.

example: python benchmarks/small_nets.py --rounds 15 --json benchmarks/results/small_nets_zen4.json
"""
import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
from speed import KERNELS, ROOT, SOLVER, Side, about

from data_tools import lmdb_io
from torchcaffe import layers as L
from torchcaffe import net_spec
from torchcaffe import params as P

MODES = ["all", "lmdb", "forward"]
MSRA = {"type": "msra"}


def lenet(n: Any) -> Any:
    """Return the scores of LeNet as examples/mnist has it."""
    for i, width in ((1, 20), (2, 50)):
        bottom = n.data if i == 1 else n.pool1
        n[f"conv{i}"] = L.Convolution(bottom, num_output=width, kernel_size=5, weight_filler=MSRA)
        n[f"pool{i}"] = L.Pooling(n[f"conv{i}"], pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.ip1 = L.InnerProduct(n.pool2, num_output=500, weight_filler=MSRA)
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    return L.InnerProduct(n.relu1, num_output=10, weight_filler=MSRA)


def cifar_quick(n: Any) -> Any:
    """Return the scores of CIFAR-10 quick as examples/cifar10 has it."""
    def conv(bottom: Any, width: int) -> Any:
        return L.Convolution(bottom, num_output=width, pad=2, kernel_size=5, weight_filler=MSRA)

    def pool(bottom: Any, kind: int) -> Any:
        return L.Pooling(bottom, pool=kind, kernel_size=3, stride=2)
    n.conv1 = conv(n.data, 32)
    n.relu1 = L.ReLU(pool(n.conv1, P.Pooling.MAX), in_place=True)
    n.relu2 = L.ReLU(conv(n.relu1, 32), in_place=True)
    n.relu3 = L.ReLU(conv(pool(n.relu2, P.Pooling.AVE), 64), in_place=True)
    n.ip1 = L.InnerProduct(pool(n.relu3, P.Pooling.AVE), num_output=64, weight_filler=MSRA)
    return L.InnerProduct(n.ip1, num_output=10, weight_filler=MSRA)


def resnet20(n: Any) -> Any:
    """Return the scores of the residual net of 20 layers for CIFAR-10, with BatchNorm and Scale in place."""
    def conv(bottom: Any, width: int, size: int, stride: int, relu: bool) -> Any:
        top = L.Convolution(bottom, num_output=width, kernel_size=size, pad=size // 2, stride=stride, bias_term=False,
                            weight_filler=MSRA)
        top = L.Scale(L.BatchNorm(top, in_place=True), in_place=True, bias_term=True)
        return L.ReLU(top, in_place=True) if relu else top
    top = conv(n.data, 16, 3, 1, True)
    for width in (16, 32, 64):
        for block in range(3):
            stride = 2 if width > 16 and block == 0 else 1
            short = conv(top, width, 1, 2, False) if stride == 2 else top
            top = L.ReLU(L.Eltwise(short, conv(conv(top, width, 3, stride, True), width, 3, 1, False)), in_place=True)
    n.pool = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    return L.InnerProduct(n.pool, num_output=10, weight_filler=MSRA)


def narrow(n: Any) -> Any:
    """Return the scores of this project's narrow VGG-GAP."""
    bottom = n.data
    for block, widths in enumerate(((8, 8), (16, 16), (32, 32, 32), (64, 64, 64), (64, 64, 64, 128))):
        for at, width in enumerate(widths):
            pad = 0 if block == 4 and at >= 2 else 1
            conv = L.Convolution(bottom, num_output=width, kernel_size=3, pad=pad, weight_filler=MSRA)
            bottom = L.ReLU(conv, in_place=True)
        if block < 4:
            bottom = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.gap = L.Pooling(bottom, pool=P.Pooling.AVE, global_pooling=True)
    return L.InnerProduct(n.gap, num_output=3, weight_filler=MSRA)


NETS: Dict[str, Tuple[Callable[[Any], Any], Tuple[int, ...], int, List[int]]] = {  # scores, picture, classes, batches
    "lenet": (lenet, (1, 28, 28), 10, [64]), "cifar_quick": (cifar_quick, (3, 32, 32), 10, [100]),
    "resnet20": (resnet20, (3, 32, 32), 10, [128]), "narrow": (narrow, (3, 224, 224), 3, [1, 8, 32])}
RECORDS, SCALE = 256, 1 / 256  # of an LMDB; of its values
REPEAT = {"lenet": 5, "cifar_quick": 2, "resnet20": 1, "narrow": 1}  # steps a measurement


def write_records(folder: Path, name: str) -> str:
    """Write an LMDB of pictures of noise, once; return its path."""
    path, (channels, *sides), classes = folder / name, NETS[name][1], NETS[name][2]
    if not path.exists():
        pictures = np.random.RandomState(0).randint(0, 256, (RECORDS, *sides, channels), dtype=np.uint8)
        lmdb_io.write_records(path, ((b"%05d" % i, lmdb_io.encode_datum(picture, i % classes))
                                     for i, picture in enumerate(pictures)), 2 ** 30)
    return str(path)


def write_text(folder: Path, name: str, batch: int, mode: str) -> str:
    """Write a net that reads an LMDB or has Input layers, and its solver; return the path of what the mode needs."""
    make, picture, _, _ = NETS[name]
    n = net_spec.NetSpec()
    if mode == "lmdb":
        n.data, n.label = L.Data(source=write_records(folder, name), batch_size=batch, backend=P.Data.LMDB, ntop=2,
                                 transform_param={"scale": SCALE})
    else:
        n.data = L.Input(shape={"dim": [batch, *picture]})
    scores = make(n)
    if mode == "forward":
        n.prob = L.Softmax(scores)
    else:
        n.label = n.label if mode == "lmdb" else L.Input(shape={"dim": [batch]})
        n.loss = L.SoftmaxWithLoss(scores, n.label)
    net, solver = folder / f"{name}_{batch}_{mode}.prototxt", folder / f"{name}_{batch}_{mode}_solver.prototxt"
    net.write_text(str(n.to_proto()))
    solver.write_text(SOLVER.format(net).replace("display: 1", "display: 0"))
    return str(net if mode == "forward" else solver)


def words_of(folder: Path, name: str, batch: int, mode: str) -> List[str]:
    """Return what side.py is to do with a small net."""
    fed = ["--lmdb", write_records(folder, name), "--scale", str(SCALE)] if mode == "lmdb" else []
    return [mode, "--batch", str(batch), "--text", write_text(folder, name, batch, mode), "--net", name, "--shape",
            *map(str, NETS[name][1]), "--classes", str(NETS[name][2]), "--repeat", str(REPEAT[name]), *fed]


def published(entry: str) -> List[str]:
    """Return what side.py is to do with FILE=SIDE: predict one picture."""
    path, _, side = entry.rpartition("=")
    return ["forward", "--batch", "1", "--text", os.path.abspath(path), "--net", Path(path).stem, "--shape", "3", side, side]


def time_start(words: List[str], names: Sequence[str], caffe: str, rounds: int, repeat: int) -> Dict[str, List[float]]:
    """Start a process for each side, let them take turns; return the seconds of each round."""
    sides = {side: Side(sys.executable, [side.split()[0], *words]) for side in names}
    for kernel in KERNELS if caffe else ():
        sides[f"caffe {kernel}"] = Side(caffe, ["caffe", *words], OPENBLAS_CORETYPE=kernel)
    seconds: Dict[str, List[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, process in sides.items():
            seconds[side].append(process.step() / repeat)
    for process in sides.values():
        process.end()
    return seconds


def time_case(words: List[str], names: Sequence[str], caffe: str, args: argparse.Namespace, repeat: int) -> Dict[str, Any]:
    """Return the medians of each side, and of the ratios of single rounds; with several starts, also the ratios of each start."""
    starts = [time_start(words, names, caffe, args.rounds, repeat) for _ in range(args.starts)]
    seconds = {side: [value for start in starts for value in start[side]] for side in starts[0]}
    found: Dict[str, Any] = {"seconds": {side: statistics.median(values) for side, values in seconds.items()}}
    pairs = [(side, "hand") for side in names if "hand" in names and side != "hand"]
    if caffe:
        best = min((side for side in seconds if side.startswith("caffe")), key=found["seconds"].__getitem__)
        pairs.append((best, "torchcaffe"))
    for a, b in pairs:
        name = f"{'Caffe' if a.startswith('caffe') else a} / {b}"
        each = [statistics.median(x / y for x, y in zip(start[a], start[b])) for start in starts]
        found[name] = statistics.median(each)
        if args.starts > 1:
            found[f"{name}, each start"] = each
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each side in a start")
    parser.add_argument("--starts", type=int, default=1, help="times that the processes are started, each fast or slow for good")
    parser.add_argument("--again", action="store_true", help="also time the hand-written loop against a second process of itself")
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--published", nargs="+", default=[], metavar="FILE=SIDE",
                        help="deploy prototxts, and the side of the picture, to time without a hand-written loop instead")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES,
                        help="a training step, one from an LMDB, a forward pass")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--caffe", type=Path, default=ROOT / ".caffe/bin/python3", help="Python that imports real Caffe")
    parser.add_argument("--json", type=Path, help="store all numbers there")
    args = parser.parse_args()
    caffe, rows = str(args.caffe) if args.caffe.is_file() else "", {}
    with tempfile.TemporaryDirectory() as folder:
        for threads in args.threads:
            os.environ.update(OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads), GLOG_minloglevel="2")
            flags = ["--cpu-time"] if threads == 1 else []
            cases = {f"{Path(entry).stem}, batch 1, forward": (published(entry), ["torchcaffe"], 1) for entry in args.published}
            cases = cases or {f"{name}, batch {batch}, {mode}": (
                words_of(Path(folder), name, batch, mode), ["torchcaffe", "hand", *["hand again"] * args.again], REPEAT[name])
                for name in args.nets for batch in NETS[name][3] for mode in args.modes}
            for case, (words, names, repeat) in cases.items():
                row = rows[f"{case}, threads {threads}"] = time_case([*words, *flags], names, caffe, args, repeat)
                ratios = ", ".join(f"{key} {value:.2f}" for key, value in row.items() if isinstance(value, float))
                times = ", ".join(f"{side} {1000 * t:.1f}" for side, t in row["seconds"].items())
                print(f"{case}, threads {threads}: {times} ms; {ratios}", flush=True)
                if args.json:
                    made = {"about": about(), "rounds": args.rounds, "starts": args.starts, "cases": rows}
                    args.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()

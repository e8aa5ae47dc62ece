"""Compare torchcaffe with real BVLC Caffe, live, and write docs/parity.md.

Runs the cases of tests/parity/cases.py on both engines, and on Caffe once more with another kernel of its BLAS: what Caffe
differs from itself by is the noise floor.

Example: SKIN_CAFFE=.caffe/bin/python3 python benchmarks/parity.py
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GLOG_minloglevel", "2")

from tests.parity import cases, live  # noqa: E402

KERNEL = "NEHALEM"  # an OpenBLAS kernel that every x86-64 has and that adds in another order than newer ones
STORED = {"Published nets (benchmarks/model_zoo.py)": "model_zoo.md",
          "The full-width network, fine-tuned as in stage 1 (benchmarks/full_width.py)": "full_width.md"}
LAYER_BOUND, TRAIN_BOUND, PROB_BOUND = 1e-5, 1e-4, 1e-5
Row = Tuple[str, str, float, float, float]  # group, case, error, bound, noise floor

HEAD = """\
# How equal the engines are

Written by `python benchmarks/parity.py`; do not edit. Every number is measured against real BVLC Caffe 1.0 (Debian 11's
`python3-caffe`, CPU), which runs in the same minute on the same machine. The same cases run in the test suite
(`tests/parity`), where they fail beyond their bound.

*error*: the largest difference, relative to the largest value of the array (losses: relative to each loss).
*noise floor*: the same between Caffe and Caffe with another BLAS kernel (`OPENBLAS_CORETYPE=%s`).

%s: %d cases, largest error relative to its bound %.2g, %d beyond their bound.
"""
NOTES = """\
## Near ties

Two correct engines round differently, and a training run can make that visible: where two values of a max-pooling window, or
a ReLU's input and zero, are equal up to rounding, the gradient takes one way in one engine and the other way in the other.
From there on losses drift apart, by far more than the rounding that caused it. Real Caffe does the same to itself when its
BLAS picks another kernel: in recorded runs of 40 iterations up to 3e-5 in the loss, while most runs agree to 1e-7.

To keep such flips rare, torchcaffe rounds as Caffe does where that costs nothing. Small layers go through im2col + BLAS,
larger ones through oneDNN: `is_small` in `torchcaffe/layers/spatial.py` draws the line at %d million multiply-adds of a
forward pass. Measured once on three small layers (batch 8, 3 x 3 kernels), gradients of weights differ from Caffe's by:

| layer | im2col + BLAS | oneDNN |
| --- | --- | --- |
| 3 to 16 channels at 64 x 64 | 6.4e-7 | 4.1e-6 |
| 32 to 32 channels at 16 x 16 | 3.4e-7 | 3.0e-7 |
| 16 to 16 channels at 32 x 32 | 4.8e-7 | 5.9e-7 |

On large layers im2col would cost speed. The cases `conv_large` and `conv_large_group` measure the second way.

One recorded training run is beyond reach for this reason: tiny net, batch 4, `iter_size: 4`, 30 iterations from fixed weights
(bound of the weights' change: 2e-3). At iteration 4, in the third of its four batches, one input of a ReLU (conv5_3) is +1.4e-7
in exact arithmetic; the recording, and Caffe with other kernels, round it to different sides of zero:

| run against the recording | change of the weights | losses, 30 iterations |
| --- | --- | --- |
| Caffe, kernel of the recording (ZEN), or HASWELL | 0 | 0 |
| Caffe, `OPENBLAS_CORETYPE=SKYLAKEX` | 3.7e-6 | 6.2e-8 |
| Caffe, `OPENBLAS_CORETYPE=NEHALEM`, SANDYBRIDGE or PRESCOTT | 2.3e-3 | 3.2e-5 |
| torchcaffe | 2.3e-3 | 3.2e-5 |

So real Caffe misses that bound on some processors too, by the same amount. No order of addition would mend it in general: with
the very kernels of OpenBLAS in place of MKL (convolutions then equal Caffe's to the last bit, forward and in the gradient of
the bottom) this run still took the other side, since the softmax and the means differ in the last bit. Nor do more digits: with
convolutions, inner products and means of small layers in double precision, 21 of the 24 recorded runs stay within their bounds,
without it 23.

Runs of other nets, so that nothing is tuned to the recorded ones: 589 short trainings of random nets by random solvers
(`LIVE_RANDOM=600 LIVE_SEED=7 python -m pytest tests/parity/test_tc_random.py`), all within the bounds. And 24 training runs,
recorded with real Caffe four times anew with other pictures, weights, widths and rates: 24, 23, 23 and 23 stay within their
bounds; three times the net of 13 small convolutions does not. Traced once, it parts at a near tie in the first iteration, where
Caffe's kernels agree. The order of addition is a likely cause: in its first layer (27 products a value) PyTorch adds one after
another, Caffe's OpenBLAS the even and the odd ones of the first 24 apart, and the last three to the even sum. Computed so with
numpy, both come out bit for bit, and with forward passes of small layers so computed two of the three runs stay within their
bounds. torchcaffe does not add so yet: with eight and more outputs Caffe's order is another one, not found yet.

| 589 random trainings, six steps each | median | 99 %% | largest | beyond 1e-4 (losses) or 1e-3 (parameters) |
| --- | --- | --- | --- | --- |
| torchcaffe against Caffe: losses | 1.8e-7 | 5.6e-6 | 9.5e-5 | 0 |
| Caffe with another kernel against Caffe: losses | 1.3e-7 | 4.2e-6 | 7.6e-5 | 0 |
| torchcaffe against Caffe: change of the parameters | 5.9e-7 | 7.7e-5 | 2.4e-4 | 0 |
| Caffe with another kernel against Caffe: change of the parameters | 5.2e-7 | 1.1e-4 | 1.1e-3 | 1 |

## In place

Layers whose top is their bottom work where Caffe computes them right. Tried one by one on real Caffe with a random gradient:
BNLL, Clip, Log, MVN and Power give the right output but a wrong gradient there, as they read what they have written over
(errors of 0.6 to 38 of the largest value); Eltwise, LRN and Pooling give a wrong output. torchcaffe refuses those in one line.

No bound here was loosened to let a case pass.
"""


def loss_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found / wanted - 1).max())


def worst(found: live.Arrays, wanted: live.Arrays) -> float:
    """Return the largest error of arrays that belong together."""
    return max((loss_error if k.endswith("loss") else live.error)(found[k], wanted[k]) for k in wanted)


def part(results: live.Arrays, prefix: str) -> live.Arrays:
    return {k[len(prefix):]: v for k, v in results.items() if k.startswith(prefix)}


def rows(ours: live.Arrays, theirs: live.Arrays, again: live.Arrays) -> Iterator[Row]:
    """Yield one row a case and direction."""
    for name in cases.LAYERS:
        for way in ("forward", "backward"):
            prefix = f"layer/{name}/{way}:"
            if part(theirs, prefix):
                yield (f"Layers, {way}", name, *measure(prefix, LAYER_BOUND, ours, theirs, again))
    for name in cases.DATA:
        yield ("Batches", name, *measure(f"data/{name}/", 0.0, ours, theirs, again))
    for name, (_, iterations) in cases.SOLVERS.items():
        for what in ("loss", "weights"):
            yield (f"Training, {iterations} iterations", f"{name}, {what}",
                   *measure(f"train/{name}/{what}", TRAIN_BOUND, ours, theirs, again))
    yield from file_rows(ours, theirs)
    yield from resume_rows({"torchcaffe": ours, "caffe": theirs}, again)


def measure(prefix: str, bound: float, ours: live.Arrays, theirs: live.Arrays, again: live.Arrays) -> Tuple[float, float, float]:
    wanted = {"loss" if prefix.endswith("loss") else k: v for k, v in part(theirs, prefix).items()}
    mine, noise = ({k: part(r, prefix)[k if k in part(r, prefix) else ""] for k in wanted} for r in (ours, again))
    return worst(mine, wanted), bound, worst(noise, wanted)


def file_rows(ours: live.Arrays, theirs: live.Arrays) -> Iterator[Row]:
    for writer in ("caffe", "torchcaffe"):
        for end in (".caffemodel", ".caffemodel.h5"):
            mine, wanted = (part(r, f"weights/{writer}{end}/") for r in (ours, theirs))
            prob = float(np.abs(mine.pop("prob") - wanted.pop("prob")).max())
            yield "Weights written by one, read by both", f"{writer}{end}, parameters", worst(mine, wanted), 0.0, np.nan
            yield "Weights written by one, read by both", f"{writer}{end}, probabilities", prob, PROB_BOUND, np.nan


def resume_rows(results: Dict[str, live.Arrays], again: live.Arrays) -> Iterator[Row]:
    for name in cases.RESUMED:
        prefix = f"train/resumed_{name}/"
        noise = worst(part(again, prefix), part(results["caffe"], prefix))
        for before in results:
            for after in results:
                wanted = part(results[before], prefix)
                wanted["loss"] = wanted["loss"][10:]
                found = part(results[after], f"resume/{name}/{before}/")
                yield "Ten iterations on one, ten on the other", f"{name}, {before} then {after}", worst(found, wanted), \
                    TRAIN_BOUND, noise


def measure_all(python: str) -> List[Row]:
    """Run everything and return the rows."""
    with tempfile.TemporaryDirectory() as folder:
        results = live.compare(python, folder)
        again = live.run_caffe(python, folder, KERNEL, "first")
    return list(rows(results["torchcaffe"], results["caffe"], again))


def short(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.1e}" if value else "0"


def document(found: List[Row]) -> str:
    """Return the text of docs/parity.md."""
    import torch

    from torchcaffe.layers.spatial import SMALL
    beyond = [row for row in found if row[2] > row[3]]
    share = max(row[2] / row[3] for row in found if row[3])
    lines = [HEAD % (KERNEL, f"PyTorch {torch.__version__}, numpy {np.__version__}", len(found), share, len(beyond))]
    for group in dict.fromkeys(row[0] for row in found):
        lines += [f"## {group}\n", "| case | error | bound | noise floor |", "| --- | --- | --- | --- |"]
        lines += [f"| {case}{' BEYOND ITS BOUND' * (error > bound)} | {short(error)} | {bound:.0e} | {short(noise)} |"
                  .replace(" 0e+00 ", " 0 ") for g, case, error, bound, noise in found if g == group]
        lines.append("")
    return "\n".join([*lines, NOTES % (SMALL // 10**6), *stored()])


def stored() -> Iterator[str]:
    """Yield what the longer comparisons wrote to docs/results."""
    for title, name in STORED.items():
        path = ROOT / "docs/results" / name
        if path.is_file():
            yield f"## {title}\n\n{path.read_text()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caffe", default=os.environ.get("SKIN_CAFFE") or str(ROOT / ".caffe/bin/python3"),
                        help="Python that imports real Caffe (SKIN_CAFFE, or what `make caffe` makes)")
    parser.add_argument("--out", default=str(ROOT / "docs/parity.md"), help="file to write")
    options = parser.parse_args()
    if not os.path.isfile(options.caffe):
        print(f"error: no real Caffe: {options.caffe} is missing; run `make caffe` or give --caffe", file=sys.stderr)
        return 1
    found = measure_all(options.caffe)
    temporary = f"{options.out}.{os.getpid()}"
    Path(temporary).write_text(document(found))
    os.replace(temporary, options.out)
    beyond = [f"{case}: {error:.1e}" for _, case, error, bound, _ in found if error > bound]
    print(f"{len(found)} cases, {len(beyond)} beyond their bound" + "".join(f"\n  {line}" for line in beyond))
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare published nets on torchcaffe and on real BVLC Caffe: every prototxt of a folder, deploy and training nets.

Deploy nets run forward with random weights; training nets train five iterations on a made-up batch. Prints a table and writes
it to docs/results/model_zoo.md, which docs/parity.md takes over.

Example: python benchmarks/model_zoo.py MODELS --caffe .caffe/bin/python3 --shape mnist=1x28x28 --shape cifar10=3x32x32
"""
from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import List, Tuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GLOG_minloglevel", "2")

from tests.parity import zoo  # noqa: E402


def shape_of(text: str) -> Tuple[str, Tuple[int, ...]]:
    part, _, shape = text.partition("=")
    try:
        return part, tuple(int(n) for n in shape.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=CxHxW") from None


def table(rows: List[zoo.Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| net | what | error | bound |", "| --- | --- | --- | --- |"]
    for row in rows:
        if math.isnan(row.error):
            lines.append(f"| {row.name} | refused: {row.note.replace('|', '/')} | | |")
        else:
            mark = " BEYOND ITS BOUND" if row.error > row.bound else ""
            lines.append(f"| {row.name}{mark} | {row.what} | {row.error:.1e} | {row.bound:.0e} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", help="folder with prototxt files")
    parser.add_argument("--caffe", default=os.environ.get("SKIN_CAFFE") or str(ROOT / ".caffe/bin/python3"),
                        help="Python that imports real Caffe")
    parser.add_argument("--shape", type=shape_of, action="append", default=[],
                        help="shape of one picture for training nets whose file name contains NAME, as NAME=CxHxW")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/model_zoo.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as job:
        refused = zoo.prepare(os.path.abspath(options.models), job, dict(options.shape))
        rows = [*zoo.compare(options.caffe, job), *refused]
    text = table(rows)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    return int(any(row.error > row.bound for row in rows))


if __name__ == "__main__":
    sys.exit(main())

"""Compare single steps with real Caffe, each from Caffe's own weights and history; print and store the largest errors.

Recorded trainings (--set, a folder of recordings with index.json) and random nets. Beside torchcaffe: Caffe itself with other
kernels of its BLAS, and from weights that are changed by 3e-7 of their size, which shows where rounding
decides (tests/parity/steps.py).

example: python benchmarks/steps.py --random 500 --set recordings --out benchmarks/results/steps.md
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GLOG_minloglevel", "2")

from tests.parity import live, steps  # noqa: E402

KERNELS = live.kernels("SKYLAKEX", "NEHALEM", "SANDYBRIDGE")


def recorded(source: Path, folder: Path) -> List[Dict[str, Any]]:
    """Copy the files of a set of recordings; return the jobs of its trainings."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    entries = json.loads((source / "index.json").read_text())["entries"]
    return [{"name": e["case"], "folder": str(folder), "solver": str(folder / e["solver"]), "weights": e["weights"],
             "restore": e["restore"], "steps": e["iters"] - (20 if e["restore"] else 0)} for e in entries if e["kind"] == "run"]


def random_jobs(folder: Path, seed: int, count: int) -> List[Dict[str, Any]]:
    """Return the jobs of random nets that torchcaffe takes; the others would end real Caffe's process."""
    import torchcaffe
    jobs = []
    for number in range(count):
        job = steps.random_job(str(folder), seed, number)
        try:
            losses = steps.lead(torchcaffe, job)
        except torchcaffe.CaffeError:
            continue
        if all(abs(v).max() < 1e30 for k, v in losses.items() if "/loss:" in k):  # else Caffe writes beside its memory
            jobs.append(job)
    return jobs


NAMES = {"torchcaffe": "torchcaffe", "noise": "Caffe, weights changed by 3e-7"}
HEADS = ("engine", "what", "steps", "median", "99 %", "largest", "beyond 1e-5")


def table(title: str, found: Dict[str, List[steps.Row]]) -> str:
    """Return a table of the errors of each engine, by kind, all steps and those without near ties."""
    untied = {key for key, change in steps.own_changes(found).items() if steps.SPREAD * change <= steps.BOUND}
    lines = [f"### {title}\n", f"| {' | '.join(HEADS)} |", "| --- " * len(HEADS) + "|"]
    clear = [row for row in found["torchcaffe"] if row[:3] in untied]
    for engine, rows in {**found, "torchcaffe, steps without near ties": clear}.items():
        for kind in steps.KINDS:
            values = sorted(error for _, _, k, error in rows if k == kind) or [0.0]
            shown = [f"{v:.1e}" for v in (values[len(values) // 2], values[int(0.99 * (len(values) - 1))], values[-1])]
            name = NAMES.get(engine, engine if "," in engine else f"Caffe, {engine}")
            lines.append(f"| {name} | {kind} | {len(values)} | {' | '.join(shown)} | {sum(v > steps.BOUND for v in values)} |")
    beyond, ties = steps.judged(found)
    lines += [f"\n{ties} of {len(found['noise'])} have near ties, and {steps.SPREAD} times Caffe's own change as their bound; "
              f"{len(beyond)} are beyond their bound."]
    lines += [f"- {name}, step {at}, {kind}: {error:.1e}, bound {bound:.1e}" for (name, at, kind, error), bound in beyond]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caffe", default=os.environ.get("SKIN_CAFFE") or str(ROOT / ".caffe/bin/python3"))
    parser.add_argument("--random", type=int, default=60, help="how many random nets")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--set", type=Path, help="folder of recordings, with index.json")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    text = ""
    with tempfile.TemporaryDirectory() as name:
        groups = {f"{args.random} random nets": random_jobs(Path(name), args.seed, args.random)} if args.random else {}
        if args.set:
            groups["Recorded trainings"] = recorded(args.set.resolve(), Path(name) / "set")
        for title, jobs in groups.items():
            cwd = jobs[0]["folder"] if jobs else name
            found = steps.compare(args.caffe, name, jobs, KERNELS, cwd)
            text += table(title, found) + "\n"
            print(table(title, found), flush=True)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()

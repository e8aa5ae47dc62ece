"""Classify many pictures in one process; see that its memory and its open files stay what they are.

example: python benchmarks/classify.py --isic data/isic2017 --count 5000 --json docs/results/classify.json
"""
import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict

from speed import ROOT, about


def link(isic: Path, folder: Path, count: int) -> None:
    """Fill a folder with links to the pictures of a data set, over and over under other names."""
    pictures = sorted(path.resolve() for path in isic.glob("*_Data/*.jpg"))
    for number, picture in enumerate(itertools.islice(itertools.cycle(pictures), count)):
        (folder / f"p{number:07}.jpg").symlink_to(picture)


def state(pid: int, began: float) -> Dict[str, float]:
    """Return what a process has now (Linux's /proc)."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"seconds": round(time.monotonic() - began, 1), "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            **{name: int(status[key].split()[0]) // 1024 for name, key in (("MB", "VmRSS"), ("peak MB", "VmHWM"))}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--isic", type=Path, required=True, help="folder of ISIC-2017")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--json", type=Path, help="store the numbers there")
    args = parser.parse_args()
    found: Dict[str, Any] = {"about": about(), "pictures": args.count}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        link(args.isic, folder, args.count)
        words = [sys.executable, "-u", "-m", "pycam", "classify", str(folder), "--out", f"{name}/out", "--engine", "torch"]
        began, done = time.monotonic(), 0
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                done += line.startswith("p0")
                if done in [1, *(args.count * part // 10 for part in range(1, 11))]:
                    found[f"after {done}"] = state(process.pid, began)
        if process.returncode:
            sys.exit(f"error: classify ended with {process.returncode}")
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Time `make demo` in a fresh clone of this repository, set-up and all, as someone who has just cloned it would run it; twice.

example: python benchmarks/demo.py --json benchmarks/results/demo.json
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict

from speed import ROOT, about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="store the numbers there")
    args = parser.parse_args()
    result: Dict[str, Any] = {"about": about()}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), folder], check=True)
        for name, step in (("setup", "setup"), ("demo", "demo"), ("demo again, up to date", "demo")):
            start = time.perf_counter()
            done = subprocess.run(["make", step], cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                sys.exit(f"error: make {step} failed: {done.stdout[-500:]}")
            result[f"seconds of make {name}"] = time.perf_counter() - start
        result["table"] = (Path(folder) / "build/demo/results/table1.md").read_text().splitlines()
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

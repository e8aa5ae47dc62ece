"""A few of the kills of benchmarks/kills.py, which was run with 200 and more (docs/results/kills.json, kills_together.json)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_killed_runs_start_again_and_end_with_the_same_bytes(tmp_path):
    command = [sys.executable, "benchmarks/kills.py", "--kills", "6", "--seed", "5", "--json", str(tmp_path / "kills.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=str(ROOT), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads((tmp_path / "kills.json").read_text())
    assert [counts[name]["kills"] for name in ("clean", "lmdb", "crops")] == [2, 2, 2]


@pytest.mark.slow
def test_two_runs_at_once_leave_what_one_of_them_makes(tmp_path):
    command = [sys.executable, "benchmarks/kills.py", "--together", "7", "--seed", "5", "--json", str(tmp_path / "kills.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=str(ROOT), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads((tmp_path / "kills.json").read_text())
    names = ("clean", "lmdb", "crops", "localize", "predict", "train", "report")
    assert [counts[name]["rounds"] for name in names] == [1] * len(names)

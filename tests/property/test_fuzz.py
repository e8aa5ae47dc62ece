"""Ten thousand damaged files: each is read or refused in one line. FUZZ=1000000 sets their number."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUZZ = ROOT / "benchmarks" / "fuzz.py"


def run(*words):
    done = subprocess.run([sys.executable, str(FUZZ), *words], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def test_damaged_files():
    code, found = run("--cases", os.environ.get("FUZZ") or "10000", "--jobs", "2")
    assert found["wrong"] == []
    assert found["peak"] < 2e9
    assert code == 0
    kinds = {name for name, _, _ in found["counts"]}
    for said in ("read", "refused"):  # each kind of file is damaged lightly and badly
        assert len({name for name, one, _ in found["counts"] if one == said}) >= len(kinds) - 2


def test_what_a_reader_does_wrong_is_found(tmp_path):
    spoilt = tmp_path / "fuzz.py"
    spoilt.write_text(FUZZ.read_text().replace("REFUSED = (CaffeError, CamError, DataError)", "REFUSED = (CaffeError,)").replace(
        "Path(__file__).resolve().parents[1]", repr(ROOT).replace("PosixPath", "Path")))
    done = subprocess.run([sys.executable, str(spoilt), "--cases", "400", "--jobs", "1"], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert "DataError" in done.stdout

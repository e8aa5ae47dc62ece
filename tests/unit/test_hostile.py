"""Malformed pictures and label files: handled, or refused in one line; never a traceback, never more than 2 GB."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("hostile.py")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    done = subprocess.run([sys.executable, str(FILE), str(tmp_path_factory.mktemp("hostile"))], capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": str(FILE.parents[2])})
    return json.loads(done.stdout)


def test_every_case_is_handled_or_refused_in_a_line(outcome):
    assert len(outcome["results"]) >= 200
    for case in outcome["results"]:
        assert case["code"] in (0, 1), case
        assert case["finished"] == (case["code"] == 0), case
        assert len(case["lines"]) == case["code"], case
        assert all(line.startswith("error: ") and len(line) < 600 for line in case["lines"]), case


def test_what_is_sound_is_handled_and_what_is_not_is_named(outcome):
    for case in outcome["results"]:
        if case["expected"] == "good":
            assert case["code"] == 0, case
        elif case["expected"] != "either":
            assert case["expected"] in "".join(case["lines"]), case


def test_memory_stays_below_2_gb(outcome):
    assert outcome["peak"] < 2e9

"""SECURITY.md names the limits that are enforced, by their constants."""

import json
import re
from pathlib import Path

import pytest

from torchcaffe import hdf5, limits, wire

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
VALUES = {"MAX_PIXELS": "40 million", "MAX_PICTURE": "320 million", "MAX_SCANS": "200", "MAX_TEXT": "16 MiB", "MAX_TABLE":
          "256 MiB", "MAX_VALUES": "300 million", "MAX_FIELDS": "1 million", "MAX_LINES": "2 million"}
SCALE = {"million": 10**6, "MiB": 2**20}


def test_every_limit_is_in_the_table():
    assert {name for name in vars(limits) if name.startswith("MAX_")} <= set(re.findall(r"`(MAX_\w+)`", TEXT))


@pytest.mark.parametrize(("name", "told"), VALUES.items())
def test_the_table_has_the_constants_values(name, told):
    number, _, unit = told.partition(" ")
    value = next(getattr(module, name) for module in (limits, wire, hdf5) if hasattr(module, name))
    assert value == int(number) * SCALE.get(unit, 1)
    assert re.search(rf"\| {told}\b.*`{name}`", TEXT)


def test_the_told_run_of_damaged_files_is_the_stored_one():
    stored = json.loads((ROOT / "docs" / "results" / "fuzz.json").read_text())
    assert f"--cases {stored['cases']} --seed {stored['seed']} " in TEXT
    assert f"damaged {stored['cases']} files" in TEXT
    assert stored["wrong"] == []
    assert {said for _, said, _ in stored["counts"]} == {"read", "refused"}
    assert sum(count for _, _, count in stored["counts"]) >= stored["cases"]  # some files have several readers
    assert stored["peak"] < 2e9

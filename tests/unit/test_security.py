"""SECURITY.md names the limits that are enforced, by their constants."""

import re
from pathlib import Path

import pytest

from torchcaffe import hdf5, limits, wire

TEXT = (Path(__file__).resolve().parents[2] / "SECURITY.md").read_text()
VALUES = {"MAX_PIXELS": "40 million", "MAX_PICTURE": "320 million", "MAX_SCANS": "200", "MAX_TEXT": "16 MiB", "MAX_TABLE":
          "256 MiB", "MAX_VALUES": "300 million", "MAX_FIELDS": "1 million"}
SCALE = {"million": 10**6, "MiB": 2**20}


def test_every_limit_is_in_the_table():
    assert {name for name in vars(limits) if name.startswith("MAX_")} <= set(re.findall(r"`(MAX_\w+)`", TEXT))


@pytest.mark.parametrize(("name", "told"), VALUES.items())
def test_the_table_has_the_constants_values(name, told):
    number, _, unit = told.partition(" ")
    value = next(getattr(module, name) for module in (limits, wire, hdf5) if hasattr(module, name))
    assert value == int(number) * SCALE.get(unit, 1)
    assert re.search(rf"\| {told}\b.*`{name}`", TEXT)

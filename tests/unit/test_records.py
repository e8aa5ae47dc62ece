"""Tables, logs and records that would be millions of small objects: one line before they take memory."""

import pytest

from data_tools import records, steps
from data_tools.errors import DataError
from torchcaffe.limits import MAX_COLUMNS, MAX_LINE, MAX_LINES

HEAD = "image_id,melanoma,seborrheic_keratosis\n"
TABLES = {"blank lines": ("\n" * (MAX_LINES + 1), "more than 2000000 lines"), "one line": ("x" * MAX_LINE, "characters or more"),
          "many columns": ("," * MAX_COLUMNS, "line 1 has 1001 fields"),
          "one row of many lines": ('"\n",' * (MAX_LINES + 1), "more than 2000000 lines"),
          "one row of long lines": ((("," * 3_000_000) + '"\n",') * 7, "20000000 commas")}


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path, name):
    text, words = TABLES[name]
    (tmp_path / "t.csv").write_text(HEAD * (name == "blank lines") + text)
    with pytest.raises(DataError, match=words):
        list(records.read_rows(tmp_path / "t.csv", "a table"))


def test_a_record_of_many_numbers_and_a_log_of_many_lines(tmp_path):
    (tmp_path / "r.json").write_text('{"parameters": {"a": [%s1]}}' % ("0.5," * 20_000_001))
    with pytest.raises(DataError, match="20000000 commas"):
        steps.load_record(tmp_path / "r.json")
    (tmp_path / "t.log").write_text("\n" * (MAX_LINES + 1))
    with pytest.raises(DataError, match="2000000 lines"):
        records.read_text(tmp_path / "t.log", "a log")

"""Whole nets in the manner of the published ones, on both engines (benchmarks/model_zoo.py does it with the real files)."""

import pytest

from . import nets, zoo


@pytest.mark.caffe
def test_whole_nets(real_caffe, live_cases, tmp_path):
    models, job = tmp_path / "models", tmp_path / "job"
    models.mkdir()
    job.mkdir()
    texts = nets.write_all()
    for name, text in texts.items():
        (models / f"{name}.prototxt").write_text(text)
    refused = zoo.prepare(str(models), str(job), {})
    rows = list(zoo.compare(real_caffe, str(job)))
    assert not refused
    assert {row.name for row in rows} == set(texts)
    assert sum(row.what == "forward" for row in rows) == 6
    assert [row for row in rows if not row.error <= row.bound] == []
    live_cases(len(rows))


def test_a_net_that_is_not_supported_is_named(tmp_path):
    (tmp_path / "odd.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" } layer { name: "odd" type: "Recurrent" bottom: "x" top: "y" }')
    (tmp_path / "job").mkdir()
    (row,) = zoo.prepare(str(tmp_path), str(tmp_path / "job"), {})
    assert row.name == "odd"
    assert "Recurrent" in row.note

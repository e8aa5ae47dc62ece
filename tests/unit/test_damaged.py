"""Our own records, damaged in every way of damage.py: each is read, or refused in one line that names it; never a traceback."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest

from data_tools import manifest, steps
from data_tools.commands import sentence
from data_tools.errors import DataError
from data_tools.isic import read_groundtruth, write_groundtruth
from pycam import crops, predictions, region_rule, report, runinfo, summary, table1, trainlog, two_stages
from pycam.errors import CamError
from pycam.examples import Run
from pycam.region_rule import RegionRule
from tests.unit.damage import damaged

EACH = 300  # damages of every record
MARK = ("0" * 64, (1, 2, 3, 4))
LOG = ("I1123 05:10:25.2 7 solver.cpp:290] Iteration 0, loss = 1.5\nI1123 05:10:25.2 7 x:3] Iteration 5, Testing net (#0)\n"
       "I1123 05:10:25.2 7 solver.cpp:290]     Test net output #0: accuracy = 0.5\n")


def head_and_parameters(path):
    folder = path.parents[2] if path.parent.parent.name in ("clean", "crops", "lmdb") else path.parents[1]
    runinfo.head(folder, "val")
    runinfo.parameters(folder)


def rule(path):
    Run(path.parents[2], lambda: None).rule  # noqa: B018


def rerun(path):
    """Run a step whose record this is; it goes on from what it finds there."""
    other = path.parents[2] / "rows.csv"
    step = steps.Step("s", path.parent, path, {"a": 1}, {"x": other}, lambda: [other],
                      lambda old: (steps.kept(step, old), steps.take_over(step, old)), True)
    steps.run(step)
    assert steps.is_current(step)


def table(path):
    report.table_section(SimpleNamespace(folder=path.parents[1], split="val"))


def journal(path):
    assert all(row.box.size for row in crops.read_journal(path).values())


def boxes(path):
    rows = list(crops.read_boxes(path).values())
    if rows:
        crops.describe(rows)


READERS = {
    "clean/val/.clean.json": [head_and_parameters, rerun], "crops/val/crops.json": [head_and_parameters, rule, rerun],
    "stage1/origin.json": [head_and_parameters], "stage2/origin.json": [lambda path: two_stages.read_preparation(path.parent)],
    "lmdb/stage1_val/manifest.json": [lambda path: manifest.read(path.parent), head_and_parameters],
    "lmdb/stage1_val/pictures.csv": [lambda path: manifest.read_pictures(path.parent)],
    "crops/val/boxes.csv": [boxes, head_and_parameters], "crops/val/.boxes.csv": [journal], "results/metrics.json": [table],
    "results/stage1_val.csv": [predictions.read], "clean/val/groundtruth.csv": [read_groundtruth],
    "rows.csv": [summary.read_specs], "stage1/train.log": [trainlog.read, trainlog.whole_lines],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run with one of every record."""
    folder = tmp_path_factory.mktemp("run")
    labels = {f"ISIC_{n:07}": n % 3 for n in range(6)}
    region = region_rule.recorded(RegionRule(), None)
    facts = {"date": "2017-03-01 12:00", "seconds": 1.5, "python": "3.9.2", "engine": "e", "device": "d", "net": "n",
             "weights": "w", "iterations": 6, "resumed": [3]}
    for name, parameters in (("clean/val/.clean.json", {"pictures": {"hair": "along"}, "labels": [0, 1]}),
                             ("crops/val/crops.json", {"pictures": {"hair": "along", "region": region}, "format": "jpg"}),
                             ("stage1/origin.json", {"base_lr": 0.01, "layers": ["a"], "rounding": {"precision": "fp32"}}),
                             ("stage2/origin.json", {"pictures": {"hair": "along", "region": region}, "resumed": False})):
        record = steps.Record(parameters, dict.fromkeys(labels, MARK), {"made.jpg": MARK}, True, facts)
        steps.write_record(folder / name, record)
    (folder / "lmdb/stage1_val").mkdir(parents=True)
    (folder / "lmdb/stage1_val/data.mdb").write_bytes(b"12345")
    counts = {"melanoma": 2, "seborrheic_keratosis": 2, "nevus": 2}
    manifest.write(folder / "lmdb/stage1_val", manifest.Manifest(
        manifest.VERSION, 6, counts, 6, counts, [56, 56], "BGR", 1, {"size": 64, "variants": ["a"]}, ["D01"], *"ab", 5, *"cd"))
    lines = [manifest.picture_line(i, label, "0" * 64) for i, label in labels.items()]
    (folder / "lmdb/stage1_val/pictures.csv").write_text("\n".join([*lines, ""]))
    rows = [f"{i},0,0,40,{40 + n},melanoma,region,40,60" for n, i in enumerate(labels)]
    (folder / "crops/val/boxes.csv").write_text("\n".join([",".join(crops.COLUMNS), *rows, ""]))
    (folder / "crops/val/.boxes.csv").write_text("\n".join([*rows, ""]))
    write_groundtruth(folder / "clean/val/groundtruth.csv", labels)
    probs = np.random.RandomState(0).dirichlet([1, 1, 1], (2, 6))
    (folder / "results").mkdir()
    predictions.write(folder / "results/stage1_val.csv", zip(labels, probs[0]))
    metrics = table1.evaluate(np.array(list(labels.values())), *probs[..., :2])
    (folder / "results/metrics.json").write_text(json.dumps(metrics))
    (folder / "rows.csv").write_text("row,predictions,against\none,a.csv,\ntwo,a.csv + b_{seed}.csv,one\n")
    (folder / "stage1/train.log").write_text(LOG)
    return folder


@pytest.mark.parametrize("record", READERS)
def test_a_damaged_record_is_read_or_refused_in_a_line(run, record, capsys):
    path, chance = run / record, random.Random(record)
    before = {reader: path.read_bytes() for reader in READERS[record]}
    for reader, content in before.items():
        reader(path)
        refused = 0
        for _ in range(EACH):
            path.write_bytes(content)
            how, damage = damaged(path, chance)
            path.write_bytes(damage)
            try:
                reader(path)
            except (DataError, CamError) as error:
                refused += 1
                line = sentence(error)
                assert line.isprintable(), how
                assert len(line) < 2000, how
            except Exception as error:
                pytest.fail(f"{reader.__name__}, {how}: {error!r}")
        path.write_bytes(content)
        assert refused > EACH / 10 or reader in (rerun, journal, trainlog.whole_lines)
    assert "Traceback" not in capsys.readouterr().err

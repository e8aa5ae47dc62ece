"""torchcaffe against what real Caffe gave (recorded.npz, made by tests/parity/record.py): numbers where no Caffe is at hand."""
import os
import re

import numpy as np
import pytest

import torchcaffe
from tests.parity import cases, live, record
from torchcaffe.__main__ import main

BOUND, TRAIN_BOUND, SPREAD, DIGITS = 1e-5, 1e-4, 3, 2e-5  # the last: of numbers printed with six digits, relative to each


@pytest.fixture(scope="module")
def recorded():
    assert os.path.getsize(record.FILE) < 400_000
    with np.load(record.FILE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("recorded"))
    torchcaffe.set_mode_cpu()
    live.prepare(path)
    return path


def part(arrays, prefix):
    return {key[len(prefix):]: array for key, array in arrays.items() if key.startswith(prefix)}


@pytest.mark.parametrize("name", cases.LAYERS)
def test_layer(recorded, folder, name):
    wanted, found = part(recorded, f"layer/{name}/"), live.run_layer(torchcaffe, name, folder)
    assert wanted or "large" in name
    for key, array in wanted.items():
        assert live.error(found[key], array) <= BOUND, key


@pytest.mark.parametrize("name", record.DATA)
def test_batches(recorded, folder, name):
    found = record.small({f"data/{name}/{key}": array for key, array in live.run_data(torchcaffe, name, folder).items()})
    wanted = {key: array for key, array in recorded.items() if key.startswith(f"data/{name}/")}
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        np.testing.assert_array_equal(found[key], array, key)


@pytest.fixture(scope="module")
def trainings(folder):
    return live.run_solvers(torchcaffe, "torchcaffe", folder)


@pytest.mark.parametrize("name", [*cases.SOLVERS, *(f"resumed_{name}" for name in cases.RESUMED)])
def test_training(recorded, trainings, name):
    wanted, found = (part(arrays, f"train/{name}/") for arrays in (recorded, trainings))
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        bound = max(TRAIN_BOUND, SPREAD * float(recorded[f"spread/train/{name}/{key}"]))
        assert live.error(found[key], array) <= bound, key
        assert key != "loss" or np.abs(found[key][:3] / array[:3] - 1).max() <= BOUND


NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:e[-+]?\d+)?\b")


def numbers(line):
    return [float(x) for x in NUMBER.findall(line)]


@pytest.mark.parametrize("name", record.LOGS)
def test_log(recorded, folder, capsys, name):
    """Every line of the training: smoothed losses, rates, test outputs, final test, debug_info, clipping, snapshots."""
    assert main(record.write_log_case(folder, name)) == 0
    found, wanted = record.kept_lines(capsys.readouterr().err, folder), str(recorded[f"log/{name}"]).splitlines()
    assert [NUMBER.sub("#", line) for line in found] == [NUMBER.sub("#", line) for line in wanted]
    for mine, theirs in zip(found, wanted):
        np.testing.assert_allclose(numbers(mine), numbers(theirs), rtol=DIGITS, atol=1e-12, err_msg=theirs)
    assert sum(len(numbers(line)) for line in wanted) > 100

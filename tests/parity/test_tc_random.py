"""Layers and trainings at random on both engines. LIVE_RANDOM=1000 sets their number, LIVE_SEED another draw."""

import os
import subprocess

import numpy as np
import pytest

import torchcaffe

from . import live, random_layers, random_runs

SEED = int(os.environ.get("LIVE_SEED") or 2)
TIE = 3  # times what Caffe differs from itself by: where a ReLU's input is zero but for rounding, engines part, and so does Caffe


def count(usual):
    return list(range(int(os.environ.get("LIVE_RANDOM") or usual)))


@pytest.fixture
def in_caffe(real_caffe, tmp_path):
    """Return a function that runs numbered cases of a module in real Caffe, with another kernel of its BLAS if given."""
    def run(module, numbers, **more):
        out = str(tmp_path / "caffe.npz")
        command = [real_caffe, "-m", module.__name__, "caffe", str(SEED), ",".join(map(str, numbers)), out]
        done = subprocess.run(command, cwd=live.ROOT, env=live.environment(**more), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        with np.load(out) as found:
            return dict(found)
    return run


def accepted(ours, numbers):
    """Return the cases that torchcaffe took, nearly all; the others would end real Caffe's process."""
    taken = sorted({int(key.split()[0]) for key in ours})
    assert len(taken) > 0.9 * len(numbers)
    return taken


@pytest.mark.caffe
def test_random_layers(in_caffe, live_cases):
    ours = random_layers.run_all(torchcaffe, SEED, count(110))
    taken = accepted(ours, count(110))
    theirs = in_caffe(random_layers, taken)
    assert set(theirs) == set(ours)
    errors = {key: random_layers.error(ours[key], theirs[key]) for key in theirs}
    assert {key: error for key, error in errors.items() if not error <= 1e-5} == {}
    live_cases(len(taken))


@pytest.mark.caffe
def test_random_trainings(in_caffe, live_cases):
    ours = random_runs.run_all(torchcaffe, SEED, count(60))
    taken = accepted(ours, count(60))
    theirs, again = (in_caffe(random_runs, taken, **more) for more in ({}, {"OPENBLAS_CORETYPE": "NEHALEM"}))
    assert set(theirs) == set(ours)
    beyond = {}
    for number in taken:
        error, noise = (random_runs.errors(found, theirs, number) for found in (ours, again))
        if not all(one <= max(bound, TIE * floor) for one, bound, floor in zip(error, random_runs.BOUNDS, noise)):
            beyond[number] = (error, noise)
    assert beyond == {}
    live_cases(len(taken))

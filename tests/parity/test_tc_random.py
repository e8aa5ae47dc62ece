"""Layers with random fields and shapes on both engines. LIVE_RANDOM=1000 sets their number, LIVE_SEED another draw."""

import os
import subprocess

import numpy as np
import pytest

import torchcaffe

from . import live, random_layers

COUNT, SEED = int(os.environ.get("LIVE_RANDOM") or 110), int(os.environ.get("LIVE_SEED") or 2)


@pytest.mark.caffe
def test_random_layers(real_caffe, live_cases, tmp_path):
    ours = random_layers.run_all(torchcaffe, SEED, list(range(COUNT)))
    accepted = sorted({int(key.split()[0]) for key in ours})
    assert len(accepted) > 0.9 * COUNT  # what torchcaffe refuses would end real Caffe's process
    out = str(tmp_path / "caffe.npz")
    command = [real_caffe, "-m", "tests.parity.random_layers", "caffe", str(SEED), ",".join(map(str, accepted)), out]
    environment = {**os.environ, "GLOG_minloglevel": "2", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=live.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as theirs:
        assert set(theirs.files) == set(ours)
        errors = {key: random_layers.error(ours[key], theirs[key]) for key in theirs.files}
    assert {key: error for key, error in errors.items() if not error <= 1e-5} == {}
    live_cases(len(accepted))

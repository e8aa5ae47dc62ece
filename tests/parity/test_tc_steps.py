"""Single steps of torchcaffe from real Caffe's own weights and history (steps.py): loss, gradients, update and history."""

import os

import pytest

import torchcaffe

from . import cases, live, steps

SEED = int(os.environ.get("LIVE_SEED") or 2)
TIED = 0.5  # of all steps and kinds, at most, may have a bound of their own, else it would be no test


def solver_jobs(folder):
    """Return a job for each of the six solvers, from the same weights."""
    live.prepare(folder)
    return [{"name": name, "folder": folder, "solver": os.path.join(folder, f"{name}_caffe.prototxt"), "restore": None,
             "weights": [os.path.join(folder, "start.caffemodel")], "steps": count} for name, (_, count) in cases.SOLVERS.items()]


def random_jobs(folder):
    jobs = [steps.random_job(folder, SEED, number) for number in range(int(os.environ.get("LIVE_RANDOM") or 24))]
    taken = []
    for job in jobs:
        try:
            steps.lead(torchcaffe, job)
        except torchcaffe.CaffeError:  # it would end real Caffe's process
            continue
        taken.append(job)
    assert len(taken) > 0.9 * len(jobs)
    return taken


@pytest.mark.slow
@pytest.mark.caffe
@pytest.mark.parametrize("make", [solver_jobs, random_jobs])
def test_each_step_from_caffes_own_state(real_caffe, live_cases, tmp_path, make):
    jobs = make(str(tmp_path))
    found = steps.compare(real_caffe, str(tmp_path), jobs)
    assert len(found["torchcaffe"]) == sum(job["steps"] for job in jobs) * len(steps.KINDS)
    beyond, ties = steps.judged(found)
    assert beyond == []
    assert ties < TIED * len(found["torchcaffe"])
    live_cases(len(found["torchcaffe"]) // len(steps.KINDS))


def test_a_step_beyond_its_bound_is_found():
    rows = [("a", 0, "loss", 2e-5), ("a", 1, "loss", 2e-5), ("a", 2, "loss", float("nan"))]
    quiet = [("a", 0, "loss", 1e-7), ("a", 1, "loss", 1e-5), ("a", 2, "loss", 1.0)]
    assert steps.judged({"torchcaffe": rows, "noise": quiet}) == ([(rows[0], 1e-5), (rows[2], 3.0)], 2)
    other = [(*row[:3], 1e-5 if row[1] == 0 else 0.0) for row in quiet]  # of Caffe with another kernel
    assert steps.judged({"torchcaffe": rows, "noise": quiet, "NEHALEM": other}) == ([(rows[2], 3.0)], 3)

"""Single steps, each from real Caffe's own weights and history: `python -m tests.parity.steps ENGINE ROLE JOBS.json OUT.npz`.

Caffe leads: it trains and takes a snapshot before each step. Another engine, or Caffe with another kernel of its BLAS, follows:
it goes on from each of these snapshots by one step. What a whole run hides behind the drift of near ties shows itself here.

Near ties there are in single steps too: where a ReLU's input is zero but for rounding, Caffe's own kernels part. Which steps
have them Caffe itself says: it takes each step again from weights that are changed by NOISE of their size, at random, and with
other kernels of its BLAS where these are asked for. Where that changes an array by more than a third of the bound, SPREAD times
that change is the bound.

Needs numpy only, as it runs on both Pythons. A job is {name, folder, solver, weights, restore, steps}, or {name, folder, seed,
number} for a net of random_runs.py.
"""

import importlib
import json
import os
import re
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from . import live, random_runs

KINDS = ("loss", "gradient", "update", "history")
BOUND, SPREAD = 1e-5, 3
NOISE, REPEATS = 3e-7, 16  # how much weights are changed, about what rounding does to sums, and how often
LEAST = 1e-2  # of the largest value of a kind in a step: what smaller arrays are measured by, hardly more than rounding
Row = Tuple[str, int, str, float]  # job, step, kind, error


def random_job(folder: str, seed: int, number: int) -> Dict[str, Any]:
    """Write a random net and solver of random_runs.py; return the job."""
    r, name = np.random.RandomState(seed * 100003 + number), f"random {number}"
    net, solver = (os.path.join(folder, f"{kind}_{number}.prototxt") for kind in ("net", "solver"))
    for path, text in ((net, random_runs.net_text(r)), (solver, "")):
        with open(path, "w") as file:
            file.write(text or random_runs.solver_text(r, net))
    return {"name": name, "folder": folder, "solver": solver, "weights": [], "restore": None, "steps": random_runs.STEPS,
            "random": list(map(int, r.randint(0, 2**31, 1)))}


def _open(caffe: Any, job: Dict[str, Any], role: str) -> Tuple[Any, str]:
    """Return the solver of a job, its snapshots under a prefix of the role, and the prefix."""
    prefix = os.path.join(job["folder"], re.sub(r"\W+", "_", f"{job['name']} {role}"))
    with open(job["solver"]) as file:
        text = re.sub(r"\b(snapshot|snapshot_prefix|snapshot_format|snapshot_after_train|test_iter|test_interval|"
                      r'test_initialization|display)\s*:\s*("[^"]*"|\w+)', "", file.read())
    path = prefix + ".prototxt"
    with open(path, "w") as file:
        file.write(text + f'\nsnapshot_prefix: "{prefix}" snapshot_after_train: false display: 0\n')
    solver = caffe.get_solver(path)
    if "random" in job:
        random_runs._start(solver.net, np.random.RandomState(job["random"][0]))
    for weights in job["weights"]:
        solver.net.copy_from(weights)
    if job["restore"]:
        solver.restore(job["restore"])
    return solver, prefix


def _recorded(solver: Any) -> Iterator[live.Arrays]:
    """Yield what each of the solver's steps gives, without end."""
    gradients: live.Arrays = {}

    def blobs(kind: str) -> live.Arrays:
        return {f"{kind}:{name}:{i}": b.diff.copy() for name, bs in solver.net.params.items() for i, b in enumerate(bs)}
    solver.add_callback(lambda: None, lambda: gradients.update(blobs("gradient")))
    while True:
        solver.step(1)
        losses = {f"loss:{name}": np.array(solver.net.blobs[name].data) for name in solver.net.outputs
                  if solver.net.blob_loss_weights[name]}
        yield {**losses, **gradients, **blobs("update")}


def lead(caffe: Any, job: Dict[str, Any]) -> live.Arrays:
    """Train; return what each step gives, and leave a snapshot before and after each."""
    solver, _ = _open(caffe, job, "lead")
    solver.snapshot()
    found: live.Arrays = {}
    for _, arrays in zip(range(job["steps"]), _recorded(solver)):
        solver.snapshot()
        found.update({f"{job['name']}/{solver.iter - 1}/{key}": array for key, array in arrays.items()})
    return found


def follow(caffe: Any, job: Dict[str, Any], role: str) -> live.Arrays:
    """Go on from each of the leader's snapshots by one step; return what it gives, and leave a snapshot of it."""
    solver, prefix = _open(caffe, job, role)
    random = np.random.RandomState(int(role[len("noise"):])) if role.startswith("noise") else None
    first, found = solver.iter, {}  # type: Tuple[int, live.Arrays]
    steps = _recorded(solver)
    for at in range(first, first + job["steps"]):
        solver.restore(f"{prefix[:-len(role)]}lead_iter_{at}.solverstate")
        for blob in (blob for name in solver.net.params for blob in solver.net.params[name] if random):
            blob.data[...] *= 1 + NOISE * random.randn(*blob.data.shape)
        found.update({f"{job['name']}/{at}/{key}": array for key, array in next(steps).items()})
        solver.snapshot()
    return found


def run(caffe: Any, role: str, jobs: List[Dict[str, Any]]) -> live.Arrays:
    """Return what a role gives in all jobs."""
    found: live.Arrays = {}
    for job in jobs:
        print(job["name"], file=sys.stderr, flush=True)  # the last one, should Caffe end the process
        if role == "lead":
            found.update(lead(caffe, job))
        for one in [f"noise{i}" for i in range(REPEATS)] if role == "noise" else [role] * (role != "lead"):
            found.update({f"{one}/{key}" if role == "noise" else key: array for key, array in follow(caffe, job, one).items()})
    return found


def run_caffe(python: str, folder: str, role: str, jobs: List[Dict[str, Any]], cwd: str, **more: str) -> live.Arrays:
    """Run a role in real Caffe, with another kernel of its BLAS if given."""
    path, out = os.path.join(folder, "jobs.json"), os.path.join(folder, f"{role}.npz")
    with open(path, "w") as file:
        json.dump(jobs, file)
    env = {**live.environment(**more), "PYTHONPATH": live.ROOT}
    done = subprocess.run([python, "-m", "tests.parity.steps", "caffe", role, path, out], cwd=cwd, env=env, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"real Caffe ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-3000:]}")
    with np.load(out) as arrays:
        return dict(arrays)


def add_history(found: live.Arrays, jobs: List[Dict[str, Any]], role: str) -> live.Arrays:
    """Return the results with the history after each step, from the role's snapshots."""
    from torchcaffe.snapshot import read_state
    more: live.Arrays = {}
    for name, at in {tuple(key.split("/")[:2]) for key in found}:
        job = next(job for job in jobs if job["name"] == name)
        prefix = os.path.join(job["folder"], re.sub(r"\W+", "_", f"{name} {role}"))
        _, _, _, history = read_state(f"{prefix}_iter_{int(at) + 1}.solverstate")
        more.update({f"{name}/{at}/history:{i}": array for i, array in enumerate(history)})
    return {**found, **more}


def errors(found: live.Arrays, wanted: live.Arrays) -> List[Row]:
    """Return the largest error of each step and kind, relative to the array's largest value."""
    assert found.keys() == wanted.keys()
    groups: Dict[Tuple[str, int, str], List[str]] = {}
    for key in wanted:
        name, at, what = key.split("/", 2)
        groups.setdefault((name, int(at), what.split(":")[0]), []).append(key)
    rows = []
    for (name, at, kind), keys in sorted(groups.items()):
        least = LEAST * max(np.abs(wanted[key]).max() for key in keys if wanted[key].size)
        error = max(float(np.abs(found[key].astype(float) - wanted[key]).max() / max(np.abs(wanted[key]).max(), least, 1e-30))
                    for key in keys)
        rows.append((name, at, kind, error))
    return rows


def noise(python: str, folder: str, jobs: List[Dict[str, Any]], cwd: str, wanted: live.Arrays) -> List[Row]:
    """Return the largest change of each step and kind when Caffe's weights are changed a little."""
    found = run_caffe(python, folder, "noise", jobs, cwd)
    largest: Dict[Tuple[str, int, str], float] = {}
    for i in range(REPEATS):
        role = f"noise{i}"
        mine = {key[len(role) + 1:]: array for key, array in found.items() if key.startswith(role + "/")}
        for name, at, kind, error in errors(add_history(mine, jobs, role), wanted):
            largest[name, at, kind] = max(error, largest.get((name, at, kind), 0))
    return [(*key, error) for key, error in sorted(largest.items())]


def compare(python: str, folder: str, jobs: List[Dict[str, Any]], kernels: Tuple[str, ...] = (),
            cwd: Optional[str] = None) -> Dict[str, List[Row]]:
    """Return the errors of torchcaffe, of Caffe with other kernels and with changed weights, each against Caffe as usual."""
    import torchcaffe
    cwd = cwd or live.ROOT
    wanted = add_history(run_caffe(python, folder, "lead", jobs, cwd), jobs, "lead")
    before = os.getcwd()
    os.chdir(cwd)
    try:
        torchcaffe.set_mode_cpu()
        found = {"torchcaffe": errors(add_history(run(torchcaffe, "torchcaffe", jobs), jobs, "torchcaffe"), wanted)}
        for kernel in kernels:
            again = run_caffe(python, folder, kernel, jobs, cwd, OPENBLAS_CORETYPE=kernel)
            found[kernel] = errors(add_history(again, jobs, kernel), wanted)
        found["noise"] = noise(python, folder, jobs, cwd, wanted)
    finally:
        os.chdir(before)
    return found


def own_changes(found: Dict[str, List[Row]]) -> Dict[Tuple[str, int, str], float]:
    """Return by how much Caffe differs from itself in each step and kind, at most."""
    largest: Dict[Tuple[str, int, str], float] = {}
    for name, at, kind, error in (row for engine, rows in found.items() if engine != "torchcaffe" for row in rows):
        largest[name, at, kind] = max(error, largest.get((name, at, kind), 0))
    return largest


def judged(found: Dict[str, List[Row]]) -> Tuple[List[Tuple[Row, float]], int]:
    """Return the steps of torchcaffe that are beyond their bound, with it, and how many have near ties."""
    bounds = {key: max(BOUND, SPREAD * change) for key, change in own_changes(found).items()}
    beyond = [(row, bounds[row[:3]]) for row in found["torchcaffe"] if not row[3] <= bounds[row[:3]]]
    return beyond, sum(bound > BOUND for bound in bounds.values())


if __name__ == "__main__":
    engine, role_, jobs_, out_ = sys.argv[1:]
    with open(jobs_) as source:
        np.savez(out_, **run(importlib.import_module(engine), role_, json.load(source)))

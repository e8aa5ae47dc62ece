"""The same work on a Dask cluster of two local workers."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_tools import __main__ as cli
from data_tools import cluster, parallel, steps
from data_tools.errors import DataError

ROOT = Path(cli.__file__).parents[1]
OUTSIDE = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def start(folder, *words):
    with open(folder / f"{words[0].split('.')[-1]}.log", "ab") as log:
        return subprocess.Popen([sys.executable, "-m", *words, "--no-dashboard"], cwd=str(folder), env=OUTSIDE, stderr=log,
                                stdout=log)


def start_worker(folder, address):
    return start(folder, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def scheduler(folder):
    """Start a scheduler; return its address."""
    process = start(folder, "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1")
    log, deadline = folder / "dask_scheduler.log", time.monotonic() + 60
    while not (found := re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text())):
        assert process.poll() is None
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    yield found.group()
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def workers(folder, scheduler):
    """Start two workers of one thread; return their processes."""
    processes = [start_worker(folder, scheduler) for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def data(folder):
    cli.main(["synthetic", "--out", str(folder / "data"), "--train", "40", "--val", "3", "--height", "90", "--width", "120"])
    return folder / "data" / "train"


def run(*words):
    return subprocess.Popen([sys.executable, "-m", "data_tools", *map(str, words)], env=OUTSIDE, cwd=str(ROOT),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def content(folder):
    """Return the bytes of a folder's files; of the step's record what decides, as the rest are stamps and dates."""
    record = steps.find_record(folder)
    hashes = [{name: digest for name, (digest, _) in marks.items()} for marks in (record.inputs, record.outputs)]
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in steps.RECORDS}
    return files, record.parameters, hashes


@pytest.mark.slow
def test_a_cluster_gives_the_same_bytes_even_when_a_worker_is_killed(folder, data, scheduler, workers):
    """Hair removal and an LMDB, serial and on the cluster; one of the two workers is killed in the middle of both."""
    for jobs, name in ((["--jobs", "1"], "serial"), (["--scheduler", scheduler], "cluster")):
        clean = run("clean", "--images", data, "--out", folder / name, *jobs)
        lost = kill_later(workers[0], lambda: len(list((folder / "cluster").glob("*.jpg"))) > 4) if name == "cluster" else None
        finish(clean)
        if lost:
            lost.join(60)
            assert workers[0].wait(5) == -signal.SIGKILL
            workers[0] = start_worker(folder, scheduler)
        lmdb = run("lmdb", "--images", folder / name, "--out", folder / f"{name}_db", "--encoding", "png", *jobs)
        lost = kill_later(workers[1], (folder / f".{name}_db.partial" / "data.mdb").exists) if lost else None
        assert "1200 records" in finish(lmdb)
        if lost:
            lost.join(60)
            assert workers[1].wait(5) == -signal.SIGKILL
            workers[1] = start_worker(folder, scheduler)
    assert content(folder / "serial") == content(folder / "cluster")
    assert content(folder / "serial_db") == content(folder / "cluster_db")


def kill_later(process, condition):
    """Kill a process once a condition holds; return the thread that waits for it."""
    def wait():
        while not condition():
            time.sleep(0.002)
        process.kill()
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_an_error_in_a_worker_is_one_line(folder, data, scheduler, workers):
    (folder / "broken").mkdir()
    for path in data.iterdir():
        cut = -9 if path.suffix == ".jpg" else None
        (folder / "broken" / path.name).write_bytes(path.read_bytes()[:cut])
    process = run("lmdb", "--images", folder / "broken", "--out", folder / "x", "--scheduler", scheduler)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    problem, = (line for line in err.splitlines() if not line.startswith("note: "))
    assert problem.startswith("error: 40 of 40 pictures cannot be read: ")


def use(address):
    with parallel.workers(address) as pool:
        list(pool.map(sorted, [1], 1, 1))


@pytest.mark.parametrize(("address", "words"), [("tcp://127.0.0.1:9", "no Dask scheduler answers there"),
                                               ("nonsense://x", "no Dask scheduler answers there")])
def test_no_scheduler_is_one_line(monkeypatch, address, words):
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    with pytest.raises(DataError, match=words):
        use(address)


def test_dask_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DataError, match=r"pip install '\.\[dask\]' in the project's folder"):
        use("tcp://127.0.0.1:9")

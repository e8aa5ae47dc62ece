"""What the image `cpu` does: the whole pipeline as a user whom it does not know, a stop and a go, what it may write."""

import filecmp
import os
import signal
import time

import pytest

from tests.images.conftest import LIMIT

NARROW = ["NET=vgg_gap_narrow", "AUGMENT=none"]
TINY = [*NARROW, "SOLVERS=tiny/"]


@pytest.fixture(scope="module")
def pictures(cpu):
    """Return the folder of pictures that the image made, moved out of the checkout."""
    for _ in range(2):  # over those that are there, too
        cpu.docker_run("python3 -m data_tools synthetic --out data/isic2017 --train 12 --val 6")
    return (cpu.project / "data" / "isic2017").rename(cpu.folder / "pictures")


@pytest.fixture(scope="module")
def run(cpu, pictures):
    """Return a run of the whole pipeline, outside the checkout like its pictures, step by step as one types it."""
    folder = cpu.folder / "runs" / "inside"
    words = [f"ISIC={pictures}", f"RUN={folder}", *TINY]
    for step in ("stage1", "crops", "stage2", "report"):
        cpu.timed(f"make docker-run CMD=\"make {step}\"", "docker-run", "TARGET=cpu", f"CMD=make {step}", *words)
    return folder


def test_help_names_no_place_that_is_nowhere(cpu):
    said = cpu.docker_run("make help")
    assert "make stage1" in said
    assert "/none" not in said


def test_caffe_answers_on_its_command_line(cpu):
    assert "caffe version 1.0.0" in cpu.docker_run("caffe -version")


def test_everything_belongs_to_the_one_who_ran_it(cpu, run, pictures):
    files = [path for top in (run, pictures, cpu.project) for path in top.rglob("*")]
    assert len(files) > 100
    assert {path.lstat().st_uid for path in files} == {cpu.user}
    objects = [path for path in (cpu.project / ".git" / "objects").rglob("*") if path.is_file()]
    assert {path.stat().st_nlink for path in objects} == {1}  # a file of the repository itself would have got this owner, too


def test_caffe_outside_makes_the_same_records_boxes_and_probabilities(cpu, run, pictures, real_caffe):
    outside = cpu.folder / "runs" / "outside"
    cpu.make("report", f"PYTHON={real_caffe}", "ENGINE=caffe", f"ISIC={pictures}", f"RUN={outside}", *TINY)
    names = [path.relative_to(run) for pattern in ("lmdb/*/data.mdb", "crops/*/boxes.csv", "results/stage*.csv")
             for path in sorted(run.glob(pattern))]
    assert len(names) == 4 + 2 + 2
    assert [name for name in names if not filecmp.cmp(run / name, outside / name, shallow=False)] == []


def test_pictures_are_read_only_but_for_what_makes_them(cpu, pictures):
    said = cpu.make("docker-run", "TARGET=cpu", f"CMD=touch {pictures}/new", f"ISIC={pictures}", status=2)
    assert "Read-only file system" in said
    (cpu.folder / "broken-off").mkdir()
    cpu.own()
    for folder in (cpu.folder / "broken-off", cpu.folder / "new"):
        said = cpu.make("docker-run", "TARGET=cpu", "CMD=make data", f"ISIC={folder}", "OPTIONS=--network none", status=2)
        assert "Read-only" not in said
        assert "error: " in said  # the fetching ends there
        assert folder.stat().st_uid == cpu.user


def test_a_signal_stops_a_training_which_then_goes_on(cpu, pictures):
    cpu.solver("long", max_iter=12, test_iter=1, test_interval=1000, snapshot=1000, display=1)
    folder = cpu.folder / "runs" / "stopped"
    words = ["docker-run", "TARGET=cpu", "CMD=make stage1", f"ISIC={pictures}", f"RUN={folder}", *NARROW, "SOLVERS=long/"]
    training = cpu.start("sh", "-c", "" + cpu.make("--dry-run", *words).splitlines()[0].replace("&& ", "&& exec "))
    log = folder / "stage1" / "train.log"
    deadline = time.monotonic() + LIMIT
    while not (log.exists() and "Iteration 2 " in log.read_text(errors="replace")):
        assert training.poll() is None, training.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(training.pid, signal.SIGINT)
    said = training.communicate(timeout=LIMIT)[0]
    assert training.returncode == 130, said
    (state,) = (folder / "stage1").glob("*.solverstate")
    assert "_iter_12." not in state.name, said  # a make that is told alone waits for the end
    said = cpu.docker_run("make stage1", *words[3:])
    assert state.name in said
    assert "stage1 after 12 iterations" in said

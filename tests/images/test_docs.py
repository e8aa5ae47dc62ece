"""Each command of docs/docker.md, as it stands, in its order: on a checkout whose solvers stop after two iterations."""

import re
import shlex
import shutil

import pytest

from tests.docs import markdown

PAGE = markdown.ROOT / "docs" / "docker.md"
FEW = {"max_iter": 2, "test_iter": 1, "test_interval": 2, "snapshot": 2, "display": 1, "solver_mode": "CPU"}
NO_REGISTRY = ("docker pull", "docker inspect", "make docker DIGEST=")  # need one that has the base: test_pin.py
ELSEWHERE = ("make caffe", "make test-images")  # the first came before this, the second is this


@pytest.fixture(scope="module")
def reader(cpu, stand_in):
    """Return the desk as a reader of the page has it, with pictures, a laboratory's image and narrow networks."""
    gpu = stand_in("gpu", "debian:12-slim", DOCKER_BUILDKIT="1")
    cpu.variables.update(GPU_BASE=gpu, TORCH_BASE=stand_in("torch", "debian:12-slim", DOCKER_BUILDKIT="1"), GPUS="", PWD="")
    there = cpu.project / "prototxt"
    for name in ("train_val", "deploy"):
        text = (there / f"vgg_gap_narrow_{name}.prototxt").read_text()
        (there / f"vgg_gap_{name}.prototxt").write_text(re.sub(r"batch_size: 32", "batch_size: 4", text))
    for path in (cpu.project / "solvers").glob("*stage?.prototxt"):
        lines = [line for line in path.read_text().splitlines() if line.split(":")[0] not in FEW]
        path.write_text("\n".join([*lines, *(f"{name}: {value}" for name, value in FEW.items())]) + "\n")
    cpu.docker_run("python3 -m data_tools synthetic --out data/read --train 4 --val 6")
    (cpu.project / "data" / "read").rename(cpu.folder / "isic2017")
    cpu.own()
    yield cpu
    for name in ("GPU_BASE", "TORCH_BASE", "GPUS"):
        del cpu.variables[name]
    shutil.rmtree(cpu.project / "build", ignore_errors=True)


def test_commands(reader):
    ran = 0
    for where, text in markdown.commands(PAGE):
        if text.startswith((*NO_REGISTRY, *ELSEWHERE)):
            continue
        text = text.replace("/data/", f"{reader.folder}/").replace("lab/caffe:2.0", reader.variables["GPU_BASE"])
        process = reader.start("sh", "-c", text, DOCKER_BUILDKIT="1")
        said = process.communicate()[0]
        blind = "GPU=0" in shlex.split(text)  # no GPU here: the doctor must say so
        assert (process.returncode, "FAIL" in said) == ((2, True) if blind else (0, False)), f"{where}: {text}: {said[-4000:]}"
        assert "Matplotlib created" not in said, f"{where}: {text}"
        ran += 1
    assert ran > 8

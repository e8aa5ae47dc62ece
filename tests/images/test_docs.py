"""Each command of docs/docker.md, as it stands, in its order: on a checkout whose solvers stop after two iterations."""

import os
import re
import shlex
import shutil

import pytest

from tests.docs import markdown
from tests.images.conftest import ENGINE, builder

PAGE = markdown.ROOT / "docs" / "docker.md"
FEW = {"max_iter": 2, "test_iter": 1, "test_interval": 2, "snapshot": 2, "display": 1, "solver_mode": "CPU"}
REGISTRY = os.environ.get("IMAGES_REGISTRY")  # of an engine that tools/test-images.sh started: what public names stand for
PINS = ("docker pull", "docker inspect", "make docker DIGEST=")  # need a registry that has the base
OPTIONS = {"--network none", "--read-only", "label=disable", "--user 0:0"}  # offline, read-only, SELinux, a rootless engine
ELSEWHERE = ("make caffe", "make test-images")  # the first came before this, the second is this


@pytest.fixture(scope="module")
def reader(cpu, gpu, torch):
    """Return the desk as a reader of the page has it, with pictures, a laboratory's image and narrow networks."""
    cpu.variables.update(GPU_BASE=gpu[0], TORCH_BASE=torch[0], GPUS="", PWD="")
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
    ran = []
    for where, text in markdown.commands(PAGE):
        if text.startswith((*PINS, *ELSEWHERE)):
            continue
        text = text.replace("/data/", f"{reader.folder}/").replace("lab/caffe:2.0", reader.variables["GPU_BASE"])
        process = reader.start("sh", "-c", text, **builder("torch" if "TARGET=torch" in text else ""))
        said = process.communicate()[0]
        blind = "GPU=0" in shlex.split(text)  # no GPU here: the doctor must say so
        assert (process.returncode, "FAIL" in said) == ((2, True) if blind else (0, False)), f"{where}: {text}: {said[-4000:]}"
        assert "Matplotlib created" not in said, f"{where}: {text}"
        ran.append(text.partition(" CMD=")[0])
    assert len(ran) > 8
    assert {option for text in ran for option in OPTIONS if option in text} == OPTIONS


@pytest.mark.skipif(ENGINE == "found", reason="the engine that answers has no registry of the tests")
def test_a_base_is_pinned_by_the_digest_that_the_engine_tells(reader):
    pull, inspect, build = (text for _, text in markdown.commands(PAGE) if text.startswith(PINS))
    name = f"{REGISTRY}/{pull.split()[-1]}"
    reader.run("docker", "tag", reader.variables["GPU_BASE"], name)
    reader.run("docker", "push", "--quiet", name)
    reader.run("docker", "rmi", name)

    def said(text, status=0):
        return reader.run("sh", "-c", text, status=status, GPU_BASE="duruyao/caffe:gpu", **builder("gpu"))
    said(pull)
    found = re.search(r"^duruyao/caffe@(sha256:[0-9a-f]{64})$", said(inspect), re.MULTILINE).group(1)
    assert f"BASE=duruyao/caffe:gpu@{found}" in said(build.replace("sha256:...", found))
    said(build.replace("sha256:...", "sha256:" + "0" * 64), status=2)  # other contents are no longer taken

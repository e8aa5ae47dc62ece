"""What is built: `cpu` as it is, `gpu` and `torch` on stand-ins for their bases; and builds that must end in one line."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.conftest import ENGINE, LITTER, builder

ROOT = Path(__file__).resolve().parents[2]


def error(said):
    """Return the one line that a build ended with, whatever the builder puts before it and behind it."""
    lines = {re.sub(r"^(#\d+ [\d.]+ |\x1b\[\d+m)*", "", line).replace("\x1b[0m", "").rstrip() for line in said.splitlines()}
    found = [line for line in lines if line.startswith("error: ")]
    assert len(found) == 1, said[-3000:]
    return found[0]


# ---------------------------------------------------------------- cpu
def test_the_command_that_make_prints_is_the_one_it_runs(cpu):
    command = cpu.cpu_built.splitlines()[0]
    assert command.startswith("docker build --file docker/cpu.Dockerfile --build-arg BASE=")
    cpu.run(*shlex.split(command), **builder("cpu"))


def test_a_second_build_takes_seconds(cpu):
    assert min(cpu.timed("second build of cpu", "docker", "TARGET=cpu", **builder("cpu"))[0] for _ in range(2)) < 5


def test_packages_ask_nothing_while_they_are_installed(cpu):
    assert "debconf: unable to initialize frontend" not in cpu.cpu_built


def test_the_image_is_of_a_known_size(cpu):
    assert 600e6 < int(cpu.inspect("cpu", ".Size")) < 1000e6


def test_the_image_holds_the_code_and_nothing_that_lay_about(cpu):
    held = cpu.run("docker", "run", "--rm", "--entrypoint", "find", cpu.image("cpu"), "/project", "-type", "f", "-printf",
                   "%U:%G %s %P\n").splitlines()
    found = {name: (owner, int(size)) for owner, size, name in (line.split(" ", 2) for line in held if line[:1].isdigit())}
    assert {"Makefile", "pycam/train.py", "docker/images.mk", "solvers/stage1.prototxt"} <= set(found)
    assert {owner for owner, _ in found.values()} == {"1000:1000"}
    assert max(size for _, size in found.values()) < 2 * 10 ** 6  # the trained networks, models/
    assert not set(LITTER) & set(found)
    assert not {"pictures", "results", "data", "tests", "docs"} & {name.split("/")[0] for name in found}


def test_the_image_alone_runs_the_code_that_it_holds(cpu):
    assert "make stage1" in cpu.run("docker", "run", "--rm", cpu.image("cpu"), "help")


def test_the_cache_of_matplotlib_is_there_for_every_user(cpu):
    said = cpu.docker_run("find /var/cache/matplotlib -name fontlist*.json -readable -writable")
    assert re.search(r"^/var/cache/matplotlib/fontlist.*\.json$", said, re.MULTILINE)


# ---------------------------------------------------------------- mirrors
@pytest.fixture(scope="module")
def left(cpu):
    """Return a Debian 11 whose mirrors are gone and whose lists of packages count as expired, as after its end."""
    name = "skin-lesion-cam-base:left"
    text = f"""FROM {cpu.variables.get('CPU_BASE', 'debian:11-slim')}
RUN grep -h -o '[a-z]*://[^ ]*/debian/* ' /etc/apt/sources.list | head -n 1 >/mirror \\
 && sed -i -E 's#://[^/]*/#://127.0.0.1:9/#' /etc/apt/sources.list \\
 && echo 'Acquire::Max-ValidTime "1";' >/etc/apt/apt.conf.d/expired
"""
    subprocess.run(["docker", "build", "--quiet", "--tag", name, "-"], input=text, text=True, check=True, capture_output=True)
    return name


def install(cpu, image, *options):
    command = ["docker", "run", "--rm", "--network", "host", "-v", f"{cpu.project}/docker:/docker:ro", *options, image]
    return subprocess.run([*command, "sh", "-c", 'eval "$MORE"; sh /docker/install-packages.sh tini && tini --version'],
                          capture_output=True, text=True, check=False)


def test_dead_mirrors_end_the_build_in_one_line(cpu, left):
    build = ["docker", "TARGET=cpu", f"CPU_BASE={left}", "IMAGE=never"]
    said = cpu.make(*build, "DEBIAN_MIRROR=", status=2, **builder("cpu"))
    assert re.match("error: no list of packages from the mirrors of the base image .*DEBIAN_MIRROR", error(said))
    said = cpu.make(*build, "DEBIAN_MIRROR=http://127.0.0.1:9/old", status=2, **builder("cpu"))
    assert error(said).startswith("error: no list of packages from http://127.0.0.1:9/old ")


def test_a_mirror_that_is_named_is_used_with_its_security_updates_however_old_its_lists(cpu, left):
    here = cpu.run("docker", "run", "--rm", "--network", "none", left, "cat", "/mirror").strip()
    mirror = cpu.variables.get("DEBIAN_MIRROR", here)
    done = install(cpu, left, "-e", f"DEBIAN_MIRROR={mirror}")
    assert done.returncode == 0, done.stderr
    assert "tini version" in done.stdout
    assert f"{mirror.rstrip('/')}-security bullseye-security" in done.stdout
    alive = f"MORE=sed -i s#127.0.0.1:9#{mirror.split('/')[2]}# /etc/apt/sources.list"  # as long as they were there, their lists
    done = install(cpu, left, "-e", alive)
    assert (done.returncode, "expired" in done.stdout + done.stderr) == (1, True)


def test_dead_mirrors_end_the_installer_without_docker_in_one_line(desk):
    done = subprocess.run(["sh", str(ROOT / "tools" / "install_caffe.sh"), str(desk.folder / "caffe")], text=True, check=False,
                          env={**os.environ, "PYTHON": sys.executable, "DEBIAN_MIRROR": "http://127.0.0.1:9/debian"},
                          capture_output=True)
    assert done.returncode == 1
    assert error(done.stderr).startswith("error: http://127.0.0.1:9/debian gave no list of Debian 11 packages")


# ---------------------------------------------------------------- gpu and torch
@pytest.mark.skipif(ENGINE == "found", reason="the engine that answers may have no builder before BuildKit")
def test_a_builder_that_works_through_all_stages_pulls_one_base_alone(torch):
    assert re.findall(r"^Step \d+/\d+ : FROM (.*)", torch[1], re.MULTILINE) == ["${BASE}"]


def test_torchcaffe_trains_in_the_image(desk, torch):
    found = importlib.util.find_spec("torch")
    if sys.version_info[:2] != (3, 11) or not found:
        pytest.skip("this Python has no torch for Python 3.11 that could take the place of the stand-in's")
    run = ["docker-run", "TARGET=torch", "GPUS=", f"OPTIONS=-v {Path(found.origin).parents[1]}:/torch:ro"]
    desk.make(*run, "CMD=python3 -m data_tools synthetic --out data/torch --train 12 --val 6")
    said = desk.make(*run, "CMD=make stage1", "ISIC=data/torch", "RUN=build/torch", "NET=vgg_gap_narrow", "SOLVERS=tiny/",
                      "AUGMENT=none")
    assert "python3 -m torchcaffe train" in said
    assert "build/torch/stage1/final.caffemodel: stage1 after 4 iterations" in said


def test_a_base_without_caffe_ends_the_build_in_one_line(desk):
    said = desk.make("docker", "GPU_BASE=debian:12-slim", "IMAGE=never", status=2, **builder("cpu"))
    assert error(said) == "error: the base image does not do: it has no python3; GPU_BASE= names another one (docs/docker.md)"


def test_the_caffe_of_a_laboratory_trains_in_gpu(cpu):
    base = cpu.stand_in("lab", cpu.image("cpu"), file="lab")
    image = "IMAGE=skin-lesion-cam-test:lab"
    cpu.timed("first build of gpu on a laboratory's Caffe", "docker", f"GPU_BASE={base}", image, **builder("cpu"))
    lab = ["docker-run", image, "GPUS="]
    cpu.make(*lab, "CMD=python3 -m data_tools synthetic --out data/lab --train 12 --val 6")
    words = ["ISIC=data/lab", "RUN=build/lab", "NET=vgg_gap_narrow", "SOLVERS=tiny/", "AUGMENT=none"]
    assert "FAIL" not in cpu.make(*lab, "CMD=make doctor", *words)
    assert "build/lab/stage1/final.caffemodel: stage1 after 4 iterations" in cpu.make(*lab, "CMD=make stage1", *words)
    without = f"FROM {base}\nENV NVIDIA=/etc/hostname\n"  # as if a GPU were there, for which this Caffe is not made
    subprocess.run(["docker", "build", "--quiet", "--tag", f"{base}-gpu", "-"], input=without, text=True, check=True,
                   capture_output=True)
    said = cpu.make("docker", f"GPU_BASE={base}-gpu", "IMAGE=never", status=2, **builder("cpu"))
    assert "its caffe cannot train on the GPU (" in error(said)
    assert "CPU-only" in error(said)

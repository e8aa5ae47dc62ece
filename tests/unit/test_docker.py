"""The Dockerfile and its version files, as far as they can be checked without Docker."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PINS = ["constraints-gpu.txt", "constraints-torch.txt"]
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

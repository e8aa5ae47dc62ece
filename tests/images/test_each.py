"""What holds for each of the three images: its packages, what any user finds in it, where it comes from, how it is stopped."""

import os
import signal

import pytest
from packaging.utils import canonicalize_name

from tests.images.conftest import ROOT
from tests.unit.test_docker import IMAGES, PINNED, pins

PACKAGES = "cv2, lmdb, matplotlib.pyplot, msgspec, skimage, sklearn, tqdm"
OWN = {"cpu": "caffe, h5py", "gpu": "caffe", "torch": "torch, h5py"}  # only torchcaffe reads HDF5 by itself
FINDS = "getpass.getuser(), os.path.expanduser(chr(126)), sys.stdout.write_through"
WAITS = "waits: ; @trap 'echo told; exit' INT; echo ready; sleep 30 & wait"  # a shell that waits is told at once


@pytest.fixture
def inside(cpu, gpu, torch):
    """Return a function that runs a command in an image and gives what it printed."""
    return lambda target, command: cpu.make("docker-run", f"TARGET={target}", "GPUS=", "OPTIONS=--network none",
                                            f"CMD={command}").split("\n", 1)[1]


@pytest.mark.parametrize("target", IMAGES)
def test_a_user_unknown_to_the_image_has_a_name_and_a_home_and_each_line_at_once(inside, target):
    assert inside(target, f'python3 -c "import getpass, os, sys; print({FINDS})"') == "cam /tmp True\n"


@pytest.mark.parametrize("target", IMAGES)
def test_every_package_is_there(inside, target):
    assert inside(target, f'python3 -c "import {OWN[target]}, {PACKAGES}"') == ""  # no warning comes along


@pytest.mark.parametrize("target", PINNED)
def test_what_pip_added_is_what_is_pinned(cpu, gpu, torch, inside, target):
    base = {"gpu": gpu, "torch": torch}[target][0]
    before = cpu.run("docker", "run", "--rm", base, "python3", "-m", "pip", "freeze").splitlines()
    added = [line.split("==") for line in inside(target, "python3 -m pip freeze").splitlines() if line not in before]
    assert {canonicalize_name(name): version for name, version in added} == pins(target, "3.11")


@pytest.mark.parametrize("target", IMAGES)
def test_labels_say_where_an_image_comes_from(cpu, inside, target):
    labels = dict(line.split("=", 1) for line in cpu.inspect(
        target, "range $name, $value := .Config.Labels}}{{$name}}={{$value}}\n{{end").split("\n") if line)
    labels["org.opencontainers.image.revision"] = labels["org.opencontainers.image.revision"].replace("-dirty", "")
    assert {name.rpartition(".")[2]: value for name, value in labels.items()} == {
        "title": "skin-lesion-cam", "licenses": "BSD-2-Clause", "revision": cpu.run("git", "rev-parse", "HEAD").strip(),
        "source": str(ROOT), "version": inside(target, "python3 -m pycam --version").split()[-1]}  # the checkout is a clone


@pytest.mark.parametrize("target", IMAGES)
def test_a_signal_reaches_more_than_make_in_an_image_alone(cpu, gpu, torch, target):
    with cpu.start("docker", "run", "--rm", "--network", "none", cpu.image(target), f"--eval={WAITS}", "waits") as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert "told\n" in process.communicate(timeout=60)[0]

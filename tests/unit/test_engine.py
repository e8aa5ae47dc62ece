"""Which package is BVLC Caffe, and what the errors of the engine say to do."""

import subprocess
import sys

import pytest

from pycam import engine
from pycam.errors import CamError


@pytest.fixture
def caffe_folder(tmp_path, monkeypatch):
    """Return a folder named caffe in the working directory, which Python looks through first."""
    (tmp_path / "caffe").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.delitem(sys.modules, "caffe", raising=False)
    return tmp_path / "caffe"


@pytest.mark.parametrize("files", [(), ("__init__.py",), ("__init__.py", "_caffe.cpp"), ("_caffe.txt",)])
def test_a_folder_named_caffe_is_no_engine(caffe_folder, files):
    for name in files:
        (caffe_folder / name).write_text("")
    assert engine.choose("auto", None, "fp32") == "torch"
    with pytest.raises(CamError, match=r"engine caffe: this Python cannot import caffe: .*make caffe"):
        engine.load("caffe")


def test_a_package_with_its_compiled_part_is(caffe_folder):
    for name in ("__init__.py", "_caffe.cpython-39-x86_64-linux-gnu.so"):
        (caffe_folder / name).write_text("")
    assert engine.choose("auto", None, "fp32") == "caffe"


@pytest.mark.caffe
def test_real_caffe_is_found(real_caffe):
    program = "from pycam import engine; print(engine.choose('auto', None, 'fp32'), engine.version('caffe'))"
    done = subprocess.run([real_caffe, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "caffe BVLC Caffe 1.0.0\n"


def test_versions_are_told_without_torch():
    program = "import sys; from pycam import engine; print(engine.version('torch'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "torchcaffe 1.0.0 False\n"


def test_what_is_named_can_be_typed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcaffe", None)
    with pytest.raises(CamError, match=r"pip install '\.\[torch\]' in the project's folder"):
        engine.load("torch")
    with pytest.raises(CamError, match=r"--gpu -1 \(GPU= of make\): expected"):
        engine.choose("torch", -1, "fp32")


def test_a_gpu_that_torchcaffe_cannot_use_is_named_as_it_was_typed():
    pytest.importorskip("torch")
    with pytest.raises(CamError, match=r"--gpu 99 \(GPU= of make\): torchcaffe cannot use this device \(cannot use GPU[^;]*\); "
                                       r"leave it out for the CPU$"):
        engine.load("torch", 99)

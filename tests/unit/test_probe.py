"""An engine tried in a process of its own."""

import sys
from pathlib import Path

import pytest

from pycam import probe
from pycam.errors import CamError

ROOT = Path(__file__).resolve().parents[2]
NET = """
layer {{ name: "data" type: "DummyData" top: "data" dummy_data_param {{ shape {{ dim: 1 dim: 3 }} }}
         include {{ stage: "stage1" }} }}
layer {{ name: "fc" type: "{type}" bottom: "data" top: "fc" inner_product_param {{ num_output: 2 }} }}
"""


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def tried(engine, *nets):
    return probe.probe(engine, None, "fp32", [probe.Wanted(NET.format(type=type_), "TRAIN", stage) for type_, stage in nets])


def check_whole(found):
    assert found.error() < 1e-5
    assert found.net(0) == probe.Net({"fc": [(2, 3), (2,)]}, 3 + 2)


@pytest.mark.parametrize(("type_", "stage", "text"), [("Inner", "stage1", "type 'Inner' is not supported"),
                                                     ("InnerProduct", "stage2", "unknown bottom blob 'data'")])
def test_what_went_well_and_the_problem_that_ended_it(type_, stage, text):
    pytest.importorskip("torch")
    found = tried("torch", ("InnerProduct", "stage1"), (type_, stage), ("InnerProduct", "stage1"))
    assert found.versions().startswith("torchcaffe 1.0.0, Python 3.")
    assert ", torch " in found.versions()
    check_whole(found)
    with pytest.raises(CamError, match=f"the net cannot be made: .*{text}") as caught:
        found.net(1)
    assert "Traceback" not in str(caught.value)
    with pytest.raises(probe.NotTriedError):
        found.net(2)


@pytest.mark.caffe
def test_real_caffe_aborts_in_that_process_only(real_caffe, monkeypatch):
    monkeypatch.setattr(sys, "executable", real_caffe)
    found = tried("caffe", ("InnerProduct", "stage1"), ("Inner", "stage1"))
    assert found.versions().startswith("BVLC Caffe 1.0.0, Python 3.9")
    check_whole(found)
    with pytest.raises(CamError, match=r"^the net cannot be made: Check failed.* Unknown layer type: Inner$"):
        found.net(1)


def test_an_engine_that_is_missing():
    found = tried("caffe", ("InnerProduct", "stage1"))
    with pytest.raises(CamError, match=r"engine caffe: this Python cannot import caffe.*make caffe"):
        found.versions()
    with pytest.raises(probe.NotTriedError):
        found.error()


@pytest.mark.parametrize(("line", "status", "expected"), [
    ("error: no such thing", 1, "no such thing"),
    ("F1123 05:10:25.204546 25718 solver.cpp:290] Check failed: x == y (1 vs. 2)", -6, "Check failed: x == y (1 vs. 2)"),
    ("I1123 05:10:25.204546 25718 solver.cpp:290] Optimization stopped early.", 0,
     "somebody interrupted the engine; the same command goes on from its snapshot"),
    ("RuntimeError: out of memory", 1, "exit status 1, last line: RuntimeError: out of memory"),
    ("I1123 ... Iteration 3", -9, "ended by signal 9, last line: I1123 ... Iteration 3"),
])
def test_the_reason_of_an_end(line, status, expected):
    assert probe.reason(line, status) == expected

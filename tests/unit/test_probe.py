"""An engine tried in a process of its own."""

import sys
import time
from pathlib import Path

import pytest

from pycam import engine, probe
from pycam.errors import CamError

ROOT = Path(__file__).resolve().parents[2]
NET = """
layer {{ name: "data" type: "DummyData" top: "data" dummy_data_param {{ shape {{ dim: 1 dim: 3 }} }} }}
layer {{ name: "fc" type: "{type}" bottom: "{bottom}" top: "fc" inner_product_param {{ num_output: 2 }} }}
"""


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def tried(name, *nets):
    texts = [NET.format(type=type_, bottom=bottom) for type_, bottom in nets]
    return probe.probe(engine.Backend(name), [probe.Request(str(number), text, "TRAIN") for number, text in enumerate(texts)])


def check_whole(found):
    assert found.result("device", "") < 1e-5
    assert found.net("0") == probe.Net({"fc": [(2, 3), (2,)]}, 3 + 2)


@pytest.mark.parametrize(("type_", "bottom", "text"), [("Inner", "data", "type 'Inner' is not supported"),
                                                      ("InnerProduct", "date", "unknown bottom blob 'date'")])
def test_what_went_well_and_the_problem_that_ended_it(type_, bottom, text):
    pytest.importorskip("torch")
    found = tried("torch", ("InnerProduct", "data"), (type_, bottom), ("InnerProduct", "data"))
    versions = found.result("engine", "")
    assert (versions["torchcaffe"], versions["Python"][:2], "torch" in versions) == ("1.0.0", "3.", True)
    check_whole(found)
    with pytest.raises(CamError, match=f"^the net: .*{text}") as caught:
        found.result("1", "the net: ")
    assert "Traceback" not in str(caught.value)
    for name in ("1", "2"):
        with pytest.raises(probe.NotTriedError, match="not looked at, needs: 1"):
            found.net(name)
    with pytest.raises(probe.NotTriedError):
        found.result("2", "")


@pytest.mark.caffe
def test_real_caffe_aborts_in_that_process_only(real_caffe, monkeypatch):
    monkeypatch.setattr(sys, "executable", real_caffe)
    found = tried("caffe", ("InnerProduct", "data"), ("Inner", "data"))
    versions = found.result("engine", "")
    assert (versions["BVLC Caffe"], versions["Python"][:3]) == ("1.0.0", "3.9")
    check_whole(found)
    with pytest.raises(CamError, match=r"^the net: Check failed.* Unknown layer type: Inner$"):
        found.result("1", "the net: ")


def test_an_engine_that_is_missing():
    found = tried("caffe", ("InnerProduct", "data"))
    with pytest.raises(CamError, match=r"engine caffe: this Python cannot import caffe.*make caffe"):
        found.result("engine", "")
    with pytest.raises(probe.NotTriedError):
        found.result("device", "")


SLOW = """
layer {{ name: "data" type: "DummyData" top: "data" dummy_data_param {{ shape {{ dim: {batch} dim: 3 dim: 64 dim: 64 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 32 kernel_size: 5 }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "conv" bottom: "conv" top: "loss" }}
"""


@pytest.mark.parametrize("name", ["torch", pytest.param("caffe", marks=pytest.mark.caffe)])
def test_an_iteration_is_timed(name, request, monkeypatch):
    if name == "caffe":
        monkeypatch.setattr(sys, "executable", request.getfixturevalue("real_caffe"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    solver = 'net: "x" base_lr: 0.1 lr_policy: "multistep" test_iter: 9 test_interval: 1 snapshot: 1 max_iter: 2 iter_size: {}'
    few, many = (SLOW.format(batch=batch) for batch in (2, 40000))
    began = time.monotonic()
    times = probe.probe(engine.Backend(name), [
        probe.Request("a", few, "TRAIN", solver.format(1)), probe.Request("b", few, "TRAIN", solver.format(10)),
        probe.Request("c", many, "TRAIN", solver.format(1))])
    assert times.problem == ""
    assert time.monotonic() - began < 60
    a, b, c = (times.found[one] for one in "abc")
    assert 2 < b / a < 50
    assert c > 200 * a  # and not measured to the end


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

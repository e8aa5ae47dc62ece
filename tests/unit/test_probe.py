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
    assert found.get("device", "") < 1e-5
    assert found.get("0") == {"shapes": {"fc": [[2, 3], [2]]}, "parameters": 8, "values": 3 + 2}


@pytest.mark.parametrize(("type_", "bottom", "text"), [("Inner", "data", "type 'Inner' is not supported"),
                                                      ("InnerProduct", "date", "unknown bottom blob 'date'")])
def test_what_went_well_and_the_problem_that_ended_it(type_, bottom, text):
    pytest.importorskip("torch")
    found = tried("torch", ("InnerProduct", "data"), (type_, bottom), ("InnerProduct", "data"))
    versions = found.get("engine", "")
    assert (versions["torchcaffe"], versions["Python"][:2], "torch" in versions) == ("1.0.0", "3.", True)
    check_whole(found)
    with pytest.raises(CamError, match=f"^the net: .*{text}") as caught:
        found.get("1", "the net: ")
    assert "Traceback" not in str(caught.value)
    for name in ("1", "2"):
        with pytest.raises(probe.NotTriedError, match="not looked at, needs: 1"):
            found.get(name)
    with pytest.raises(probe.NotTriedError):
        found.get("2", "")


@pytest.mark.caffe
def test_real_caffe_aborts_in_that_process_only(real_caffe, monkeypatch):
    monkeypatch.setattr(sys, "executable", real_caffe)
    found = tried("caffe", ("InnerProduct", "data"), ("Inner", "data"))
    versions = found.get("engine", "")
    assert (versions["BVLC Caffe"], versions["Python"][:3]) == ("1.0.0", "3.9")
    check_whole(found)
    with pytest.raises(CamError, match=r"^the net: Check failed.* Unknown layer type: Inner$"):
        found.get("1", "the net: ")


def test_an_engine_that_is_missing():
    found = tried("caffe", ("InnerProduct", "data"))
    with pytest.raises(CamError, match=r"engine caffe: this Python cannot import caffe.*make caffe"):
        found.get("engine", "")
    with pytest.raises(probe.NotTriedError):
        found.get("device", "")


SLOW = """
layer {{ name: "data" type: "DummyData" top: "data" dummy_data_param {{ shape {{ dim: {batch} dim: 3 dim: 64 dim: 64 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 32 kernel_size: 5 }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "conv" bottom: "conv" top: "loss" }}
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch", pytest.param("caffe", marks=pytest.mark.caffe)])
def test_an_iteration_is_timed(name, request, monkeypatch):
    if name == "caffe":
        monkeypatch.setattr(sys, "executable", request.getfixturevalue("real_caffe"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    began = time.monotonic()
    requests = [probe.Request(str(batch), SLOW.format(batch=batch), "TIME") for batch in (2, 40000)]
    times = probe.probe(engine.Backend(name), requests)
    assert times.problem == ""
    assert time.monotonic() - began < 60  # not measured to the end
    assert times.get("40000") > 200 * times.get("2")


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

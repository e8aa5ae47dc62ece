import math
from pathlib import Path

import pytest

from pycam import weights
from pycam.__main__ import main
from pycam.errors import CamError
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"
WANTED = {"a": [(2, 3), (2,)], "b": [(4, 2), (4,)], "c": [(1,)]}


def test_layers_are_copied_fresh_or_mismatched_by_name():
    rows = weights.compare(WANTED, {"a": [(2, 3), (2,)], "b": [(4, 3), (4,)], "other": [(9,)]})
    assert [(row.layer, row.state) for row in rows] == [("a", "copied"), ("b", "mismatched"), ("c", "fresh")]


@pytest.mark.parametrize(("shapes", "state"), [
    ([(1, 1, 2, 3), (1, 1, 1, 2)], "copied"),  # as old files have them
    ([(2, 3)], "mismatched"), ([(3, 2), (2,)], "mismatched"), ([(2, 3), (2,), (1,)], "mismatched"), ([(6,), (2,)], "mismatched"),
])
def test_shapes(shapes, state):
    assert weights.compare({"a": WANTED["a"]}, {"a": shapes})[0].state == state


def test_the_table_has_a_line_a_layer():
    lines = weights.table(weights.compare(WANTED, {"a": [(2, 3), (2,)]})).splitlines()
    assert [line.split() for line in lines] == [
        ["a", "copied", "net", "2x3", "2", "file", "2x3", "2"], ["b", "fresh", "net", "4x2", "4", "file", "-"],
        ["c", "fresh", "net", "1", "file", "-"]]
    assert weights.table([]) == ""


def test_a_mismatch_and_an_empty_start_are_refused():
    weights.check_start(weights.compare(WANTED, {"a": [(2, 3), (2,)]}), Path("w"))
    with pytest.raises(CamError, match="w: other shapes than the network has in a, c;"):
        weights.check_start(weights.compare(WANTED, {"a": [(2, 2), (2,)], "b": WANTED["b"], "c": [(2,)]}), Path("w"))
    with pytest.raises(CamError, match="w: fills no layer of the network; expected layer names such as a, b, c"):
        weights.check_start(weights.compare(WANTED, {"A": WANTED["a"]}), Path("w"))


def test_the_command_prints_the_table_of_a_file(tmp_path, capsys):
    pytest.importorskip("torch")
    model = caffe_pb2.NetParameter()
    for name, shape in (("conv1_1", (8, 3, 3, 3)), ("CAM_fc3", (1000, 128)), ("unknown", (1,))):
        blob = model.layer.add(name=name).blobs.add(data=[0.0] * math.prod(shape))
        blob.shape.dim.extend(shape)
    (tmp_path / "w.caffemodel").write_bytes(model.SerializeToString())
    assert main(["weights", "--net", str(DEPLOY), "--weights", str(tmp_path / "w.caffemodel"), "--engine", "torch"]) == 0
    states = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert len(states) == 15
    assert (states["conv1_1"], states["CAM_fc3"], states["conv1_2"]) == ("mismatched", "mismatched", "fresh")

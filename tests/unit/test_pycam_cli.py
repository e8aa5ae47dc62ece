import importlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_tools.parallel import default_jobs
from pycam import engine, forward
from pycam.__main__ import main, make_parser
from pycam.errors import CamError
from torchcaffe.proto import caffe_pb2
from torchcaffe.version import PROJECT

ROOT = Path(__file__).parents[2]
NET = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"
COMMANDS = ("pipeline", "predict", "crops", "classify", "cam", "localize", "score", "table1", "summary", "curves", "report")
PREDICT = ("predict", "--net", "n", "--weights", "w", "--images", "i", "--out", "o")


def choices():
    """Return the parsers of all commands."""
    return next(action.choices for action in make_parser()._actions if action.dest == "command")


def required(command):
    """Return words that a command cannot do without."""
    words = []
    for action in choices()[command]._actions:
        value = str(next(iter(action.choices))) if action.choices else "1"
        if action.required and action.nargs not in ("*", "?"):
            words += [*action.option_strings[:1], *[value] * (action.nargs if isinstance(action.nargs, int) else 1)]
    return words


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    example = text.split("example: python -m pycam ")[1]
    assert make_parser().parse_args(example.split()).command == command


def wrong(arguments, capsys):
    """Return the one line that answers wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(("arguments", "message", "command"), [
    ([], "the following arguments are required: COMMAND", ""), (["fly"], "argument COMMAND: 'fly' is not known (known: ", ""),
    (["crop"], "argument COMMAND: 'crop' is not known, did you mean crops? (known: ", ""),
    (["Report"], "argument COMMAND: 'Report' is not known, did you mean report? (known: ", ""),
    (["predict"], "the following arguments are required: --net, --weights, --images, --out", " predict"),
    ([*PREDICT, "--batch", "0"], "argument --batch: '0': expected a whole number from 1", " predict"),
    ([*PREDICT, "p.jpg"], "unrecognized arguments: p.jpg", "")])
def test_wrong_usage_is_one_line_that_says_where_to_look(arguments, message, command, capsys):
    line = wrong(arguments, capsys)
    assert line.startswith(f"error: {message}")
    assert line.endswith(f"; see python -m pycam{command} --help\n")


@pytest.mark.parametrize("command", choices())
def test_every_misspelt_option_is_answered_with_the_nearest(command, capsys):
    needed, options = required(command), [action for action in choices()[command]._actions if not action.required]
    for option in (name for action in options for name in action.option_strings if name.startswith("--")):
        misspelt = f"{option[:3]}{option[4]}{option[3]}{option[5:]}" if option[3] != option[4] else f"{option}{option[-1]}x"
        line = wrong([command, *needed, f"{misspelt}=1"], capsys)
        assert line.startswith(f"error: {misspelt!r} is not known, did you mean {option}? (known: "), line


@pytest.mark.parametrize("command", choices())
def test_every_misspelt_choice_is_answered_with_the_nearest(command, capsys):
    needed = required(command)
    for action in choices()[command]._actions:
        for choice in map(str, action.choices or ()):
            if action.option_strings:
                line = wrong([command, *needed, action.option_strings[0], f"{choice}x"], capsys)
                assert f"'{choice}x' is not known, did you mean {choice}?" in line


@pytest.mark.parametrize("command", choices())
def test_every_command_has_debug(command):
    assert make_parser().parse_args([command, *required(command), "--debug"]).debug


def test_an_error_is_one_line_and_debug_shows_where(tmp_path, capsys):
    arguments = ["score", str(tmp_path / "none.csv"), "--truth", str(tmp_path / "gt.csv")]
    assert main(arguments) == 1
    message = capsys.readouterr()
    assert message.out == ""
    assert message.err.startswith("error: ")
    assert message.err.count("\n") == 1
    with pytest.raises(Exception, match=r"gt\.csv"):
        main([*arguments, "--debug"])


def test_an_interruption_exits_with_130(monkeypatch, capsys, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(forward, "list_pictures", interrupted)
    assert main(["predict", "--net", "n", "--weights", "w", "--images", str(tmp_path), "--out", "o"]) == 130
    assert capsys.readouterr().err == "interrupted: nothing half-written is left; the same command goes on\n"


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "pycam", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in COMMANDS)


def test_only_engine_imports_caffe():
    for path in (ROOT / "pycam").rglob("*.py"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        says = any(line.startswith(("import caffe", "import torchcaffe")) for line in lines)
        assert says == (path.name == "engine.py"), path.name


def test_a_missing_engine_is_named_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "caffe", None)
    with pytest.raises(CamError, match=r"cannot import caffe.*--engine torch"):
        engine.load("caffe")


def test_real_caffe_refuses_bf16_in_one_line():
    with pytest.raises(CamError, match=r"--precision bf16: BVLC Caffe computes in fp32 only; use --engine torch"):
        engine.load("caffe", precision="bf16")


def test_a_negative_device_is_refused():
    with pytest.raises(CamError, match="--gpu -1"):
        engine.load("torch", gpu=-1)


@pytest.mark.parametrize("content", [None, "", "layer {", "layer { nmae: 'x' }", "name: 'no layers'", "\x00\x01binary"])
def test_a_file_that_is_no_network_is_refused(tmp_path, content):
    path = tmp_path / "net.prototxt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CamError) as problem:
        engine.check_prototxt(path)
    assert str(path) in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_training_net_is_refused():
    with pytest.raises(CamError, match="no Input layer; expected a deploy prototxt"):
        engine.check_prototxt(NET.with_name("vgg_gap_train_val.prototxt"))


def test_the_deploy_nets_are_accepted():
    engine.check_prototxt(NET)
    engine.check_prototxt(NET.with_name("vgg_gap_deploy.prototxt"))


def model(path, shapes, v1=False, legacy=False):
    net = caffe_pb2.NetParameter()
    for name, blobs in shapes.items():
        layer = (net.layers if v1 else net.layer).add(name=name)
        for shape in blobs:
            blob = layer.blobs.add(data=[0.0] * math.prod(shape))
            if legacy:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - len(shape)) + shape
            else:
                blob.shape.dim.extend(shape)
    path.write_bytes(net.SerializeToString())
    return path


class Net:
    """The parameters of a network, as far as their shapes are asked for."""

    def __init__(self, shapes):
        self.params = {name: [SimpleNamespace(shape=shape) for shape in blobs] for name, blobs in shapes.items()}


SHAPES = {"conv": [(4, 3, 3, 3), (4,)], "CAM_fc3": [(3, 8), (3,)]}


@pytest.mark.parametrize("form", [{}, {"v1": True}, {"legacy": True}, {"v1": True, "legacy": True}])
def test_weights_of_each_form_are_matched_by_shape(tmp_path, form):
    shapes = engine.weight_shapes(model(tmp_path / "w.caffemodel", {**SHAPES, "unused": [(2,)]}, **form))
    engine.check_weights(Net(SHAPES), shapes, "here")


def test_layers_without_weights_or_with_other_shapes_are_named(tmp_path):
    shapes = engine.weight_shapes(model(tmp_path / "w.caffemodel", {"conv": SHAPES["conv"]}))
    with pytest.raises(CamError, match=r"here: no weights for the layers CAM_fc3"):
        engine.check_weights(Net(SHAPES), shapes, "here")
    shapes = engine.weight_shapes(model(tmp_path / "w.caffemodel", {**SHAPES, "CAM_fc3": [(1000, 8), (1000,)]}))
    with pytest.raises(CamError, match=r"here: other shapes in CAM_fc3 .*1000, 8.* wants .*\(3, 8\)"):
        engine.check_weights(Net(SHAPES), shapes, "here")
    shapes = engine.weight_shapes(model(tmp_path / "w.caffemodel", {**SHAPES, "CAM_fc3": [(3, 8)]}))
    with pytest.raises(CamError, match="CAM_fc3"):  # no bias
        engine.check_weights(Net(SHAPES), shapes, "here")


def test_a_weights_file_that_was_cut_short_is_refused(tmp_path):
    path = model(tmp_path / "w.caffemodel", SHAPES)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CamError, match=r"w\.caffemodel: this is cut off or damaged; .* expected a whole \.caffemodel"):
        engine.weight_shapes(path)


def test_a_folder_stands_for_its_final_weights(tmp_path):
    with pytest.raises(CamError, match=r"final\.caffemodel: no such weights file"):
        engine.weights_file(tmp_path)
    model(tmp_path / "final.caffemodel", SHAPES)
    assert engine.weights_file(tmp_path) == tmp_path / "final.caffemodel"


def test_the_number_of_threads_does_not_depend_on_what_else_runs(monkeypatch):
    """Only the command line sets it, for itself and for the engine that it starts, and only where nobody has."""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "to be taken back")
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["pycam", "pipeline", "all", "--show"])
    assert main(["pipeline", "all", "--show"]) == 0
    assert "OMP_NUM_THREADS" not in os.environ
    assert main() == 0
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == (str(default_jobs()), "PASSIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert main() == 0
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("module", ["pycam", "data_tools", "torchcaffe"])
def test_every_program_tells_the_projects_version(module, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"{module}.__main__").main(["--version"])
    assert ended.value.code == 0
    assert re.search(rf"skin-lesion-cam {re.escape(PROJECT)}\b", capsys.readouterr().out)

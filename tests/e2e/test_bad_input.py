"""Bad input to the real command lines: one line that says what is wrong, exit 1, and nothing that Make would believe.

The same for Ctrl-C (exit 130), after which the same command finishes.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest

from torchcaffe.proto import caffe_pb2

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BELIEVED = ("groundtruth.csv", "manifest.json", "final.caffemodel", "*.html", "results/*.csv")
NOTES = ("note: ", "engine: ", "+ ", "stopping: ", "left out: ", "passed over ")


class Case:
    """A run's folder `run` with everything up to the training, and names that the commands of the table use."""

    def __init__(self, bench, run):
        self.bench, self.run = bench, run
        self.train, self.val = run / "clean" / "train", run / "clean" / "val"
        self.db, self.out = run / "lmdb" / "stage1_train", run / "out"
        self.weights = run / "weights.caffemodel"

    def trained(self, finished, change=lambda layer: None):
        """Write the weights of a finished run, with every layer changed."""
        model = caffe_pb2.NetParameter.FromString((finished("torch")[0] / "stage1" / "final.caffemodel").read_bytes())
        for layer in model.layer:
            change(layer)
        self.weights.write_bytes(model.SerializeToString())


def rename(layer):
    layer.name = f"other_{layer.name}"


def shrink(layer):
    """Take one class away from the last layer."""
    if layer.name == "CAM_fc3":
        for blob in layer.blobs:
            del blob.data[len(blob.data) * 2 // 3:]
            blob.shape.dim[0] = 2


@pytest.fixture
def case(bench, data, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(data, folder)
    return Case(bench, folder)


def believed(folder):
    return sorted(str(path.relative_to(folder)) for pattern in BELIEVED for path in folder.rglob(pattern))


def one_line(err, start="error: "):
    """Return the one line of stderr that is neither progress nor a note."""
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip() and not line.startswith(NOTES)
             and "%|" not in line and not line.startswith(("make", "conv", "CAM_"))]
    assert len(lines) == 1, err
    assert lines[0].startswith(start), err
    return lines[0]


def cut(path):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def first(folder):
    return sorted(folder.glob("*.jpg"))[0]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


CLEAN = ["data_tools", "clean", "--images", "{train}", "--out", "{out}/x"]
LMDB = ["data_tools", "lmdb", "--images", "{train}", "--augment", "none", "--jobs", "1", "--out", "{out}/x"]
TRAIN = ["pycam", "train", "--run", "{run}", "--stage", "stage1", "--solver"]
PREDICT = ["pycam", "predict", "--net", "{bench.deploy}", "--weights", "{weights}", "--images", "{val}", "--out", "{out}/p.csv"]
CROPS = ["pycam", "crops", "--net", "{bench.deploy}", "--weights", "{weights}", "--images", "{val}", "--out", "{out}/val"]

DATA = {
    "missing picture": (lambda c: first(c.train).unlink(), LMDB, ["1 of 12 pictures", "SYN_"]),
    "missing picture, clean": (lambda c: first(c.train).unlink(), CLEAN, ["1 of 12 pictures", "SYN_"]),
    "cut JPEG": (lambda c: cut(first(c.train)), LMDB, ["1 of 12 pictures cannot be read", "cut off after"]),
    "cut JPEG, clean": (lambda c: cut(first(c.train)), CLEAN, ["1 of 12 pictures cannot be read", "cut off after"]),
    "empty JPEG": (lambda c: first(c.train).write_bytes(b""), LMDB, ["is empty"]),
    "a text named .jpg": (lambda c: first(c.train).write_text("hello"), LMDB, ["starts with b'hello'"]),
    "no such column": (lambda c: edit(c.train / "groundtruth.csv", "melanoma", "mel"), LMDB, ["no column melanoma"]),
    "labels of another split": (lambda c: shutil.copy(c.val / "groundtruth.csv", c.train), LMDB, ["is it of another split?"]),
    "no labels": (lambda c: (c.train / "groundtruth.csv").unlink(), LMDB, ["groundtruth.csv", "cannot be read"]),
    "no folder": (lambda c: shutil.rmtree(c.train), LMDB, ["groundtruth.csv", "No such file"]),
    "half an LMDB": (lambda c: cut(c.db / "data.mdb"), ["data_tools", "verify", "{db}"], ["data.mdb", "cut off or replaced"]),
    "out below a file": (lambda c: c.out.write_text(""), LMDB, ["/out"]),
    "out below a file, clean": (lambda c: c.out.write_text(""), CLEAN, ["/out"]),
    "synthetic below a file": (lambda c: c.out.write_text(""), ["data_tools", "synthetic", "--out", "{out}/x"], ["/out"]),
}


def fails(case, engine, words, fragments):
    """Run a command that must fail; return its one line."""
    before = believed(case.run)
    status, out, err = case.bench.run(engine, *(str(word).format(**vars(case)) for word in words))
    line = one_line(err)
    assert (status, out) == (1, "")
    for fragment in fragments:
        assert fragment in line
    assert believed(case.run) == before
    assert len(line) < 700
    return line


@pytest.mark.parametrize("name", DATA)
def test_data_tools(case, name):
    spoil, words, fragments = DATA[name]
    spoil(case)
    fails(case, "torch", words, fragments)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(case):
    case.out.mkdir(mode=0o500)
    fails(case, "torch", LMDB, ["Permission denied"])


# ---------------------------------------------------------------- training
def _solver(text):
    return lambda c: edit(c.bench.solver("stage1", "spoilt"), *text)


def _net(*text):
    return lambda c: c.bench.solver("stage1", "spoilt", net=c.bench.net("spoilt_net", text))


SPOILT = [*TRAIN, "{bench.folder}/spoilt.prototxt"]
GOOD = [*TRAIN, "{bench.folder}/stage1.prototxt"]
TRAINING = {
    "half an LMDB": (lambda c: cut(c.db / "data.mdb"), GOOD, ["data.mdb", "cut off or replaced"]),
    "half a validation LMDB": (lambda c: cut(c.run / "lmdb/stage1_val/data.mdb"), GOOD, ["stage1_val/data.mdb", "cut off"]),
    "no LMDB": (lambda c: shutil.rmtree(c.db), GOOD, ["stage1_train", "cannot be read"]),
    "field of the solver": (_solver(("base_lr", "base_rate")), SPOILT, ["spoilt.prototxt", "base_rate"]),
    "field of the net": (_net("num_output: 3", "num_outputs: 3"), SPOILT, ["spoilt_net.prototxt", "num_outputs"]),
    "layer type": (_net('type: "Convolution"', 'type: "Convulsion"'), SPOILT, ["Convulsion"]),
    "bottom": (_net('bottom: "conv4_2"', 'bottom: "conv4_9"'), SPOILT, ["conv4_9"]),
    "no solver": (lambda c: None, [*TRAIN, "none.prototxt"], ["none.prototxt", "No such file"]),
    "a picture as the solver": (lambda c: None, [*TRAIN, first(EXAMPLES)], ["ISIC", "no text file"]),
    "net is not there": (lambda c: c.bench.solver("stage1", "spoilt", net="nowhere.prototxt"), SPOILT, ["nowhere.prototxt"]),
    "no snapshots": (_solver(("snapshot: 3", "snapshot: 0")), SPOILT, ["spoilt.prototxt", "needs snapshot"]),
    "batch": (lambda c: None, [*GOOD, "--batch", "3"], ["--batch 3", "4"]),
    "run below a file": (lambda c: c.out.write_text(""), [*TRAIN[:3], "{out}/x", *TRAIN[4:], "{bench.folder}/stage1.prototxt"],
                         ["/out/x/stage1", "cannot be written"]),
    "weights that are not there": (lambda c: None, [*GOOD, "--weights", "{weights}"], ["weights.caffemodel", "no such weights"]),
    "weights that are no weights": (lambda c: c.weights.write_text("hello"), [*GOOD, "--weights", "{weights}"],
                                    ["weights.caffemodel", "expected a whole .caffemodel"]),
}
WITH_CAFFE = ("half an LMDB", "field of the net", "layer type", "bottom")  # the others end before an engine is loaded


@pytest.mark.parametrize(("name", "engine"), [(name, "torch") for name in TRAINING] + [
    pytest.param(name, "caffe", marks=pytest.mark.caffe) for name in WITH_CAFFE], indirect=["engine"])
def test_train(case, engine, name):
    spoil, words, fragments = TRAINING[name]
    spoil(case)
    fails(case, engine, [*words, "--engine", engine], fragments)
    assert not list(case.run.rglob("*.solverstate"))


@pytest.mark.slow
def test_train_with_weights_that_fit_nothing(case, finished, engine):
    case.trained(finished, rename)
    fails(case, engine, [*GOOD, "--weights", "{weights}", "--engine", engine], ["fills no layer", "conv1_1"])


@pytest.mark.slow
def test_train_with_weights_of_other_shapes(case, finished, engine):
    case.trained(finished, shrink)
    fails(case, engine, [*GOOD, "--weights", "{weights}", "--engine", engine], ["other shapes", "CAM_fc3"])


@pytest.mark.slow
def test_train_with_weights_checks_the_net_without_ending_the_process(case, finished, engine):
    case.trained(finished)
    _net('bottom: "conv4_2"', 'bottom: "conv4_9"')(case)
    fails(case, engine, [*SPOILT, "--weights", "{weights}", "--engine", engine], ["conv4_9"])


@pytest.mark.parametrize("name", ["half an LMDB", "layer type", "bottom"])
def test_torchcaffe_train(case, name):
    spoil, words, fragments = TRAINING[name]
    net = case.bench.folder / "spoilt_net.prototxt"
    spoil(case)
    text = (net if words is SPOILT else case.bench.folder / "net.prototxt").read_text()
    (case.run / "net.prototxt").write_text(text.replace('"build/', f'"{case.run}/'))
    solver = case.bench.solver("stage1", "by_hand", net=case.run / "net.prototxt")
    edit(solver, '"build/stage1', f'"{case.run}')
    status, _, err = case.bench.run("torch", "torchcaffe", "train", "-solver", solver)
    last = err.splitlines()[-1]
    assert (status, err.count("error: ")) == (1, 1)
    assert last.startswith("error: ")
    assert (fragments[0] if words is SPOILT else "not a whole LMDB") in last
    assert not list(case.run.glob("*.caffemodel"))


# ---------------------------------------------------------------- prediction and crops
@pytest.mark.slow
@pytest.mark.parametrize(("change", "fragment"), [(rename, "no weights for the layers conv1_1"),
                                                 (shrink, "other shapes in CAM_fc3")])
@pytest.mark.parametrize("words", [PREDICT, CROPS], ids=["predict", "crops"])
def test_weights_that_do_not_fit(case, finished, words, change, fragment):
    case.trained(finished, change)
    fails(case, "torch", [*words, "--engine", "torch"], [fragment])


@pytest.mark.parametrize(("spoil", "fragments"), [
    (lambda c: cut(first(c.val)), ["cut off after"]),
    (lambda c: first(c.val).unlink(), ["1 of 10 pictures"]),
    (lambda c: c.out.write_text(""), ["/out"]),
    (lambda c: cut(c.weights), ["weights.caffemodel"]),
], ids=["cut JPEG", "missing picture", "out below a file", "cut weights"])
@pytest.mark.slow
@pytest.mark.parametrize("words", [PREDICT, CROPS], ids=["predict", "crops"])
def test_predict_and_crops(case, finished, words, spoil, fragments):
    case.trained(finished)
    spoil(case)
    fails(case, "torch", [*words, "--engine", "torch"], fragments)


DEPLOY_TYPOS = {"field": ("num_output: 3", "num_outputs: 3"), "layer type": ('type: "Convolution"', 'type: "Convulsion"'),
                "bottom": ('bottom: "conv4_2"', 'bottom: "conv4_9"')}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "engine"), [(name, "torch") for name in DEPLOY_TYPOS] + [
    pytest.param(name, "caffe", marks=pytest.mark.caffe) for name in DEPLOY_TYPOS],
    indirect=["engine"])
def test_predict_with_a_typo_in_the_network(case, finished, engine, name):
    case.trained(finished)
    old, new = DEPLOY_TYPOS[name]
    deploy = case.run / "deploy.prototxt"
    deploy.write_text(case.bench.deploy.read_text())
    edit(deploy, old, new)
    words = [deploy if word == "{bench.deploy}" else word for word in PREDICT]
    fails(case, engine, [*words, "--engine", engine], [new.partition('"')[2].rstrip('"') or "num_outputs"])


# ---------------------------------------------------------------- Ctrl-C
def interrupt(case, waiting, words, sign):
    """Start a command, send SIGINT as a terminal does once the sign is there, and see that it ends well; then finish it."""
    words = [str(word).format(**vars(case)) for word in words]
    before = believed(case.run)
    process = case.bench.start("torch", *words)
    if isinstance(sign, str):
        seen = ""
        while sign not in seen:
            seen = process.stderr.readline()
            assert seen, process.wait()
    else:
        waiting(sign, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    one_line(err, "interrupted")
    assert believed(case.run) == before
    assert not [path for path in case.run.rglob("*partial*") if path.name != "boxes.partial.csv"]
    case.bench.pycam("torch", *words)
    assert believed(case.run) != before


@pytest.mark.slow
def test_ctrl_c_in_clean(case, waiting):
    words = ["data_tools", "clean", "--images", EXAMPLES, "--out", "{out}/x", "--jobs", "2"]
    interrupt(case, waiting, words, lambda: list(case.out.glob("x/*.jpg")))


@pytest.mark.slow
def test_ctrl_c_in_lmdb(case, waiting):
    words = ["data_tools", "lmdb", "--images", EXAMPLES, "--encoding", "png", "--jobs", "2", "--out", "{out}/x"]
    interrupt(case, waiting, words, lambda: list(case.out.glob(".x.partial/squares.uint8")))


@pytest.mark.slow
def test_ctrl_c_in_train(case, waiting):
    solver = case.bench.solver("stage1", "thirty", max_iter=30)
    words = [*TRAIN, solver, "--engine", "torch"]
    interrupt(case, waiting, words, lambda: list(case.run.glob("stage1/*_iter_3.caffemodel")))


@pytest.mark.slow
def test_ctrl_c_in_predict(case, finished, waiting):
    case.trained(finished)
    words = [EXAMPLES if word == "{val}" else word.replace("{out}", "{out}/results") for word in PREDICT]
    interrupt(case, waiting, [*words, "--batch", 1, "--engine", "torch"], "engine: ")


@pytest.mark.slow
def test_ctrl_c_in_crops(case, finished, waiting):
    case.trained(finished)
    words = [EXAMPLES if word == "{val}" else word for word in CROPS]
    interrupt(case, waiting, [*words, "--batch", 1, "--engine", "torch"], lambda: list(case.out.glob("val/ISIC*.jpg")))


@pytest.mark.slow
def test_ctrl_c_in_report(case, finished, waiting):
    words = ["pycam", "report", "--run", finished("torch")[0], "--net", "{bench.deploy}", "--out", "{out}/r.html"]
    interrupt(case, waiting, [*words, "--engine", "torch"], "engine: ")

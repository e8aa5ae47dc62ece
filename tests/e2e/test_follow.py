"""Results follow what is asked for: after any one change, a run in a used folder ends as one in an empty folder does.

The whole pipeline on a few made-up pictures, with trainings in this process, for every variable and every kind of input file. Run
again, no step works.
"""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from data_tools import synthetic
from data_tools.files import read_image
from pycam import crops as crop_files
from pycam import doctor, predictions, train, two_stages
from pycam.__main__ import main
from pycam.pipeline import MAKE_ONLY
from pycam.variables import VARIABLES
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
SOLVER = """net: "prototxt/{net}.prototxt" train_state {{ stage: "{stage}" }} test_state {{ stage: "{stage}" }}
test_iter: 1 test_interval: 3 max_iter: 3 base_lr: {rate} lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005
clip_gradients: 5 display: 1 snapshot: 3 snapshot_prefix: "build/{stage}/tiny" random_seed: 1 solver_mode: CPU
"""
BASE = {"NET": "vgg_gap_narrow", "SOLVERS": "tiny_", "AUGMENT": "none", "JOBS": "1", "ENGINE": "torch", "ISIC": "pictures one",
        "REGION": "--ground min --threshold 0.5"}
CHANGES = {  # name -> variables of B; for files, none
    "ISIC": {"ISIC": "pictures two"}, "NET": {"NET": "googlenet_gap", "SOLVERS": "google_"}, "INIT": {"INIT": "one.caffemodel"},
    "START2": {"START2": "one.caffemodel"}, "SPLIT": {"SPLIT": "test"}, "PRECISION": {"PRECISION": "bf16"},
    "BATCH": {"BATCH": "1"}, "SEED": {"SEED": "7"}, "MAX_ITER": {"MAX_ITER": "2"}, "RESUME": {"RESUME": "no"},
    "AUGMENT": {"AUGMENT": "paper"}, "BALANCE": {"BALANCE": "oversample"}, "HAIR": {"HAIR": "none"},
    "EXCLUDE": {"EXCLUDE": "SYN_0000003"}, "REGION": {"REGION": "--ground min --threshold 0.7"},
    "RECORDS": {"RECORDS": "--rotations 0,90"}, "PATCH": {"PATCH": "192"},
    "EDIT": {"EDIT": "solver.base_lr=0.0005 CAM_conv.pad=1"}, "SOLVERS": {"SOLVERS": "fast_"}, "JOBS": {"JOBS": "2"},
    "training picture": {}, "validation picture": {}, "label": {}, "solver": {}, "net": {}, "deploy net": {}, "weights": {},
}
WITHOUT_EFFECT = ("JOBS", "RESUME", "deploy net")  # a training in one go is a fresh one; what changes in the file is a blank
FILES = [name for name, variables in CHANGES.items() if not variables]
ELSEWHERE = {"RUN", "GPU", "ENGINE", "CAFFE", "ROWS", "SEEDS", "FOLDS", *MAKE_ONLY}  # no GPU; the next tests; experiments; make


def small_net(name, batch):
    """Return the text of a training net with small batches, without dropout, that can start from random weights."""
    text = (ROOT / "prototxt" / f"{name}_train_val.prototxt").read_text()
    net = text_format.Parse(re.sub(r"batch_size: \d+", f"batch_size: {batch}", text), caffe_pb2.NetParameter())
    for layer in net.layer:
        if layer.type == "Dropout":
            layer.dropout_param.dropout_ratio = 0
        elif layer.type == "Convolution" and not layer.convolution_param.HasField("weight_filler"):
            layer.convolution_param.weight_filler.type = "msra"  # GoogLeNet's layers come from pretrained weights
    return text_format.MessageToString(net)


def write_solver(path, net, stage, rate=0.001):
    path.write_text(SOLVER.format(net=net, stage=stage, rate=rate))


def in_this_process(words, log, *_, **__):
    """Stand in for `train.execute`: the same training without a start of PyTorch."""
    from torchcaffe.__main__ import main as torchcaffe

    with open(log, "a") as file, contextlib.redirect_stderr(file):
        assert torchcaffe(words[words.index("train"):]) == 0, log.read_text()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a folder with pictures, networks, solvers and weights, and a finished run A in it."""
    folder = tmp_path_factory.mktemp("world")
    for name, seed in (("pictures one", 1), ("pictures two", 2)):
        synthetic.make_root(folder / name, {"train": 6, "val": 3, "test": 3}, seed=seed, height=90, width=120)
    for part in ("prototxt", "solvers"):
        shutil.copytree(ROOT / part, folder / part)
    for name, net in (("tiny", "vgg_gap_narrow"), ("google", "googlenet_gap")):
        (folder / "prototxt" / f"{name}.prototxt").write_text(small_net(net, 3))
        for stage in ("stage1", "stage2"):
            write_solver(folder / "solvers" / f"{name}_{stage}.prototxt", name, stage)
    for stage in ("stage1", "stage2"):
        write_solver(folder / "solvers" / f"fast_{stage}.prototxt", "tiny", stage, 0.003)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # here and in other processes: another number of threads trains to other weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(folder)
        patch.setattr(train, "execute", in_this_process)
        patch.setattr(doctor, "run", lambda args: None)  # which tries an engine in a process of its own
        for name, seed in (("one", 1), ("other", 2)):
            write_weights(folder / f"{name}.caffemodel", seed)
        run("A")
        yield folder
    torch.set_num_threads(threads)


def write_weights(path, seed):
    """Write random weights of the narrow network."""
    caffe = importlib.import_module("torchcaffe")
    net, random = caffe.Net(str(ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"), caffe.TEST), np.random.RandomState(seed)
    for weights, bias in net.params.values():
        weights.data[...] = random.randn(*weights.data.shape) * np.sqrt(2 / np.prod(weights.data.shape[1:]))
        bias.data[...] = 0
    net.save(str(path))


def run(folder, **variables):
    """Run the pipeline to its table."""
    assert main(["pipeline", "table", *as_words(RUN=folder, **variables)]) == 0


def as_words(**variables):
    """Return the values of B as words of the command line."""
    return [f"{name}={value}" for name, value in {**BASE, **variables}.items()]


def outcome(folder):
    """Return the bytes of tables, probabilities and crops."""
    files = [path for part in ("results", "crops") for path in sorted((folder / part).rglob("*")) if path.is_file()]
    shown = [path for path in files if not path.name.startswith(".") and path.name != "crops.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in shown}


@contextlib.contextmanager
def changed(name):
    """Change a file of an input for a while; size and time of modification stay where they can."""
    path = {"training picture": "pictures one/train/SYN_0000002.jpg", "validation picture": "pictures one/val/SYN_1000002.jpg",
            "label": "pictures one/train/groundtruth.csv", "solver": "solvers/tiny_stage2.prototxt",
            "net": "prototxt/tiny.prototxt", "deploy net": "prototxt/vgg_gap_narrow_deploy.prototxt",
            "weights": "one.caffemodel"}[name]
    old, status = Path(path).read_bytes(), os.stat(path)
    new = {"training picture": Path("pictures one/train/SYN_0000001.jpg").read_bytes, "label": lambda: swapped(old),
           "validation picture": Path("pictures one/val/SYN_1000001.jpg").read_bytes,
           "solver": lambda: old.replace(b"base_lr: 0.001", b"base_lr: 0.004"),
           "net": lambda: old.replace(b"lr_mult: 2", b"lr_mult: 1"), "deploy net": lambda: old.replace(b"name: ", b"name:  "),
           "weights": Path("other.caffemodel").read_bytes}[name]()
    assert new != old
    Path(path).write_bytes(new)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        yield
    finally:
        Path(path).write_bytes(old)


def swapped(table):
    """Exchange the labels of the first melanoma and the first nevus."""
    lines = table.decode().splitlines()
    first, other = (next(n for n, line in enumerate(lines) if line.endswith(end)) for end in (",1.0,0.0", ",0.0,0.0"))
    lines[first], lines[other] = lines[first].split(",")[0] + ",0.0,0.0", lines[other].split(",")[0] + ",1.0,0.0"
    return ("\n".join(lines) + "\n").encode()


def test_every_variable_is_changed():
    assert set(VARIABLES) == (set(CHANGES) - set(FILES)) | ELSEWHERE


@pytest.mark.slow
@pytest.mark.parametrize("change", list(CHANGES))
def test_a_used_folder_ends_as_an_empty_one(world, capfd, change):
    base, more = ("with_weights", {"INIT": "one.caffemodel"}) if change == "weights" else ("A", {})
    if more:
        run(base, **more)
    used, fresh = (f"{kind}_{change}".replace(" ", "_") for kind in ("used", "fresh"))
    shutil.copytree(base, used)
    before, variables = outcome(world / used), {**more, **CHANGES[change]}
    with changed(change) if change in FILES else contextlib.nullcontext():
        run(used, **variables)
        run(fresh, **variables)
        capfd.readouterr()
        run(used, **variables)
    again = capfd.readouterr()
    expected, found = outcome(world / fresh), outcome(world / used)
    assert {name: found.get(name) == content for name, content in expected.items()} == dict.fromkeys(expected, True)
    assert crops(found, expected) == crops(expected, expected)
    assert all(before.get(name) == content for name, content in expected.items()) == (change in WITHOUT_EFFECT)
    assert "+ python" not in again.err
    assert again.out.count("up to date") == 13 + 2 * (change == "SPLIT") + (change in ("PATCH", "EDIT"))


def crops(names, expected):
    """Return the names among the crops of the splits that are expected."""
    return {name for name in names if any(name.startswith(f"crops/{split}") for split in ("train", "val", "test"))
            and any(other.startswith("/".join(name.split("/")[:2])) for other in expected)}


@pytest.mark.slow
@pytest.mark.parametrize("region", [BASE["REGION"], "--ground min --threshold 0.75 --class scored --margin 0.2"])
def test_classify_says_what_the_pipeline_says(world, region):
    """With no option: rule and hair removal are those of the stage 2 that it is given."""
    folder = Path("classified" if region != BASE["REGION"] else "A")
    if region != BASE["REGION"]:
        shutil.copytree("A", folder)
        run(str(folder), REGION=region)
    stages = two_stages.open_stages(folder / "stage1", folder / "stage2", "prototxt/vgg_gap_narrow_deploy.prototxt")
    boxes = crop_files.read_boxes(folder / "crops" / "val" / "boxes.csv")
    for image_id, probs in predictions.read(folder / "results" / "stage2_val.csv").items():
        answer = two_stages.classify(stages, read_image(Path("pictures one") / "val" / f"{image_id}.jpg"))
        assert answer.found.region.box == boxes[image_id].box
        np.testing.assert_allclose(answer.probs, probs, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_constant_of_the_code_is_followed(world, tmp_path):
    """Constants decide results as variables do: what other code made is made anew, and nothing before it."""
    for part in ("pycam", "data_tools", "torchcaffe"):
        shutil.copytree(ROOT / part, tmp_path / part)
    regions = tmp_path / "pycam" / "regions.py"
    regions.write_text(regions.read_text().replace("CAM_THRESHOLD = 0.2 ", "CAM_THRESHOLD = 0.8 "))
    region = {"REGION": "--ground min"}
    shutil.copytree("A", "used_constant")
    assert main(["pipeline", "crops", *as_words(RUN="used_constant", **region)]) == 0
    before = outcome(world / "used_constant")["crops/val/boxes.csv"]
    for folder in ("used_constant", "fresh_constant"):
        done = subprocess.run([sys.executable, "-m", "pycam", "pipeline", "crops", *as_words(RUN=folder, **region)], check=False,
                              capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        assert (done.stdout.count("up to date"), done.stdout.count(" crops, ")) == (5 * (folder[0] == "u"), 2)
    used, fresh = (outcome(world / f"{kind}_constant")["crops/val/boxes.csv"] for kind in ("used", "fresh"))
    assert used == fresh != before


@pytest.mark.slow
@pytest.mark.caffe
def test_the_engine_is_followed(world, real_caffe, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for Caffe's own Python, which begins in this folder
    shutil.copytree("A", "used_engine")
    for folder in ("used_engine", "fresh_engine"):
        assert main(["pipeline", "crops", *as_words(RUN=folder, ENGINE="caffe", CAFFE=str(Path(real_caffe).parents[1]))]) == 0
    used, fresh = (outcome(world / folder) for folder in ("used_engine", "fresh_engine"))
    assert {name: used.get(name) == content for name, content in fresh.items()} == dict.fromkeys(fresh, True)
    old, new, aside = (Path(f"{folder}/final.caffemodel").read_bytes() for folder in
                       ("A/stage1", "used_engine/stage1", "used_engine/stage1/old-1"))
    assert old == aside != new  # moved aside, not lost

"""The committed networks and solvers in real BVLC Caffe: it accepts them, and they have the shapes of the paper.

Real Caffe ends the process on bad input, so each test runs a short program in a Python of its own. That Python is named
by the variable SKIN_CAFFE, or is .caffe/bin/python3, as `tools/install_caffe.sh .caffe` makes it.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("SKIN_CAFFE") or ROOT / ".caffe" / "bin" / "python3")
pytestmark = [
    pytest.mark.caffe,
    pytest.mark.skipif(not PYTHON.is_file(), reason=f"no real Caffe: {PYTHON} is missing (SKIN_CAFFE names another)"),
]

FULL = {  # channels and size of every blob at 224 x 224
    "data": [3, 224], "conv1_1": [64, 224], "conv1_2": [64, 224], "pool1": [64, 112],
    "conv2_1": [128, 112], "conv2_2": [128, 112], "pool2": [128, 56],
    "conv3_1": [256, 56], "conv3_2": [256, 56], "conv3_3": [256, 56], "pool3": [256, 28],
    "conv4_1": [512, 28], "conv4_2": [512, 28], "conv4_3": [512, 28], "pool4": [512, 14],
    "conv5_1": [512, 14], "conv5_2": [512, 14], "conv5_3": [512, 12], "CAM_conv": [1024, 10], "CAM_pool": [1024, 1],
}  # fmt: skip
PUBLIC_WEIGHTS = {  # VGG-GAP as its authors published it, without their 1000-way classifier
    "conv1_1": [64, 3, 3, 3], "conv1_2": [64, 64, 3, 3], "conv2_1": [128, 64, 3, 3], "conv2_2": [128, 128, 3, 3],
    "conv3_1": [256, 128, 3, 3], "conv3_2": [256, 256, 3, 3], "conv3_3": [256, 256, 3, 3],
    "conv4_1": [512, 256, 3, 3], "conv4_2": [512, 512, 3, 3], "conv4_3": [512, 512, 3, 3],
    "conv5_1": [512, 512, 3, 3], "conv5_2": [512, 512, 3, 3], "conv5_3": [512, 512, 3, 3],
    "CAM_conv": [1024, 256, 3, 3],
}  # fmt: skip

WRITE_LMDBS = """
import os, lmdb, numpy
from caffe.proto import caffe_pb2
for stage, shade in (("stage1", 50), ("stage2", 150)):
    for split, records, value in (("train", 32, shade), ("val", 10, shade + 20)):
        folder = "build/lmdb/%s_%s" % (stage, split)
        os.makedirs(folder)
        with lmdb.open(folder, map_size=1 << 26) as database, database.begin(write=True) as transaction:
            for key in range(records):
                pixels = numpy.full((3, 224, 224), value, numpy.uint8)
                datum = caffe_pb2.Datum(channels=3, height=224, width=224, data=pixels.tobytes(), label=key % 3)
                transaction.put(b"%08d" % key, datum.SerializeToString())
for run in ("stage1", "stage2", "stage1_scratch"):
    os.makedirs("build/" + run)
print("null")
"""
DESCRIBE = """
import json
def describe(net):
    return {"blobs": {name: list(blob.shape) for name, blob in net.blobs.items()},
            "params": {name: [list(blob.shape) for blob in blobs] for name, blobs in net.params.items()}}
"""


def run_caffe(program, folder):
    """Run a program that prints JSON in the Python of real Caffe, with `prototxt` and `solvers` in `folder`."""
    environment = {**os.environ, "GLOG_minloglevel": "2", "OPENBLAS_NUM_THREADS": "2"}
    environment.pop("PYTHONPATH", None)
    command = [str(PYTHON), "-c", "import caffe\ncaffe.set_mode_cpu()\n" + program]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder that looks like the repository after the LMDBs are written: every record one shade, another in each."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("prototxt", "solvers"):
        (folder / name).symlink_to(ROOT / name)
    run_caffe(WRITE_LMDBS, folder)
    return folder


def expected_blobs(batch, divisor):
    channels = {name: count if name == "data" else count // divisor for name, (count, _) in FULL.items()}
    shapes = {name: [batch, channels[name], size, size] for name, (_, size) in FULL.items()}
    return {**shapes, "CAM_fc3": [batch, 3]}


def expected_params(divisor):
    def narrow(shape):
        return [shape[0] // divisor, shape[1] if shape[1] == 3 else shape[1] // divisor, 3, 3]

    params = {name: [narrow(shape), narrow(shape)[:1]] for name, shape in PUBLIC_WEIGHTS.items()}
    return {**params, "CAM_fc3": [[3, 1024 // divisor], [3]]}


@pytest.mark.parametrize(("name", "divisor"), [("vgg_gap", 1), ("vgg_gap_narrow", 8)])
def test_deploy_shapes(workplace, name, divisor):
    net = run_caffe(DESCRIBE + f"""
net = caffe.Net("prototxt/{name}_deploy.prototxt", caffe.TEST)
print(json.dumps(dict(describe(net), inputs=list(net.inputs), outputs=list(net.outputs))))
""", workplace)
    assert net["blobs"] == {**expected_blobs(1, divisor), "prob": [1, 3]}
    assert net["params"] == expected_params(divisor)
    assert (net["inputs"], net["outputs"]) == (["data"], ["prob"])


def test_number_of_parameters_of_the_full_net(workplace):
    count = run_caffe("""
net = caffe.Net("prototxt/vgg_gap_deploy.prototxt", caffe.TEST)
print(sum(blob.count for blobs in net.params.values() for blob in blobs))
""", workplace)
    assert count == 19437379 - 1024 * 256 * 9 == 17078083  # one group less its second half of the inputs


@pytest.mark.parametrize("name", ["vgg_gap_train_val", "vgg_gap_scratch_train_val", "vgg_gap_narrow_train_val"])
def test_training_nets_take_their_pictures_from_the_stage(workplace, name):
    shades = {"stage1": {"TRAIN": 50, "TEST": 70}, "stage2": {"TRAIN": 150, "TEST": 170}}
    program = DESCRIBE + f"""
found = {{}}
for stage in ("stage1", "stage2"):
    for phase in ("TRAIN", "TEST"):
        net = caffe.Net("prototxt/{name}.prototxt", getattr(caffe, phase), stages=[stage])
        net._forward(0, 0)
        pixel = [float(value) for value in net.blobs["data"].data[-1, :, 100, 100]]
        found[stage + phase] = dict(describe(net), pixel=pixel, label=net.blobs["label"].data.tolist())
print(json.dumps(found))
"""
    found = run_caffe(program, workplace)
    divisor = 8 if "narrow" in name else 1
    for stage, phases in shades.items():
        for phase, shade in phases.items():
            net = found[stage + phase]
            batch = 32 if phase == "TRAIN" else 10
            accuracy = {} if phase == "TRAIN" else {"accuracy": []}
            shapes = {blob: shape for blob, shape in net["blobs"].items() if "_split_" not in blob}
            assert shapes == {**expected_blobs(batch, divisor), "label": [batch], "loss": [], **accuracy}
            assert net["params"] == expected_params(divisor)
            assert net["pixel"] == pytest.approx([shade - 103.939, shade - 116.779, shade - 123.68], abs=1e-4)
            assert net["label"] == [key % 3 for key in range(batch)]


def test_smallest_picture_is_80_pixels(workplace):
    sizes = run_caffe("""
import json
net = caffe.Net("prototxt/vgg_gap_narrow_deploy.prototxt", caffe.TEST)
net.blobs["data"].reshape(2, 3, 80, 80)
net.reshape()
print(json.dumps([list(net.blobs[name].shape) for name in ("pool4", "CAM_conv", "prob")]))
""", workplace)
    assert sizes == [[2, 64, 5, 5], [2, 128, 1, 1], [2, 3]]


def test_public_weights_load_by_name_and_the_new_classifier_stays_fresh(workplace):
    # The published net pads its last convolutions too, and its classifier has another name and 1000 outputs.
    found = run_caffe("""
import json
text = open("prototxt/vgg_gap_deploy.prototxt").read()
public = text.replace("pad: 0", "pad: 1").replace("CAM_fc3", "CAM_fc").replace("num_output: 3", "num_output: 1000")
open("public.prototxt", "w").write(public)
net = caffe.Net("public.prototxt", caffe.TEST)
for index, blobs in enumerate(net.params.values()):
    blobs[0].data[...] = index + 1
    blobs[1].data[...] = -index - 1
net.save("public.caffemodel")
ours = caffe.Net("prototxt/vgg_gap_train_val.prototxt", caffe.TRAIN, stages=["stage1"])
before = ours.params["CAM_fc3"][0].data.copy()
ours.copy_from("public.caffemodel")
print(json.dumps({
    "public": list(net.params), "map": list(net.blobs["CAM_conv"].shape),
    "copied": [[float(b[0].data.min()), float(b[0].data.max()), float(b[1].data.max())] for b in ours.params.values()],
    "fresh": bool((ours.params["CAM_fc3"][0].data == before).all() and before.std() > 0),
}))
""", workplace)
    assert found["public"] == [*PUBLIC_WEIGHTS, "CAM_fc"]
    assert found["map"] == [1, 1024, 14, 14]
    assert found["copied"][:14] == [[n, n, -n] for n in range(1, 15)]
    assert found["fresh"]


@pytest.mark.parametrize("name", ["stage1", "stage2", "stage1_scratch", "narrow_stage1", "narrow_stage2"])
def test_solver_is_accepted_and_both_its_nets_read_the_same_stage(workplace, name):
    pixels = run_caffe(f"""
import json
solver = caffe.get_solver("solvers/{name}.prototxt")
nets = [solver.net, solver.test_nets[0]]
for net in nets:
    net._forward(0, 0)
print(json.dumps([round(float(net.blobs["data"].data[0, 0, 0, 0]) + 103.939) for net in nets]))
""", workplace)
    assert pixels == ([150, 170] if "stage2" in name else [50, 70])


def test_fine_tuning_moves_the_last_layers_only(workplace):
    # One step of the narrow widths with the full net's rates: the frozen layers must not move by a single bit.
    moved = run_caffe("""
import json, re
text = open("prototxt/vgg_gap_train_val.prototxt").read().replace("batch_size: 32", "batch_size: 2")
text = re.sub(r"num_output: (\\d{2,})", lambda found: "num_output: %d" % (int(found.group(1)) // 8), text)
text = text.replace("kernel_size: 3\\n  }", 'kernel_size: 3\\n    weight_filler { type: "msra" }\\n  }')
open("tuned.prototxt", "w").write(text)
solver = open("solvers/stage1.prototxt").read().replace("prototxt/vgg_gap_train_val.prototxt", "tuned.prototxt")
open("tuned_solver.prototxt", "w").write(solver.replace("solver_mode: GPU", "test_initialization: false"))
solver = caffe.get_solver("tuned_solver.prototxt")
before = {name: [blob.data.copy() for blob in blobs] for name, blobs in solver.net.params.items()}
solver.step(1)
print(json.dumps([name for name, blobs in solver.net.params.items()
                  if any((old != new.data).any() for old, new in zip(before[name], blobs))]))
""", workplace)
    assert moved == ["conv5_1", "conv5_2", "conv5_3", "CAM_conv", "CAM_fc3"]


@pytest.mark.slow
def test_narrow_run_starts_at_chance_and_writes_where_it_says(workplace):
    loss = run_caffe("""
import json
solver = caffe.get_solver("solvers/narrow_stage1.prototxt")
solver.step(1)
solver.snapshot()
print(json.dumps(float(solver.net.blobs["loss"].data)))
""", workplace)
    assert loss == pytest.approx(1.0986, abs=0.15)  # ln 3: random weights of a sound scale know nothing
    written = sorted(path.name for path in (workplace / "build" / "stage1").iterdir())
    assert written == ["vgg_gap_narrow_iter_1.caffemodel", "vgg_gap_narrow_iter_1.solverstate"]

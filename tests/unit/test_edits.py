"""EDIT, PATCH and RECORDS: what differs from the committed files in solver, nets and records."""
from pathlib import Path

import pytest

from data_tools.augment import picture_side
from pycam import edits, job
from pycam.__main__ import main
from pycam.errors import CamError
from torchcaffe.netparam import read_net

ROOT = Path(__file__).resolve().parents[2]
SOLVER = ROOT / "solvers" / "vgg16_random_stage1.prototxt"
DEPLOY = ROOT / "prototxt" / "vgg16_gap_deploy.prototxt"


@pytest.fixture(autouse=True)
def _at_home(monkeypatch):
    monkeypatch.chdir(ROOT)


def read(tmp_path, *words, **more):
    return job.read_job(SOLVER, tmp_path, "stage1", edit=words, **more)


def layers(net):
    return {layer.name: layer for layer in net.layer}


def rates(layer):
    return [param.lr_mult for param in layer.param]


def test_nothing_given_nothing_differs(tmp_path):
    before, after = job.read_job(SOLVER, tmp_path, "stage1"), read(tmp_path)
    assert (before.solver, before.net, before.patch) == (after.solver, after.net, after.patch)


def test_fields_of_the_solver_and_of_layers(tmp_path):
    made = read(tmp_path, "solver.base_lr=0.002", "solver.type=Adam", "CAM_conv.group=2", "CAM_conv.pad=1", "data.mirror=false")
    assert (made.solver.base_lr, made.solver.type) == (pytest.approx(0.002), "Adam")
    cam = layers(made.training)["CAM_conv"].convolution_param
    assert (cam.group, list(cam.pad), cam.num_output) == (2, [1], 1024)
    assert not layers(made.training)["data"].transform_param.mirror


def test_rates_of_all_layers_that_a_name_fits(tmp_path):
    before, after = (layers(read(tmp_path, *words).training) for words in ((), ("conv4_*.lr_mult=0.5",)))
    assert {name for name in after if rates(after[name]) != rates(before[name])} == {"conv4_1", "conv4_2", "conv4_3"}
    assert rates(after["conv4_2"]) == [0.5, 1.0]  # biases twice as fast


def test_a_changed_field_is_another_training(tmp_path):
    before, after = (job.essence(read(tmp_path, *words)) for words in ((), ("CAM_conv.group=2",)))
    assert {name for name in before if before[name] != after[name]} == {"layer CAM_conv", "test nets"}


def test_another_input_reaches_the_patches_that_the_net_draws_and_the_deploy_net(tmp_path):
    made = read(tmp_path, patch=160)
    assert layers(made.training)["data"].transform_param.crop_size == 160
    assert made.patch == 160
    net = read_net(str(DEPLOY))
    edits.edit_net(net, [], 160, deploy=True)
    assert list(net.layer[0].input_param.shape[0].dim) == [1, 3, 160, 160]
    assert [picture_side(patch) for patch in (224, 112, 160)] == [256, 128, 183]


def test_the_deploy_net_follows_what_it_can(tmp_path):
    out = tmp_path / "deploy.prototxt"
    words = ["edit", "--net", str(DEPLOY), "--out", str(out), "--edit", "CAM_conv.pad=1", "--edit", "conv4_*.lr_mult=1",
             "--edit", "solver.base_lr=1", "--edit", "data.mirror=false", "--patch", "160"]
    assert main(words) == 0  # though the Input layer, which has the Data layer's name, does not mirror
    made, plain = read_net(str(out)), read_net(str(DEPLOY))
    assert {a.name for a, b in zip(made.layer, plain.layer) if a != b} == {"data", "CAM_conv"}


@pytest.mark.parametrize(("word", "words"), [
    ("CAM_conv", "expected NAME.FIELD=VALUE"), ("CAM_conv.pad", "expected NAME.FIELD=VALUE"), ("=1", "expected NAME.FIELD=VALUE"),
    ("CAM_cnv.pad=1", "did you mean CAM_conv"), ("conv6_*.pad=1", "is not known"), ("relu1_1.pad=1", "relu1_1 has no parameters"),
    ("CAM_conv.padd=1", "CAM_conv has no parameters with that field"), ("solver.base_rl=1", "did you mean base_lr"),
    ("solver.base_lr=fast", "EDIT, solver.base_lr=fast"), ("CAM_conv.pad=-1", "EDIT, CAM_conv.pad=-1"),
    ("CAM_conv.lr_mult=fast", "expected a number"), ("solver.net_param=1", "EDIT, solver.net_param=1"),
    ('solver.type=S"GD', "EDIT, solver.type")])
def test_a_wrong_word_is_one_line(tmp_path, word, words):
    with pytest.raises(CamError, match=words) as caught:
        read(tmp_path, word)
    assert "\n" not in str(caught.value)

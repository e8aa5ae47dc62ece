"""What is looked at before a training."""

import pytest

from data_tools import manifest
from pycam import checks
from pycam.errors import CamError


def test_data_is_checked_and_hashed(run, capsys):
    _, _, solver, net = run.texts()
    made = manifest.read(run.folder / "lmdb" / "stage1_train")
    assert checks.check_data(net, solver, "stage1") == {"stage1_train": made.data_sha256}
    assert "note: test_iter 15 x batch_size 10 is not the 3 records of " in capsys.readouterr().err
    _, _, solver, net = run.texts(lambda text: text.replace("iter: 15", "iter: 1").replace("batch_size: 10", "batch_size: 3"))
    checks.check_data(net, solver, "stage1")
    assert capsys.readouterr().err == ""
    with pytest.raises(Exception, match="stage2_train"):
        checks.check_data(net, solver, "stage2")


def test_too_few_outputs_are_refused(run):
    _, _, solver, net = run.texts(lambda text: text.replace("num_output: 3\n", "num_output: 2\n"))
    with pytest.raises(CamError, match="stage1_train: 3 classes, the net has 2 outputs"):
        checks.check_data(net, solver, "stage1")


def test_a_net_without_fillers_needs_weights(run):
    _, _, _, net = run.texts(lambda text: text.replace('    weight_filler { type: "msra" }\n', ""))
    with pytest.raises(CamError, match=r"conv1_2 and others have no filler.*INIT="):
        checks.check_start(None, net, "", "stage1", None)

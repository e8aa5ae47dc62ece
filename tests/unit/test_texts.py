"""The solver and net texts of a training."""

from pathlib import Path

import pytest

from pycam import texts
from pycam.errors import CamError
from torchcaffe.netparam import parse_text, read_net, read_solver
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
NARROW = ROOT / "solvers" / "narrow_stage1.prototxt"
NET = (ROOT / "prototxt" / "vgg_gap_narrow_train_val.prototxt").read_text()


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the committed solvers name their net from here


@pytest.mark.parametrize("solver", ["stage1", "stage2", "stage1_scratch", "narrow_stage1", "narrow_stage2", "demo_stage1"])
def test_the_run_replaces_build_and_nothing_else_changes(tmp_path, solver):
    source = ROOT / "solvers" / f"{solver}.prototxt"
    solver_text, net_text = texts.rewrite(source, Path("my/run"), Path("my/run/stage1"), 0, None)
    old = read_solver(str(source))
    old_net = Path(old.net).read_text()
    assert 'build/' in old_net
    assert 'build/' not in net_text + "".join(line for line in solver_text.splitlines() if not line.startswith("#"))
    assert net_text.replace('"my/run/', '"build/') == old_net
    (tmp_path / "solver").write_text(solver_text)
    new = read_solver(str(tmp_path / "solver"))
    assert (new.net, new.solver_mode) == ("my/run/stage1/train_val.prototxt", new.GPU)
    assert new.snapshot_prefix == old.snapshot_prefix.replace("build", "my/run")
    for field in ("net", "solver_mode", "snapshot_prefix"):
        new.ClearField(field)
        old.ClearField(field)
    assert new == old


@pytest.mark.parametrize(("gpu", "mode"), [(None, "CPU"), (0, "GPU"), (3, "GPU")])
@pytest.mark.parametrize("written", ["solver_mode: CPU", "solver_mode: GPU", "  solver_mode : GPU # comment", ""])
def test_the_gpu_decides_the_mode(tmp_path, gpu, mode, written):
    source = tmp_path / "s.prototxt"
    lines = [line for line in NARROW.read_text().splitlines() if not line.startswith("solver_mode")]
    source.write_text("\n".join([*lines, written]))  # without a line end
    text, _ = texts.rewrite(source, tmp_path, tmp_path / "stage1", gpu, None)
    source.write_text(text)
    assert read_solver(str(source)).solver_mode == getattr(caffe_pb2.SolverParameter, mode)
    assert text.count("solver_mode") == 1


def test_a_folder_with_signs_of_regular_expressions(tmp_path):
    root = tmp_path / r"a\1 (b)"
    text, net = texts.rewrite(NARROW, root, root / "stage1", None, None)
    assert f'net: "{root}/stage1/train_val.prototxt"' in text
    assert f'"{root}/lmdb/stage1_train"' in net


def test_another_training_of_a_stage_has_its_own_folder(tmp_path):
    scratch = ROOT / "solvers" / "stage1_scratch.prototxt"
    job = texts.prepare(scratch, tmp_path, "stage1", None, None, into="stage1_scratch")
    assert (job.stage, job.folder, job.prefix.parent) == ("stage1", tmp_path / "stage1_scratch", tmp_path / "stage1_scratch")
    assert job.solver.net == str(job.folder / texts.NET)


def test_the_seed_replaces_the_solvers(tmp_path):
    text, _ = texts.rewrite(NARROW, tmp_path, tmp_path / "stage1", None, None, 7)
    assert parse_text(text, caffe_pb2.SolverParameter(), "solver").random_seed == 7


@pytest.mark.parametrize(("iter_size", "batch", "expected"), [(None, 8, 4), (None, 32, 1), (3, 16, 6)])
def test_pieces_of_a_batch_make_the_batch(tmp_path, iter_size, batch, expected):
    source = tmp_path / "s.prototxt"
    source.write_text(NARROW.read_text() + (f"iter_size: {iter_size}" if iter_size else ""))
    text, net_text = texts.rewrite(source, tmp_path, tmp_path, None, batch)
    source.write_text(text)
    assert read_solver(str(source)).iter_size == expected
    (tmp_path / "net").write_text(net_text)
    sizes = {(layer.include[0].phase, layer.data_param.batch_size) for layer in read_net(str(tmp_path / "net")).layer
             if layer.type == "Data"}
    assert sizes == {(caffe_pb2.TRAIN, batch), (caffe_pb2.TEST, 10)}


@pytest.mark.parametrize("batch", [0, -4, 5, 64])
def test_a_batch_that_does_not_divide_is_refused(batch):
    with pytest.raises(CamError, match=rf"--batch {batch}: must divide .* \[32\]"):
        texts.split_batch(NET, batch)


@pytest.mark.parametrize("line", ["snapshot: 0", "snapshot_after_train: false", "snapshot_format: HDF5"])
def test_a_training_that_could_not_go_on_is_refused(tmp_path, line):
    text = "\n".join(part for part in NARROW.read_text().splitlines() if not part.startswith(line.partition(":")[0] + ":"))
    with pytest.raises(CamError, match="needs snapshot"):
        texts.parse((f"{text}\n{line}\n", 'layer { name: "a" type: "Input" }'), NARROW)

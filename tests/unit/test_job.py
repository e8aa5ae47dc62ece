"""A training's solver and net, as they are run."""

from pathlib import Path

import pytest

from pycam import job
from pycam.errors import CamError
from torchcaffe.netparam import read_net, read_solver
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
NARROW = ROOT / "solvers" / "narrow_stage1.prototxt"


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the committed solvers name their net from here


@pytest.fixture
def own(tmp_path):
    """Return a function that writes a solver and a net of texts of one's own and reads them."""
    def read(net, solver="", **more):
        (tmp_path / "net").write_text(net)
        snapshot = "" if "snapshot:" in solver else "snapshot: 5"
        (tmp_path / "solver").write_text(
            f'net: "{tmp_path}/net" snapshot_prefix: "build/stage1/x" max_iter: 10 {snapshot} {solver}')
        return job.read_job(tmp_path / "solver", tmp_path / "run", "stage1", **more)
    return read


def layer(kind, param, top="data", more=""):
    return f'layer {{ name: "{top}" type: "{kind}" top: "{top}" {param} {more} }}\n'


@pytest.mark.parametrize("solver", ["stage1", "stage2", "stage1_scratch", "narrow_stage1", "narrow_stage2", "demo_stage1"])
def test_the_run_replaces_build_and_nothing_else_changes(tmp_path, solver):
    source = ROOT / "solvers" / f"{solver}.prototxt"
    read = job.read_job(source, tmp_path / "my run", gpu=0)
    read.folder.mkdir(parents=True)
    solver_path, net_path = job.write(read)
    old, new = read_solver(str(source)), read_solver(str(solver_path))
    old_net, new_net = read_net(old.net), read_net(str(net_path))
    assert (new.net, new.solver_mode) == (str(net_path), new.GPU)
    assert new.snapshot_prefix == old.snapshot_prefix.replace("build", str(tmp_path / "my run"))
    for field in ("net", "solver_mode", "snapshot_prefix"):
        new.ClearField(field)
        old.ClearField(field)
    assert new == old
    sources = [part.data_param.source for part in old_net.layer if part.type == "Data"]
    assert all(path.startswith("build/lmdb/") for path in sources)
    for part in old_net.layer:
        if part.type == "Data":
            part.data_param.source = part.data_param.source.replace("build", str(tmp_path / "my run"))
    assert new_net == old_net


def test_every_path_below_build_is_moved(own, tmp_path):
    net = own(layer("ImageData", 'image_data_param { source: "build/list" root_folder: "build/p/" batch_size: 2 } '
                    'transform_param { mean_file: "build/mean" }')
              + layer("WindowData", 'window_data_param { source: "build/w" batch_size: 2 } '
                      'transform_param { mean_file: "build/m" }', "w")).net
    image, window = net.layer
    run = f"{tmp_path}/run"
    assert (image.image_data_param.source, image.image_data_param.root_folder) == (f"{run}/list", f"{run}/p/")
    assert image.transform_param.mean_file == f"{run}/mean"
    assert (window.window_data_param.source, window.transform_param.mean_file) == (f"{run}/w", f"{run}/m")


@pytest.mark.parametrize(("gpu", "mode"), [(None, "CPU"), (0, "GPU"), (3, "GPU")])
def test_several_fields_on_a_line_keep_their_values(own, gpu, mode):
    solver = own(layer("Input", ""), "base_lr: 0.5 random_seed: 3 solver_mode: GPU iter_size: 2 gamma: 7", gpu=gpu, seed=9).solver
    assert (solver.base_lr, solver.random_seed, solver.iter_size, solver.gamma) == (0.5, 9, 2, 7)
    assert solver.solver_mode == getattr(caffe_pb2.SolverParameter, mode)


def test_a_folder_with_odd_signs(tmp_path):
    root = tmp_path / r'a\1 (b) "c" ü'
    read = job.read_job(NARROW, root)
    read.folder.mkdir(parents=True)
    solver_path, net_path = job.write(read)
    assert read_solver(str(solver_path)).net == str(net_path)
    assert read_net(str(net_path)).layer[0].data_param.source == f"{root}/lmdb/stage1_train"


def test_another_training_of_a_stage_has_its_own_folder(tmp_path):
    for words in ({"stage": "stage1", "into": "stage1_scratch"}, {}):  # without either the folder is that of the snapshots
        read = job.read_job(ROOT / "solvers" / "stage1_scratch.prototxt", tmp_path, **words)
        assert (read.stage, read.name, read.folder) == ("stage1", "stage1_scratch", tmp_path / "stage1_scratch")
    read = job.read_job(NARROW, tmp_path, "stage1", "again")
    assert read.prefix.parent == read.folder == tmp_path / "again"  # it takes no snapshot of stage1's for its own


def test_the_stage_is_the_solvers(tmp_path):
    with pytest.raises(CamError, match=r"narrow_stage1\.prototxt: trains stage1, expected the solver of stage2"):
        job.read_job(NARROW, tmp_path, "stage2")


# ---------------------------------------------------------------- the batch
OLD = """layers {{ name: "data" type: {kind} top: "data" {param} include {{ phase: TRAIN }} }}
layers {{ name: "data" type: {kind} top: "data" {test} include {{ phase: TEST }} }}"""


@pytest.mark.parametrize(("iter_size", "batch", "expected"), [(1, 8, 4), (1, 32, 1), (3, 16, 6)])
def test_pieces_of_a_batch_make_the_batch(tmp_path, iter_size, batch, expected):
    source = tmp_path / "s.prototxt"
    source.write_text(f"{NARROW.read_text()} iter_size: {iter_size}")
    read = job.read_job(source, tmp_path, batch=batch)
    assert read.solver.iter_size == expected
    assert [part.data_param.batch_size for part in read.training.layer if part.type == "Data"] == [batch]
    assert [part.data_param.batch_size for net in read.testing for part in net.layer if part.type == "Data"] == [10]
    others = [part.data_param.batch_size for part in read.net.layer if part.type == "Data" and "stage2" in part.include[0].stage]
    assert others == [32, 10]  # those of the other stage


@pytest.mark.parametrize("param", ["data_param", "image_data_param", "hdf5_data_param", "memory_data_param", "window_data_param"])
def test_every_layer_with_a_batch_is_divided(own, param):
    one = layer("X", f"{param} {{ batch_size: 6 }}", more="include { phase: TRAIN }")
    other = layer("X", f"{param} {{ batch_size: 6 }}", more="include { phase: TEST }")
    read = own(one + other, "test_iter: 1 test_interval: 1", batch=2)
    assert [getattr(part, param).batch_size for part in read.net.layer] == [2, 6]
    assert read.solver.iter_size == 3


def test_of_a_net_in_old_syntax_only_the_training_batch_is_divided(own):
    net = OLD.format(kind="DATA", param="data_param { batch_size: 32 }", test="data_param { batch_size: 32 }")
    read = own(net, "test_iter: 1 test_interval: 1", batch=16)
    assert [part.data_param.batch_size for part in read.net.layer] == [16, 32]
    assert read.solver.iter_size == 2


def test_a_layer_that_feeds_both_is_refused(own):
    with pytest.raises(CamError, match=r"--batch 2 .*: layer data feeds training and testing; give each its own"):
        own(layer("Data", "data_param { batch_size: 6 }"), "test_iter: 1 test_interval: 1", batch=2)
    assert own(layer("Data", "data_param { batch_size: 6 }"), batch=2).solver.iter_size == 3  # nothing is tested


@pytest.mark.parametrize("batch", [0, -4, 5, 64])
def test_a_batch_that_does_not_divide_is_refused(tmp_path, batch):
    with pytest.raises(CamError, match=rf"--batch {batch} \(BATCH= of make\): must divide .* \[32\]"):
        job.read_job(NARROW, tmp_path, batch=batch)


# ---------------------------------------------------------------- the length
def test_a_short_training_has_its_steps_at_the_same_shares(tmp_path):
    solver = job.read_job(ROOT / "solvers" / "stage1.prototxt", tmp_path, max_iter=1000).solver
    assert (solver.max_iter, solver.test_interval, solver.stepsize, solver.snapshot) == (1000, 20, 400, 200)
    assert (solver.display, solver.test_iter[0], solver.gamma) == (25, 15, pytest.approx(0.1))
    solver = job.read_job(ROOT / "solvers" / "stage1.prototxt", tmp_path, max_iter=2).solver
    assert (solver.test_interval, solver.stepsize, solver.snapshot, solver.display) == (1, 1, 1, 2)


def test_steps_at_places_of_their_own_and_rare_snapshots_scale(own):
    read = own(layer("Input", ""), "stepvalue: 4 stepvalue: 8", max_iter=5)
    assert list(read.solver.stepvalue) == [2, 4]
    assert not read.solver.HasField("stepsize")
    assert own(layer("Input", ""), "snapshot: 1000", max_iter=5).solver.snapshot == 5
    with pytest.raises(CamError, match=r"--max-iter 0 \(MAX_ITER= of make\): expected 1 or more"):
        own(layer("Input", ""), max_iter=0)


# ---------------------------------------------------------------- what is refused, what counts
@pytest.mark.parametrize("line", ["snapshot: 0", "snapshot_after_train: false", "snapshot_format: HDF5"])
def test_a_training_that_could_not_go_on_is_refused(own, line):
    with pytest.raises(CamError, match="needs snapshot"):
        own(layer("Input", ""), line)


@pytest.mark.parametrize(("line", "text"), [('test_net: "t"', "instead of test_net"), ('weights: "a, b"', "names 2 files"),
                                            ("test_state {}", "1 test_state for 0 test_iter")])
def test_forms_of_a_solver_that_are_refused(own, line, text):
    with pytest.raises(CamError, match=text):
        own(layer("Input", ""), line)


def test_the_weights_that_the_solver_names_are_given_on(own, tmp_path):
    read = own(layer("Input", ""), 'weights: "build/w.caffemodel"')
    assert read.start == tmp_path / "run" / "w.caffemodel"
    assert not read.solver.weights


def test_files_that_the_training_net_reads_are_its_inputs(own, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("a b.jpg", "c.jpg"):
        (tmp_path / name).write_text(name)
    (tmp_path / "run" / "list").write_text("a b.jpg 0\nnone.jpg 1\nc.jpg 2\n")
    read = own(layer("ImageData", f'image_data_param {{ source: "build/list" root_folder: "{tmp_path}/" batch_size: 2 }}')
               + layer("Data", 'data_param { source: "build/lmdb/x" } transform_param { mean_file: "m" }', "d")
               + layer("Data", 'data_param { source: "other/x" }', "e")
               + layer("Data", 'data_param { source: "build/lmdb/y" }', "d", "include { phase: TEST }"))
    assert job.inputs(read) == {
        "data source": tmp_path / "run" / "list", "data a b.jpg": tmp_path / "a b.jpg", "data c.jpg": tmp_path / "c.jpg",
        "lmdb/x": tmp_path / "run" / "lmdb" / "x" / "data.mdb", "d mean_file": Path("m"),
        "lmdb/x of e": Path("other/x/data.mdb")}

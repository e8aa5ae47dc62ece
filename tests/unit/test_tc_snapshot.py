"""Snapshots: a resumed run is the straight run."""

import os

import h5py
import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe.proto import caffe_pb2 as pb

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 6 dim: 5 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 6 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 4 weight_filler { type: "msra" } } }
layer { name: "tanh" type: "TanH" bottom: "a" top: "a" }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 3 weight_filler { type: "msra" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "t" top: "loss" }
"""
KINDS = {
    "SGD": "momentum: 0.9", "Nesterov": "momentum: 0.9", "AdaGrad": "delta: 1e-4", "RMSProp": "rms_decay: 0.9 delta: 1e-4",
    "AdaDelta": "momentum: 0.9 delta: 1e-4", "Adam": "momentum: 0.9 momentum2: 0.99",
}  # fmt: skip


@pytest.fixture
def make_solver(tmp_path):
    def make(kind="SGD", more="", net=NET):
        (tmp_path / "net.prototxt").write_text(net)
        path = tmp_path / "solver.prototxt"
        path.write_text(f'net: "{tmp_path}/net.prototxt" type: "{kind}" base_lr: 0.05 lr_policy: "multistep" stepvalue: 3 '
                        f'stepvalue: 6 gamma: 0.3 {KINDS[kind]} random_seed: 1 snapshot_prefix: "{tmp_path}/s" {more}')
        solver = caffe.get_solver(str(path))
        random = np.random.RandomState(2)
        for name in ("x", "t"):
            solver.net.blobs[name].data[...] = random.randn(*solver.net.blobs[name].shape)
        return solver
    return make


def weights(solver):
    return np.concatenate([b.data.ravel() for blobs in solver.net.params.values() for b in blobs])


@pytest.mark.parametrize("end", ["", ".h5"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_straight_run(make_solver, tmp_path, kind, end):
    more = "snapshot_format: HDF5" if end else ""
    straight = make_solver(kind, more)
    straight.step(4)
    straight.snapshot()
    straight.step(4)
    resumed = make_solver(kind, more)
    resumed.restore(f"{tmp_path}/s_iter_4.solverstate{end}")
    assert (resumed.iter, resumed.current_step) == (4, 1)
    resumed.step(4)
    np.testing.assert_array_equal(weights(resumed), weights(straight))
    assert resumed.lr == straight.lr


def test_files_and_what_is_in_them(make_solver, tmp_path):
    solver = make_solver("SGD", "snapshot: 2 max_iter: 5")
    solver.solve()
    assert sorted(p for p in os.listdir(tmp_path) if p.startswith("s_")) == [
        f"s_iter_{i}.{end}" for i in (2, 4, 5) for end in ("caffemodel", "solverstate")]
    state = pb.SolverState.FromString((tmp_path / "s_iter_5.solverstate").read_bytes())
    assert (state.iter, state.current_step, state.learned_net) == (5, 1, f"{tmp_path}/s_iter_5.caffemodel")
    assert [list(h.shape.dim) for h in state.history] == [[4, 5], [4], [3, 4], [3]]
    model = pb.NetParameter.FromString((tmp_path / "s_iter_5.caffemodel").read_bytes())
    assert [layer.name for layer in model.layer] == ["x", "t", "a", "tanh", "b", "loss"]
    np.testing.assert_array_equal(np.array(model.layer[2].blobs[0].data, np.float32).reshape(4, 5),
                                  solver.net.params["a"][0].data)


def other_net():
    return NET.replace("num_output: 4", "num_output: 7")


WRONG = [  # how the state is made, how it is read, error
    (("Adam", NET), ("SGD", NET), "incorrect length of history: 8 blobs, 4 expected"),
    (("SGD", other_net()), ("SGD", NET), "history blob 0 has shape .7, 5., expected .4, 5."),
    (("SGD", NET), ("Adam", NET), "incorrect length of history: 4 blobs, 8 expected"),
]


@pytest.mark.parametrize(("writer", "reader", "expected"), WRONG)
def test_states_of_other_solvers(make_solver, tmp_path, writer, reader, expected):
    make_solver(writer[0], net=writer[1]).snapshot()
    solver = make_solver(reader[0], net=reader[1])
    with pytest.raises(caffe.CaffeError, match=expected):
        solver.restore(f"{tmp_path}/s_iter_0.solverstate")


@pytest.mark.parametrize("name", ["s_iter_0.caffemodel", "solver.prototxt", "nowhere"])
def test_other_files_as_states(make_solver, tmp_path, name):
    solver = make_solver()
    solver.snapshot()
    with pytest.raises(caffe.CaffeError, match=name):
        solver.restore(f"{tmp_path}/{name}")


def test_a_failed_restore_leaves_the_solver_as_it_was(make_solver, tmp_path):
    make_solver("Adam").snapshot()
    solver = make_solver()
    solver.step(2)
    before = weights(solver)
    with pytest.raises(caffe.CaffeError):
        solver.restore(f"{tmp_path}/s_iter_0.solverstate")
    assert solver.iter == 2
    np.testing.assert_array_equal(weights(solver), before)


def test_diffs_are_written_when_asked_for(make_solver, tmp_path):
    solver = make_solver("SGD", "snapshot_diff: true")
    solver.step(1)
    solver.snapshot()
    model = pb.NetParameter.FromString((tmp_path / "s_iter_1.caffemodel").read_bytes())
    np.testing.assert_array_equal(np.array(model.layer[2].blobs[0].diff, np.float32),
                                  solver.net.params["a"][0].diff.ravel())


def test_caffes_hdf5_leaves_out_what_is_another_layers(tmp_path):
    """Caffe writes a shared parameter once, where it is first named; `b` shares its weights, `c` its bias too."""
    ip = ('layer {{ name: "{0}" type: "InnerProduct" bottom: "{1}" top: "{0}" {2} inner_product_param {{ num_output: 3 '
          'weight_filler {{ type: "gaussian" }} }} }}\n')  # fmt: skip
    text = ('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
            + ip.format("a", "x", 'param { name: "w" } param { name: "v" }') + ip.format("b", "a", 'param { name: "w" }')
            + ip.format("c", "b", 'param { name: "w" } param { name: "v" }') + ip.format("d", "c", ""))
    (tmp_path / "net.prototxt").write_text(text)
    written, read = (caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST) for _ in range(2))
    for i, blob in enumerate(blob for blobs in written.params.values() for blob in blobs):
        blob.data[...] = i + 1
    path = str(tmp_path / "w.h5")
    written.save_hdf5(path)
    with h5py.File(path, "a") as file:
        for name in ("b/0", "c/0", "c/1"):
            del file["data"][name]
    read.copy_from(path)
    for name, blobs in written.params.items():
        for mine, theirs in zip(read.params[name], blobs):
            np.testing.assert_array_equal(mine.data, theirs.data)
    with h5py.File(path, "a") as file:
        del file["data/d/0"]
    with pytest.raises(caffe.CaffeError, match=r"layer 'd' .*holds 1 blobs for it, it has 2"):
        read.copy_from(path)


def test_the_name_of_the_weights_ends_with_a_zero_byte_in_hdf5(make_solver, tmp_path):
    """Real Caffe reads on until it finds one."""
    solver = make_solver(more="snapshot_format: HDF5")
    solver.step(1)
    solver.snapshot()
    with h5py.File(tmp_path / "s_iter_1.solverstate.h5") as file:
        assert file["learned_net"].dtype.itemsize == len(f"{tmp_path}/s_iter_1.caffemodel.h5") + 1
    make_solver().restore(str(tmp_path / "s_iter_1.solverstate.h5"))


def test_the_log_says_where_snapshots_go_and_that_a_history_is_restored(tmp_path, capsys):
    (tmp_path / "net.prototxt").write_text(NET)
    path = tmp_path / "my.prototxt"
    for prefix, told in (("", f"snapshot_prefix was not specified and is set to {tmp_path}/my"),
                         (f'snapshot_prefix: "{tmp_path}"', f"snapshot_prefix was a directory and is replaced to {tmp_path}/my")):
        path.write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0.05 lr_policy: "fixed" {prefix}')
        solver = caffe.get_solver(str(path))
        assert told in capsys.readouterr().err
    solver.snapshot()
    solver.restore(str(tmp_path / "my_iter_0.solverstate"))
    assert "SGDSolver: restoring history" in capsys.readouterr().err

"""Weights and solver states that are not what they should be: one line, and nothing of them is taken."""

import os

import h5py
import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe import hdf5, parallel, snapshot
from torchcaffe.proto import caffe_pb2 as pb

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 2 weight_filler { value: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "t" top: "loss" }
"""


@pytest.fixture
def solver(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    path = tmp_path / "solver.prototxt"
    path.write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" snapshot_prefix: "{tmp_path}/s"')
    return caffe.get_solver(str(path))


def model(*layers):
    """Return a weights file of layers (name, [(shape, values)])."""
    net = pb.NetParameter()
    for name, blobs in layers:
        layer = net.layer.add(name=name)
        for shape, values in blobs:
            layer.blobs.add(data=values).shape.dim.extend(shape)
    return net.SerializeToString()


GOOD = [((2, 3), [1.0] * 6), ((2,), [0.0] * 2)]
MODELS = [  # name, file, words of the error
    ("71 axes", model(("fc", [((1,) * 71, [1.0]), *GOOD[1:]])), "71 axes"),
    ("negative", model(("fc", [((-2, -3), [1.0] * 6), *GOOD[1:]])), r"shape \(-2, -3\)"),
    ("two of -1", model(("fc", [((-1, -1, 6), [1.0] * 6), *GOOD[1:]])), r"shape \(-1, -1, 6\)"),
    ("no shape", model(("fc", [((), [1.0] * 6), *GOOD[1:]])), r"shape \(\) holds 6 values"),
    ("zero", model(("fc", [((0, 3), []), *GOOD[1:]])), "shape mismatch"),
    ("huge and empty", model(("fc", [((0, 2**40, 2**40), []), *GOOD[1:]])), "a blob of shape"),
    ("too few", model(("fc", [((2, 3), [1.0] * 5), *GOOD[1:]])), "holds 5 values"),
    ("two of one name", model(("fc", GOOD), ("fc", GOOD)), "2 layers 'fc' with weights"),
    ("another shape", model(("fc", [((4, 5), [1.0] * 20), *GOOD[1:]])), "shape mismatch"),
    ("cut off", model(("fc", GOOD))[:-3], "cut off or damaged"),
    ("name of bad bytes", model(("fc", GOOD)).replace(b"fc", b"\xff\xfe"), "cut off or damaged"),
    ("many fields", b"\x52\x00" * 1_100_000, "this is no NetParameter"),
    ("no number", b"\xff" * 50, "this is no NetParameter"),
    ("zeros", bytes(100), "this is no NetParameter"),
]


@pytest.mark.parametrize(("content", "words"), [case[1:] for case in MODELS], ids=[case[0] for case in MODELS])
def test_weights(solver, tmp_path, content, words):
    (tmp_path / "w.caffemodel").write_bytes(content)
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        solver.net.copy_from(str(tmp_path / "w.caffemodel"))
    assert "\n" not in str(caught.value)
    assert "w.caffemodel" in str(caught.value)
    assert (solver.net.params["fc"][0].data == 1).all()


def test_no_more_is_read_than_the_net_has_room_for(solver, tmp_path, monkeypatch):
    path = str(tmp_path / "w.caffemodel")
    (tmp_path / "w.caffemodel").write_bytes(model(("other", [((1000,), [1.0] * 1000)]), ("fc", GOOD)))
    sizes, read = [], snapshot.wire.Reader.content
    monkeypatch.setattr(snapshot.wire.Reader, "content", lambda self, *ends: sizes.append(ends[1] - ends[0]) or read(self, *ends))
    solver.net.copy_from(path)
    assert max(sizes) < 100
    snapshot.read_weights(path)
    assert max(sizes) > 4000


def test_a_blob_that_holds_much_else_is_not_read(solver, tmp_path):
    net = pb.NetParameter()
    layer = net.layer.add(name="fc")
    layer.blobs.add(data=[1.0] * 6, diff=[0.0] * 100_000).shape.dim.extend((2, 3))
    (tmp_path / "w.caffemodel").write_bytes(net.SerializeToString())
    layer.blobs.add(data=[1.0] * 2).shape.dim.append(2)
    (tmp_path / "w.caffemodel").write_bytes(net.SerializeToString())
    with pytest.raises(caffe.CaffeError, match=r"a blob of shape \(2, 3\) takes \d+ bytes"):
        solver.net.copy_from(str(tmp_path / "w.caffemodel"))


# ---------------------------------------------------------------- states
def state(history=(((2, 3), 6), ((2,), 2)), **fields):
    made = pb.SolverState(**{"iter": 4, **fields})
    for shape, count in history:
        made.history.add(data=[0.0] * count).shape.dim.extend(shape)
    return made.SerializeToString()


STATES = [
    ("iteration", state(iter=-4), "the iteration is -4"),
    ("step", state(current_step=-1), "the current step is -1"),
    ("axes", state([((1,) * 71, 1), ((2,), 2)]), "71 axes"),
    ("much history", state([((2, 3), 6)] * 1000), "incorrect length of history: 1000"),
    ("large history", state([((2, 3), 6), ((5000,), 5000)]), "history blob 1 has shape"),
    ("long name", state(learned_net="a" * 100_000), "no SolverState|cut off or damaged"),
    ("NUL in the name", state(learned_net="a\0b"), "no file's name"),
    ("nothing", b"", "no solver state"),
]


@pytest.mark.parametrize(("content", "words"), [case[1:] for case in STATES], ids=[case[0] for case in STATES])
def test_states(solver, tmp_path, content, words):
    (tmp_path / "s.solverstate").write_bytes(content)
    with pytest.raises(caffe.CaffeError, match=words):
        solver.restore(str(tmp_path / "s.solverstate"))
    assert solver.iter == 0


# ---------------------------------------------------------------- HDF5
def spoil(change):
    """Return a function that changes a whole snapshot in HDF5."""
    def do(path):
        with h5py.File(path, "r+") as file:
            change(file)
    return do


def put(name, value):
    def change(file):
        if name in file:
            del file[name]
        file[name] = value
    return spoil(change)


def cycle(file):
    file["data/fc/again"] = file["data"]
    file["data/fc/once more"] = file["data"]


def external_storage(file):
    del file["data/fc/0"]
    file["data/fc"].create_dataset("0", (2, 3), np.float32, external=[("/etc/passwd", 0, 24)])


def elsewhere(file):
    del file["data/fc/0"]
    layout = h5py.VirtualLayout((2, 3), np.float32)
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (2, 3))
    file.create_virtual_dataset("data/fc/0", layout)


def unwritten(file):
    del file["data/fc/0"]
    file["data/fc"].create_dataset("0", (2**20, 2**20), np.float32, chunks=(1024, 1024))


WEIGHTS_HDF5 = [
    ("text", put("data/fc/0", "abc"), "expected numbers"),
    ("compound", put("data/fc/0", np.zeros(6, [("a", "f4"), ("b", "i4")])), "expected numbers"),
    ("another type", put("data/fc/0", np.zeros((2, 3), complex)), "expected numbers"),
    ("no number", put("data/fc/a", np.zeros(3)), "no <layer>/<number>"),
    ("negative number", put("data/fc/-1", np.zeros(3)), "no <layer>/<number>"),
    ("missing", spoil(lambda file: file.__delitem__("data")), "'data' of / is missing"),
    ("a dataset", put("data", np.zeros(3)), "not weights in HDF5"),
    ("soft link", put("data/fc/0", h5py.SoftLink("/data/fc/1")), "is a link"),
    ("dangling", put("data/fc/0", h5py.SoftLink("/nowhere")), "is a link"),
    ("external link", put("data/fc/0", h5py.ExternalLink("/tmp/other.h5", "/x")), "is a link"),
    ("group behind a link", put("data", h5py.ExternalLink("/tmp/other.h5", "/x")), "is a link"),
    ("empty", put("data/fc/0", h5py.Empty("f4")), "is no array"),
    ("cycle", spoil(cycle), "groups in more than|more than \\d+ objects"),
    ("external storage", spoil(external_storage), "lies in other files"),
    ("virtual", spoil(elsewhere), "lies in other files"),
    ("four terabytes", spoil(unwritten), "expected at most 32 axes"),
    ("too large", put("data/fc/0", np.zeros((5, 7), np.float32)), "shape mismatch"),
    ("cut off", lambda path: os.truncate(path, os.path.getsize(path) - 100), "not weights in HDF5"),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in WEIGHTS_HDF5], ids=[case[0] for case in WEIGHTS_HDF5])
def test_weights_in_hdf5(solver, tmp_path, change, words, capfd):
    path = str(tmp_path / "w.caffemodel.h5")
    solver.net.save_hdf5(path)
    change(path)
    capfd.readouterr()
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        solver.net.copy_from(path)
    assert "\n" not in str(caught.value)
    assert "HDF5-DIAG" not in capfd.readouterr().err


STATES_HDF5 = [
    ("text for a number", put("iter", "abc"), "expected numbers"),
    ("half", put("iter", 4.5), "iter is no whole number"),
    ("infinite", put("iter", np.inf), "iter is no whole number"),
    ("out of range", put("iter", np.int64(2**40)), "the iteration is"),
    ("negative", put("current_step", np.int32(-1)), "the current step is -1"),
    ("several", put("iter", np.arange(3)), "iter is no whole number"),
    ("a group for a number", spoil(lambda file: (file.__delitem__("iter"), file.create_group("iter"))), "not a solver state"),
    ("a number for a name", put("learned_net", 3), "learned_net is no text"),
    ("bad bytes", put("learned_net", np.bytes_(b"\xff\xfe")), "not a solver state"),
    ("a text of open length", put("learned_net", "a.caffemodel"), "no text of a known length"),
    ("a dataset for history", put("history", np.zeros(4)), "not a solver state"),
    ("a gap", spoil(lambda file: file["history"].move("0", "7")), "'0' of /history is missing"),
    ("a group in history", spoil(lambda file: (file.__delitem__("history/0"), file.create_group("history/0"))), "is no array"),
    ("text in history", put("history/0", "abc"), "expected numbers"),
    ("link", put("history/0", h5py.ExternalLink("/tmp/other.h5", "/x")), "is a link"),
    ("large", put("history/0", np.zeros((100, 100), np.float32)), "history blob 0 has shape"),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in STATES_HDF5], ids=[case[0] for case in STATES_HDF5])
def test_states_in_hdf5(solver, tmp_path, change, words, capfd):
    path = str(tmp_path / "s_iter_0.solverstate.h5")
    snapshot.write_state(path, 0, "", 0, solver.history)
    change(path)
    capfd.readouterr()
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        solver.restore(path)
    assert "\n" not in str(caught.value)
    assert "HDF5-DIAG" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["a\0b", ".", "./a", "a//b", "/a", "a/", ""])
def test_names_that_hdf5_reads_otherwise_are_not_written(tmp_path, name):
    with pytest.raises(caffe.CaffeError, match="cannot stand in HDF5"):
        hdf5.written(lambda file: hdf5.layer_group(file, "data", name))


def test_two_layers_of_one_name_are_not_written(solver, tmp_path):
    layers = [(la.param, la.blobs) for la in solver.net._engine if la.blobs] * 2
    with pytest.raises(caffe.CaffeError, match="layer 'fc': its name cannot stand in HDF5, or another has it"):
        snapshot.write_weights_hdf5(str(tmp_path / "w.h5"), layers, False)
    assert not (tmp_path / "w.h5").exists()


def test_names_with_slashes_come_back(tmp_path):
    blob = caffe.Blob((2, 3))
    blob.data[...] = 7
    layers = [(pb.LayerParameter(name=name), [blob]) for name in ("a/b", "a", "a/c/d", "..", "7")]
    snapshot.write_weights_hdf5(str(tmp_path / "w.h5"), layers, True)
    assert sorted(dict(snapshot.read_weights(str(tmp_path / "w.h5")))) == sorted(param.name for param, _ in layers)


@pytest.mark.parametrize("text", [
    '[{"data": 1e400}]', "[" * 100_000, '[{"data": -1}]', "[5]", "null", '[{"data": null}]', "\xff"])
def test_positions(tmp_path, text):
    (tmp_path / "s.datastate").write_bytes(text.encode("latin-1"))
    with pytest.raises(caffe.CaffeError, match="not a position of the data"):
        snapshot.read_position(str(tmp_path / "s.solverstate"), 1)


# ---------------------------------------------------------------- lists
@pytest.mark.parametrize("label", ["--5", "\u00b2", "9" * 5000, "-", "1.5", "0x1"])
def test_lists_of_pictures(tmp_path, label):
    (tmp_path / "list.txt").write_text(f"p.png {label}\n", encoding="utf-8")
    (tmp_path / "net.prototxt").write_text('layer { name: "d" type: "ImageData" top: "d" top: "l" '
                                           f'image_data_param {{ source: "{tmp_path}/list.txt" batch_size: 1 }} }}')
    with pytest.raises(caffe.CaffeError, match="is not 'path label'") as caught:
        caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("kind", "param"), [("ImageData", "image_data_param"), ("HDF5Data", "hdf5_data_param")])
def test_lists_of_gigabytes(tmp_path, kind, param):
    with open(tmp_path / "list.txt", "wb") as file:
        file.truncate(3 << 30)
    (tmp_path / "net.prototxt").write_text(f'layer {{ name: "d" type: "{kind}" top: "d" top: "l" '
                                           f'{param} {{ source: "{tmp_path}/list.txt" batch_size: 1 }} }}')
    with pytest.raises(caffe.CaffeError, match="bytes, expected"):
        caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)


@pytest.mark.parametrize("gpu", ["\u00b2", "9" * 5000])
def test_numbers_of_gpus(gpu):
    with pytest.raises(caffe.CaffeError, match="-gpu is"):
        parallel.devices(gpu)


# ---------------------------------------------------------------- files that are none
@pytest.mark.parametrize("read", [snapshot.read_weights, snapshot.read_state, snapshot.read_shapes, caffe.get_solver,
                                  lambda path: caffe.Net(path, caffe.TEST), caffe.io.load_image])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "NUL"])
def test_files_that_are_none(tmp_path, kind, read):
    path = tmp_path / "case"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = "/dev/zero"
    else:
        path = f"{path}\0"
    with pytest.raises(caffe.CaffeError, match=r"not a regular file|Is a directory|no file's name"):
        read(str(path))

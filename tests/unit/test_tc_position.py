"""Training that goes on where the data stopped, on request; and what torch cannot compute, said in one line."""

import json

import numpy as np
import pytest
import torch

import torchcaffe as caffe
from data_tools import lmdb_io
from torchcaffe import data
from torchcaffe.__main__ import main
from torchcaffe.proto import caffe_pb2 as pb

NET = """
layer {{ name: "data" type: "{kind}" top: "data" top: "label" transform_param {{ crop_size: 5 mirror: true }} {source} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param {{ num_output: 3 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""
SOLVER = """net: "{folder}/net.prototxt" base_lr: 0.0001 lr_policy: "fixed" momentum: 0.9 random_seed: 3 solver_mode: CPU
snapshot_prefix: "{folder}/a" snapshot_after_train: false max_iter: 7 snapshot: 7 test_iter: 2 test_interval: 3
"""


def write_records(folder):
    import cv2
    import lmdb
    pictures = np.random.RandomState(1).randint(0, 256, (11, 3, 8, 8), np.uint8)
    with lmdb.open(str(folder / "lmdb"), map_size=1 << 20) as database, database.begin(write=True) as transaction:
        for i, x in enumerate(pictures):
            datum = caffe.proto.caffe_pb2.Datum(channels=3, height=8, width=8, data=x.tobytes(), label=i % 3)
            transaction.put(b"%03d" % i, datum.SerializeToString())
            cv2.imwrite(str(folder / f"{i}.png"), x.transpose(1, 2, 0))
    (folder / "list.txt").write_text("".join(f"{folder}/{i}.png {i % 3}\n" for i in range(11)))


@pytest.fixture(params=["Data", "ImageData"])
def solver_file(request, tmp_path):
    write_records(tmp_path)
    source = {"Data": f'data_param {{ source: "{tmp_path}/lmdb" batch_size: 4 backend: LMDB }}',
              "ImageData": f'image_data_param {{ source: "{tmp_path}/list.txt" batch_size: 4 shuffle: true rand_skip: 3 }}'}
    (tmp_path / "net.prototxt").write_text(NET.format(kind=request.param, source=source[request.param]))
    (tmp_path / "solver.prototxt").write_text(SOLVER.format(folder=tmp_path))
    return str(tmp_path / "solver.prototxt")


def batches(solver, count):
    found = []
    for _ in range(count):
        solver.step(1)
        found.append((solver.net.blobs["data"].data.copy(), solver.net.blobs["label"].data.copy()))
    return found, solver.net.params["fc"][0].data.copy()


def same(a, b):
    return all(np.array_equal(x, y) for one, two in zip(a, b) for x, y in zip(one, two))


@pytest.mark.parametrize("values", ["", "mean_value: 100.25", "mean_value: 104 mean_value: 117.5 mean_value: 123 scale: 0.017"])
def test_mean_and_scale_of_a_whole_batch_give_the_same_numbers(solver_file, tmp_path, values, monkeypatch):
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("mirror: true", f"mirror: true {values}"))
    kinds = []
    monkeypatch.setattr(data.Transformer, "finish", lambda self, batch, finish=data.Transformer.finish:
                        kinds.append(batch.dtype) or finish(self, batch))
    found, same_weights = batches(caffe.get_solver(solver_file), 5)
    assert {*kinds} == {torch.uint8}
    kinds.clear()
    monkeypatch.setattr(data.Transformer, "may_finish_later", lambda self, picture: False)
    wanted, weights = batches(caffe.get_solver(solver_file), 5)
    assert same(found, wanted)
    assert np.array_equal(weights, same_weights)
    assert kinds == []


def test_records_of_several_kinds_in_one_batch(make_net, tmp_path):
    pixels = np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 2, 2)
    datums = [pb.Datum(channels=1, height=2, width=2, label=i, **({"float_data": p.ravel() + 0.5} if i == 1 else
                                                                {"data": p.tobytes()})) for i, p in enumerate(pixels)]
    lmdb_io.write_records(tmp_path / "mixed", [(b"%d" % i, datum.SerializeToString()) for i, datum in enumerate(datums)], 10 ** 6)
    net = make_net(f'''layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{ mean_value: 2 scale: 0.25 }}
        data_param {{ source: "{tmp_path}/mixed" batch_size: 3 backend: LMDB }} }}''')
    net.forward()
    np.testing.assert_array_equal(net.blobs["data"].data, (pixels + np.array([0, 0.5, 0]).reshape(3, 1, 1, 1) - 2) / 4)
    np.testing.assert_array_equal(net.blobs["label"].data, [0, 1, 2])


def test_what_is_not_8_bits_or_has_a_mean_file_is_finished_before(tmp_path):
    param = caffe.proto.caffe_pb2.TransformationParameter(mean_value=[1, 2, 3])
    transformer = data.Transformer(param, caffe.TEST)
    assert transformer.may_finish_later(np.zeros((3, 4, 4), np.uint8))
    assert not transformer.may_finish_later(np.zeros((3, 4, 4), np.float32))
    assert not transformer.may_finish_later(np.zeros((1, 4, 4), np.uint8))  # three means for it: refused there
    with pytest.raises(TypeError):
        transformer(np.ones((3, 4, 4), np.float32), np.empty((3, 4, 4), np.uint8))
    mean = caffe.io.array_to_blobproto(np.zeros((1, 3, 4, 4)))
    (tmp_path / "mean").write_bytes(mean.SerializeToString())
    filed = caffe.proto.caffe_pb2.TransformationParameter(mean_file=str(tmp_path / "mean"))
    assert not data.Transformer(filed, caffe.TEST).may_finish_later(np.zeros((3, 4, 4), np.uint8))


def test_goes_on_where_the_data_stopped(solver_file, tmp_path):
    straight = caffe.get_solver(solver_file, keeps_position=True)
    batches(straight, 7)  # 28 pictures of 11: in the middle of the third round
    assert json.loads((tmp_path / "a_iter_7.datastate").read_text()) == [{"data": 7}, {"data": 6}]
    wanted, weights = batches(straight, 5)
    resumed, anew = caffe.get_solver(solver_file, keeps_position=True), caffe.get_solver(solver_file)
    resumed.restore(str(tmp_path / "a_iter_7.solverstate"))
    anew.restore(str(tmp_path / "a_iter_7.solverstate"))
    found, reached = batches(resumed, 5)
    assert same(found, wanted)
    np.testing.assert_array_equal(reached, weights)
    assert not same(batches(anew, 5)[0], wanted)  # as Caffe: from record 0


def test_command_line(solver_file, tmp_path, capsys):
    assert main(["train", "-solver", solver_file]) == 0
    assert not (tmp_path / "a_iter_7.datastate").exists()
    state = ["-snapshot", str(tmp_path / "a_iter_7.solverstate")]
    assert main(["train", "-solver", solver_file, *state, "-resume_data"]) == 0
    assert "a_iter_7.datastate: data start at record 0, as in Caffe" in capsys.readouterr().err
    assert main(["train", "-solver", solver_file, "-resume_data"]) == 0
    assert main(["train", "-solver", solver_file, *state, "-resume_data"]) == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '[{"data": 1}, {}]', '[{"data": -1}, {"data": 1}]', '[{"data": "x"}, {}]'])
def test_damaged_positions(solver_file, tmp_path, text):
    solver = caffe.get_solver(solver_file, keeps_position=True)
    solver.snapshot()
    (tmp_path / "a_iter_0.datastate").write_text(text)
    with pytest.raises(caffe.CaffeError, match="position"):
        solver.restore(str(tmp_path / "a_iter_0.solverstate"))


def test_what_torch_cannot_compute_is_one_line(make_net, monkeypatch):
    net = make_net('force_backward: true layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }'
                   'layer { name: "big" type: "Sigmoid" bottom: "x" top: "y" }')

    def fail(*_):
        raise RuntimeError("out of memory: tried to allocate\nmore")
    monkeypatch.setattr(type(net._engine[1]), "forward", fail)
    with pytest.raises(caffe.CaffeError, match=r"^layer 'big' \(Sigmoid\): out of memory: tried to allocate$"):
        net.forward()
    monkeypatch.setattr(type(net._engine[1]), "backward", fail)
    with pytest.raises(caffe.CaffeError, match=r"^layer 'big'"):
        net.backward()

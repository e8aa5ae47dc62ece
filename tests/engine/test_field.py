"""What users of Caffe meet in public, written anew: old files, odd files, and scripts made for pycaffe.

The expected values are those of real Caffe 1.0, measured on 2026-11-27 where a number is named.
"""
import importlib
import io
import os
import subprocess
import sys

import cv2
import lmdb
import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe.__main__ import main
from torchcaffe.proto import caffe_pb2 as pb

IP = ('layer { name: "d" type: "DummyData" top: "x" top: "label" dummy_data_param { shape { dim: 4 dim: 6 } shape { dim: 4 } '
      'data_filler { type: "constant" value: 1 } data_filler { type: "constant" value: 2 } } }\n'
      'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 3 } }\n'
      'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n')
V1 = ('layers { name: "d" type: DUMMY_DATA top: "x" dummy_data_param { num: 4 channels: 6 height: 1 width: 1 '
      'data_filler { type: "constant" value: 1 } } }\nlayers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "ip" '
      'blobs_lr: 1 blobs_lr: 2 inner_product_param { num_output: 3 } }\n'
      'layers { name: "loss" type: EUCLIDEAN_LOSS bottom: "ip" bottom: "ip" top: "loss" }')


def python(code, cwd, **environment):
    """Run a program in a process of its own; return its standard output."""
    env = {**os.environ, "PYTHONPATH": os.getcwd(), **environment}
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def write(path, text):
    path.write_text(text)
    return str(path)


# ------------------------------------------------------------ nets inside messages
def test_an_old_net_inside_a_solver_is_upgraded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = write(tmp_path / "s.prototxt", 'base_lr: 0.1 lr_policy: "fixed" max_iter: 2 solver_mode: CPU snapshot_prefix: "a" '
                   f'net_param {{ {V1} }} test_net_param {{ {V1} }} test_iter: 1 test_interval: 1')
    assert main(["train", "-solver", solver]) == 0
    net = pb.NetParameter.FromString((tmp_path / "a_iter_2.caffemodel").read_bytes())
    assert [layer.type for layer in net.layer if layer.blobs] == ["InnerProduct"]
    assert [spec.lr_mult for layer in net.layer for spec in layer.param] == [1, 2]


@pytest.mark.parametrize("field", ["net_param", "train_net_param"])
def test_an_empty_net_inside_a_solver_is_refused(field):
    param = pb.SolverParameter(lr_policy="fixed", base_lr=1, **{field: pb.NetParameter(name="none")})
    with pytest.raises(caffe.CaffeError, match=f"^{field}: no layers in it"):
        caffe.get_solver(param)


def test_a_net_of_a_message_takes_phase_level_and_stages():
    rules = ["include { phase: TRAIN }", "include { phase: TEST }", "include { min_level: 2 }", 'include { stage: "a" }']
    text = "".join(f'layer {{ name: "l{i}" type: "Input" top: "t{i}" {rule} }}' for i, rule in enumerate(rules))
    from google.protobuf import text_format
    message = text_format.Parse(text, pb.NetParameter())
    assert list(caffe.Net(message, caffe.TRAIN, 2, ["a"])._layer_names) == ["l0", "l2", "l3"]
    assert list(caffe.Net(message, caffe.TEST)._layer_names) == ["l1"]
    assert list(caffe.Net(message, phase=caffe.TEST, level=3)._layer_names) == ["l1", "l2"]
    assert not message.HasField("state")  # it is the caller's
    old = text_format.Parse(V1, pb.NetParameter())
    assert list(caffe.Net(old, caffe.TEST)._layer_names)[:2] == ["d", "ip"]


# ------------------------------------------------------------ the solver's rules
@pytest.mark.parametrize("policy", ['lr_policy: "poly" power: 1', ""])
def test_no_step_needs_no_rate(tmp_path, policy, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "net.prototxt", IP)
    solver = write(tmp_path / "s.prototxt", f'net: "net.prototxt" base_lr: 0.1 {policy} max_iter: 0 solver_mode: CPU '
                   "test_iter: 1 test_interval: 1 snapshot_after_train: false")
    assert main(["train", "-solver", solver]) == 0
    assert "Test net output #0: loss = 1.09861 (* 1 = 1.09861 loss)" in capsys.readouterr().err


def test_a_policy_is_asked_for_before_the_first_step(tmp_path):
    solver = caffe.get_solver(pb.SolverParameter(net=write(tmp_path / "net.prototxt", IP), base_lr=0.1, lr_policy="polly"))
    solver.net.forward()
    with pytest.raises(caffe.CaffeError, match="unknown learning rate policy 'polly'"):
        solver.step(1)


@pytest.mark.parametrize(("fields", "expected"), [
    ('snapshot_prefix: "snap/"', ["snap/s_iter_2"]), ('snapshot_prefix: "snap"', ["snap/s_iter_2"]), ("", ["s_iter_2"]),
    ("snapshot: 1", ["s_iter_1", "s_iter_2"]), ('snapshot_prefix: "snap/b"', ["snap/b_iter_2"])])
def test_the_solver_file_completes_the_prefix(tmp_path, monkeypatch, fields, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "snap").mkdir()
    write(tmp_path / "net.prototxt", IP)
    solver = write(tmp_path / "s.prototxt", f'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2 {fields}')
    caffe.get_solver("s.prototxt").solve()
    assert sorted(str(p.relative_to(tmp_path))[:-len(".caffemodel")] for p in tmp_path.rglob("*.caffemodel")) == expected
    for path in tmp_path.rglob("*iter*"):
        path.unlink()
    assert main(["train", "-solver", solver]) == 0
    assert len(list(tmp_path.rglob("*.solverstate"))) == len(expected)


def test_a_missing_folder_is_said_before_the_training(tmp_path):
    param = pb.SolverParameter(net=write(tmp_path / "net.prototxt", IP), base_lr=0.1, lr_policy="fixed", max_iter=2,
                               snapshot_prefix=str(tmp_path / "no" / "a"))
    solver = caffe.get_solver(param)
    with pytest.raises(caffe.CaffeError, match="make the folder"):
        solver.solve()
    assert solver.iter == 0


def test_a_message_has_no_file_to_complete_its_prefix(tmp_path):
    param = pb.SolverParameter(net=write(tmp_path / "net.prototxt", IP), base_lr=0.1, lr_policy="fixed", snapshot=1)
    with pytest.raises(caffe.CaffeError, match="snapshot_prefix is not"):
        caffe.get_solver(param)


# ------------------------------------------------------------ texts
@pytest.mark.parametrize(("start", "end"), [(b"# \xb2\xe2\xca\xd4\n", b""), (b"", b" # f\xfcr"), (b"\xef\xbb\xbf", b""),
                                            (b"", b"\r\n")])
def test_bytes_in_comments_do_not_matter(tmp_path, start, end):
    (tmp_path / "net.prototxt").write_bytes(start + b'layer { name: "c" type: "Input" top: "c" }' + end)
    assert caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).outputs == ["c"]


def test_bytes_in_values_are_one_line(tmp_path):
    (tmp_path / "net.prototxt").write_bytes(b'layer { name: "\xb2\xe2" type: "Input" top: "c" }')
    with pytest.raises(caffe.CaffeError, match=r"net.prototxt: .*UTF-8") as caught:
        caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert "\n" not in str(caught.value)


def test_v0_texts_say_what_to_do(tmp_path):
    path = write(tmp_path / "v0.prototxt", 'layers { layer { name: "c" type: "conv" num_output: 2 } bottom: "x" top: "c" }')
    with pytest.raises(caffe.CaffeError, match=r"uses the V0 syntax of 2013 .*upgrade_net_proto_text"):
        caffe.Net(path, caffe.TEST)


def test_transformation_fields_count_in_the_old_syntax_only(tmp_path, capsys):
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 20) as database, database.begin(write=True) as transaction:
        transaction.put(b"0", pb.Datum(channels=1, height=4, width=4, data=bytes(range(16)), label=0).SerializeToString())
    fields = f'top: "data" data_param {{ source: "{tmp_path}/db" batch_size: 1 backend: LMDB crop_size: 2 scale: 0.5 }} }}'
    for text, shape, total in (('layer { name: "d" type: "Data" ', (1, 1, 4, 4), 120),
                               ('layers { name: "d" type: DATA ', (1, 1, 2, 2), 15)):
        net = caffe.Net(write(tmp_path / "net.prototxt", text + fields), caffe.TEST)
        net.forward()
        assert net.blobs["data"].data.shape == shape
        assert net.blobs["data"].data.sum() == total
    assert "crop_size is ignored, as in Caffe; move it to transform_param" in capsys.readouterr().err


HINTS = [
    ('type: "Pooling" pooling_param { ceil_mode: false }', "write round_mode: FLOOR"),
    ('type: "Convolution" convolution_param { hole: 2 }', "write dilation"),
    ('type: "DepthwiseConvolution" bottom: "x" top: "y"', "write Convolution with group: <number of channels>"),
    ('type: "BN" bottom: "x" top: "y"', "write BatchNorm, and Scale"),
    ('type: "Upsample" bottom: "x" top: "y"', "write Deconvolution"),
    ('type: "WindowData" top: "y"', "read them with Data or ImageData"), ('type: "Mine" bottom: "x" top: "y"', "Python layer"),
    ('type: "PriorBox" prior_box_param { }', "SSD fork"), ('type: "LSTM" bottom: "x" top: "y"', "unroll the steps")]


@pytest.mark.parametrize(("fields", "hint"), HINTS)
def test_what_forks_have_comes_with_a_hint(tmp_path, fields, hint):
    path = write(tmp_path / "net.prototxt", f'layer {{ name: "x" type: "Input" top: "x" }} layer {{ name: "f" {fields} }}')
    with pytest.raises(caffe.CaffeError, match=hint) as caught:
        caffe.Net(path, caffe.TEST)
    assert "\n" not in str(caught.value)


ABSENT = ["BatchReindex", "Embed", "Filter", "HDF5Output", "Im2col", "LSTM", "LSTMUnit", "MultinomialLogisticLoss", "Parameter",
          "RNN", "SPP", "WindowData"]  # real Caffe has them


@pytest.mark.parametrize("kind", ABSENT)
def test_no_fork_is_blamed_for_a_type_of_caffe_itself(tmp_path, kind):
    assert kind not in caffe.layer_type_list()
    with pytest.raises(caffe.CaffeError, match="is not supported; ") as caught:
        caffe.Net(write(tmp_path / "net.prototxt", f'layer {{ name: "f" type: "{kind}" top: "y" }}'), caffe.TEST)
    assert "fork" not in str(caught.value)


# ------------------------------------------------------------ files that are none
WHOLE = pb.NetParameter(name="n" * 50, layer=[pb.LayerParameter(name="a", type="ReLU")]).SerializeToString()
NO_MODELS = {"lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer; .*git lfs pull"),
             "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "an HTML or XML page: the download failed"),
             "zip": (b"PK\x03\x04rest", "a zip archive; unpack it"), "cut": (WHOLE[:-8], "cut off or damaged; fetch it again"),
             "noise": (b"\xff" * 30, "no NetParameter")}


@pytest.mark.parametrize("kind", NO_MODELS)
def test_what_is_no_weights_file_is_said(tmp_path, kind, capsys):
    content, expected = NO_MODELS[kind]
    (tmp_path / "w.caffemodel").write_bytes(content)
    net = write(tmp_path / "net.prototxt", IP)
    assert main(["test", "-model", net, "-weights", str(tmp_path / "w.caffemodel"), "-iterations", "1"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path}/w.caffemodel: this is ")
    import re
    assert re.search(expected, last)


@pytest.mark.parametrize("kind", ["lfs", "html", "zip"])
def test_what_is_no_prototxt_is_said(tmp_path, kind):
    (tmp_path / "net.prototxt").write_bytes(NO_MODELS[kind][0])
    with pytest.raises(caffe.CaffeError, match=f"net.prototxt: this is {NO_MODELS[kind][1]}"):
        caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)


def test_a_layer_is_named_once_and_the_tab_is(tmp_path):
    write(tmp_path / "list.txt", "a.png\t0\n")
    text = f'layer {{ name: "d" type: "ImageData" top: "x" top: "y" image_data_param {{ source: "{tmp_path}/list.txt" }} }}'
    with pytest.raises(caffe.CaffeError, match="a tab stands where a blank must") as caught:
        caffe.Net(write(tmp_path / "net.prototxt", text), caffe.TEST)
    assert str(caught.value).count("layer 'd'") == 1


def test_names_of_pictures_are_bytes(tmp_path):
    name = os.fsencode(str(tmp_path)) + b"/\xb2\xe2.png"
    with open(name, "wb") as file:
        file.write(cv2.imencode(".png", np.full((3, 4, 3), 7, np.uint8))[1].tobytes())
    (tmp_path / "list.txt").write_bytes(name + b" 5\n")
    text = f'layer {{ name: "d" type: "ImageData" top: "x" top: "y" image_data_param {{ source: "{tmp_path}/list.txt" }} }}'
    net = caffe.Net(write(tmp_path / "net.prototxt", text), caffe.TEST)
    net.forward()
    assert (net.blobs["x"].data == 7).all()
    assert net.blobs["y"].data.item() == 5


# ------------------------------------------------------------ data
def test_the_label_of_memory_data_has_four_axes_from_the_first_batch_on(tmp_path):
    text = ('layer { name: "d" type: "MemoryData" top: "data" top: "label" memory_data_param { '
            'batch_size: 2 channels: 1 height: 2 width: 2 } }')
    net = caffe.Net(write(tmp_path / "net.prototxt", text), caffe.TEST)
    assert net.blobs["label"].data.shape == (2,)
    net.set_input_arrays(np.zeros((4, 1, 2, 2), np.float32), np.arange(4, dtype=np.float32))
    for wanted in ([0, 1], [2, 3]):
        net.forward()
        assert net.blobs["label"].data.shape == (2, 1, 1, 1)
        assert net.blobs["label"].data.ravel().tolist() == wanted


def test_a_shuffle_before_any_random_filler_is_that_of_caffe(tmp_path):
    """With a random filler before it, Caffe's order is another: its fillers draw from the same stream, ours from torch's."""
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((2, 2, 3), np.uint8))
    write(tmp_path / "list.txt", "".join(f"{tmp_path}/{i}.png {i}\n" for i in range(12)))
    data = "".join(f"""layer {{ name: "d" type: "ImageData" top: "x" top: "label" include {{ phase: {phase} }}
      image_data_param {{ source: "{tmp_path}/list.txt" batch_size: 12 shuffle: true }} }}""" for phase in ("TRAIN", "TEST"))
    net = write(tmp_path / "net.prototxt", data + """
      layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 12 } }
      layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" }""")
    solver = caffe.get_solver(pb.SolverParameter(net=net, test_iter=[1], test_interval=9, base_lr=0.1, lr_policy="fixed",
                                                 random_seed=3))
    solver.test_nets[0].forward()
    assert solver.test_nets[0].blobs["label"].data.astype(int).ravel().tolist() == [5, 6, 0, 2, 1, 7, 11, 10, 4, 9, 8, 3]


# ------------------------------------------------------------ scripts made for pycaffe
ALIAS = """
import sys, torchcaffe
sys.modules["caffe"] = torchcaffe
import caffe, caffe.io
import caffe.proto.caffe_pb2 as direct
from caffe.proto import caffe_pb2
from caffe import layers as L, params as P
from caffe.coord_map import crop
assert caffe_pb2 is direct is torchcaffe.proto.caffe_pb2 and caffe.io is torchcaffe.io
assert torchcaffe.io.__spec__.name == "torchcaffe.io"
solver = caffe.get_solver(caffe_pb2.SolverParameter(net="net.prototxt", base_lr=0.1, lr_policy="fixed", solver_mode=0))
solver.step(1)
print("iter", solver.iter)
"""


def test_the_module_may_be_called_caffe(tmp_path):
    write(tmp_path / "net.prototxt", IP)
    assert python(ALIAS, tmp_path) == "iter 1\n"


LAYER = """
import caffe
class Two(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): top[0].data[...] = 2
"""
PYTHON = 'layer { name: "q" type: "Python" top: "q" python_param { module: "two" layer: "Two" } }'


def test_python_layers_that_import_caffe(tmp_path):
    write(tmp_path / "two.py", LAYER)
    net = write(tmp_path / "net.prototxt", PYTHON)
    (tmp_path / "none.caffemodel").touch()
    words = [sys.executable, "-m", "torchcaffe", "test", "-model", net, "-weights", "none.caffemodel", "-iterations", "1"]
    env = {**os.environ, "PYTHONPATH": f"{os.getcwd()}:{tmp_path}"}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1].endswith("q = 2")
    code = f"import torchcaffe as c\ntry: c.Net({net!r}, c.TEST)\nexcept c.CaffeError as error: print(error)"
    if importlib.util.find_spec("caffe") is None:
        assert 'write "import torchcaffe as caffe" there' in python(code, tmp_path, PYTHONPATH=env["PYTHONPATH"])


SEVERAL = """
import sys
import torchcaffe
sys.modules["caffe"] = torchcaffe
import caffe
from caffe.pycaffe import Net, SGDSolver
caffe.init_log()
caffe.init_log(0, True)
caffe.set_multiprocess(True)
net = Net("net.prototxt", caffe.TEST)
caffe.log("after a net was made")
print(Net is caffe.Net, SGDSolver is caffe.SGDSolver)
"""


def test_names_that_scripts_for_several_gpus_use(tmp_path):
    write(tmp_path / "net.prototxt", IP)
    done = subprocess.run([sys.executable, "-c", SEVERAL], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()},
                          capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"
    assert done.stderr.splitlines()[-1].endswith(" _caffe.cpp:68] after a net was made")


def test_a_picture_of_a_file_object():
    data = cv2.imencode(".png", np.full((4, 5, 3), 255, np.uint8))[1].tobytes()
    assert caffe.io.load_image(io.BytesIO(data)).tolist() == np.ones((4, 5, 3)).tolist()
    assert caffe.io.caffe_pb2.BlobProto is pb.BlobProto


def test_timer():
    timer = caffe.Timer()
    timer.start()
    np.ones(10 ** 6).sum()
    timer.stop()
    assert 0 < timer.ms < 10_000


DEPLOY = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 6 } } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param { pool: AVE global_pooling: true } }
layer { name: "out" type: "Flatten" bottom: "mean" top: "out" }
"""


@pytest.fixture
def deploy(tmp_path):
    net = write(tmp_path / "deploy.prototxt", DEPLOY)
    caffe.Net(net, caffe.TEST).save(str(tmp_path / "w.caffemodel"))
    return net, str(tmp_path / "w.caffemodel")


def test_classifier(deploy):
    """The mean of each channel is the score, so that the preparation of the pictures can be seen in it."""
    classifier = caffe.Classifier(*deploy, image_dims=(8, 8), mean=np.array([1, 2, 3.0]), raw_scale=255, channel_swap=(2, 1, 0))
    pictures = [np.broadcast_to(np.array([0.1, 0.2, 0.3], np.float32) * (i + 1), (10, 10, 3)) for i in range(3)]
    expected = [[255 * 0.3 * n - 1, 255 * 0.2 * n - 2, 255 * 0.1 * n - 3] for n in (1, 2, 3)]
    for oversample in (True, False):
        np.testing.assert_allclose(classifier.predict(pictures, oversample), expected, rtol=1e-5)
    left = np.zeros((8, 8, 3), np.float32)
    left[:, :4] = 1
    assert classifier.predict([left], oversample=False)[0, 2] == pytest.approx(255 / 2 - 3)


def test_detector(deploy, tmp_path):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[5:15, 10:20] = 255
    cv2.imwrite(str(tmp_path / "p.png"), picture)
    detector = caffe.Detector(*deploy)
    found = detector.detect_windows([(str(tmp_path / "p.png"), [(5, 10, 15, 20), (0, 0, 5, 10)])])
    assert [d["prediction"].round(3).tolist() for d in found] == [[1, 1, 1], [0, 0, 0]]
    assert found[0]["filename"].endswith("p.png")
    padded = caffe.Detector(*deploy, context_pad=1, mean=np.array([0.5, 0.5, 0.5]))
    crop = padded.crop(caffe.io.load_image(str(tmp_path / "p.png")), (0, 0, 10, 15))
    assert crop.shape == (4, 6, 3)
    assert (crop[0] == 0.5).all()  # outside of the picture lies the mean
    assert (crop[1, 1] == 0).all()
    with pytest.raises(caffe.CaffeError, match="give them to detect_windows"):
        detector.detect_selective_search([])


def test_draw(tmp_path, monkeypatch):
    from google.protobuf import text_format

    from torchcaffe import draw
    net = text_format.Parse(IP + 'layer { name: "acc" type: "Accuracy" include { phase: TEST } }', pb.NetParameter())
    text = draw.draw_net(net, "TB", "dot", caffe.TRAIN).decode()
    assert '"layer 1" -> "ip";' in text
    assert "rankdir=TB" in text
    assert "acc" not in text
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(caffe.CaffeError, match="install graphviz"):
        draw.draw_net_to_file(pb.NetParameter(), str(tmp_path / "a.png"))


# ------------------------------------------------------------ the command line
@pytest.mark.parametrize("flag", [["-log_dir", "."], ["--log_dir=."], ["-alsologtostderr=1"], ["--logtostderr"],
                                  ["-nologtostderr"], ["-minloglevel=2"], ["--v=1"], ["-stderrthreshold", "0"]])
def test_flags_of_glog(tmp_path, monkeypatch, flag, capsys):
    from torchcaffe import glog
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(glog, "_files", [])
    monkeypatch.setenv("GLOG_minloglevel", "0")
    net = write(tmp_path / "net.prototxt", IP)
    assert main([*flag, "time", "-model", net, "-iterations", "1"]) == 0
    shown, written = capsys.readouterr().err, list(tmp_path.glob("caffe.*.log.INFO.*"))
    assert ("Total Time" in shown) == (flag != ["-minloglevel=2"])
    assert len(written) == ("log_dir" in flag[0])
    for file in glog._files:
        file.close()
    if written:
        assert "Total Time" in (tmp_path / "caffe.INFO").read_text()


def test_a_missing_log_folder_is_one_line(tmp_path, capsys):
    net = write(tmp_path / "net.prototxt", IP)
    assert main(["time", "-model", net, "-log_dir", str(tmp_path / "no")]) == 1
    assert capsys.readouterr().err.startswith("error: -log_dir: cannot write to")


@pytest.mark.parametrize(("words", "expected"), [
    (["test", "-model", "net", "-weights", "w", "-iterations", "0"], "-iterations is 0, it must be at least 1"),
    (["time", "-model", "net", "-iterations", "-3"], "-iterations is -3, it must be at least 1"),
    (["time", "-model", "net", "-iterations", "x"], "it must be a whole number"),
    (["device_query", "-gpu", "x,y"], "-gpu is 'x,y'; give a number"), (["device_query", "-gpu", "1,y"], "-gpu is '1,y'"),
    (["time", "-model", "net", "-gpu", "-1"], "-gpu is '-1'"), (["time", "-model", "net", "-minloglevel", "x"], "-minloglevel")])
def test_senseless_flags_end_in_one_line(words, expected, capsys):
    assert main(words) == 1
    assert expected in capsys.readouterr().err.splitlines()[-1]

"""bfloat16 on request: what computes in it, what stays float32, and that users see float32 arrays either way."""

import numpy as np
import pytest
import torch

import torchcaffe as caffe
from torchcaffe import context, processor
from torchcaffe.__main__ import main
from torchcaffe.errors import CaffeError

FILL = 'weight_filler { type: "msra" }'
NET = f"""
layer {{ name: "in" type: "Input" top: "x" top: "label" input_param {{
  shape {{ dim: 4 dim: 3 dim: 16 dim: 16 }} shape {{ dim: 4 }} }} }}
layer {{ name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {{ num_output: 8 kernel_size: 3 pad: 1 {FILL} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "a" top: "a" }}
layer {{ name: "lrn" type: "LRN" bottom: "a" top: "lrn" lrn_param {{ local_size: 5 alpha: 0.1 beta: 0.75 }} }}
layer {{ name: "b1" type: "Convolution" bottom: "lrn" top: "b1" convolution_param {{ num_output: 4 kernel_size: 1 {FILL} }} }}
layer {{ name: "pool" type: "Pooling" bottom: "lrn" top: "pool" pooling_param {{ pool: MAX kernel_size: 3 stride: 1 pad: 1 }} }}
layer {{ name: "join" type: "Concat" bottom: "b1" bottom: "pool" top: "join" }}
layer {{ name: "gap" type: "Pooling" bottom: "join" top: "gap" pooling_param {{ pool: AVE global_pooling: true }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "gap" top: "fc" inner_product_param {{ num_output: 3 {FILL} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""


@pytest.fixture(autouse=True)
def precision():
    yield
    caffe.set_precision("fp32")


def run(make_net, name):
    """Return the net after one step forward and back in a precision, from the same weights and pictures."""
    caffe.set_random_seed(1)
    caffe.set_precision(name)
    net = make_net(NET)
    net.blobs["x"].data[...] = np.random.RandomState(0).randn(4, 3, 16, 16)
    net.blobs["label"].data[...] = [0, 1, 2, 0]
    net.forward()
    net.backward()
    return net


def test_bf16_is_close_and_only_where_it_should_be(make_net):
    full, low = run(make_net, "fp32"), run(make_net, "bf16")
    kinds = {name: blob.tensor.dtype for name, blob in low.blobs.items()}
    assert {name for name, kind in kinds.items() if kind == torch.bfloat16} == {"a", "b1"}
    for name in full.blobs:
        exact, found = full.blobs[name].data, low.blobs[name].data
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, atol=0.02 * np.abs(exact).max(), err_msg=name)
    assert np.abs(low.blobs["a"].data - full.blobs["a"].data).max() > 0  # it is another precision indeed
    for layer, blobs in full.params.items():
        for exact, found in zip(blobs, low.params[layer]):
            np.testing.assert_array_equal(exact.data, found.data)
            assert found.grad.dtype == torch.float32
            np.testing.assert_allclose(found.diff, exact.diff, atol=0.05 * np.abs(exact.diff).max(), err_msg=layer)


def test_a_written_value_of_a_bf16_blob_is_used(make_net):
    net = run(make_net, "bf16")
    net.blobs["a"].data[...] = 1
    net.forward(start="lrn")
    ones = net.blobs["lrn"].data
    assert np.ptp(ones, axis=(0, 2, 3)).max() == 0
    net.blobs["b1"].diff[...] = 3
    assert (net.blobs["b1"].diff == 3).all()


def test_a_net_keeps_its_precision(make_net):
    net = run(make_net, "bf16")
    caffe.set_precision("fp32")
    net.forward()
    assert net.blobs["b1"].tensor.dtype == torch.bfloat16


def test_a_frugal_net_holds_rounded_weights_and_gives_the_same(make_net):
    plain, frugal = (run(make_net, "bf16") for _ in range(2))
    for net in (plain, frugal):
        net.phase = caffe.TEST
    frugal.frugal = True
    for _ in range(2):
        for name, found in frugal.forward().items():
            np.testing.assert_array_equal(found, plain.forward()[name])
    assert {name: blobs[0].tensor.dtype for name, blobs in frugal.params.items()} == {
        "a": torch.bfloat16, "b1": torch.bfloat16, "fc": torch.float32}
    assert frugal.params["a"][0].data.dtype == np.float32
    frugal.params["b1"][0].data[...] = plain.params["b1"][0].data[...] = 0.25
    np.testing.assert_array_equal(frugal.forward()["loss"], plain.forward()["loss"])


def test_weights_that_are_trained_or_lent_are_not_rounded(make_net):
    learning = run(make_net, "bf16")
    tested = make_net(NET, caffe.TEST)
    tested.share_with(learning)
    for net in (learning, tested):
        net.frugal = True
        net.forward()
    assert all(blob.tensor.dtype == torch.float32 for blobs in learning.params.values() for blob in blobs)


def test_weights_gather_steps_that_bf16_would_lose(tmp_path):
    """256 steps of 1e-4 on a weight near 1: half a bfloat16 unit there is 4e-3, so each alone would be rounded away."""
    caffe.set_precision("bf16")
    (tmp_path / "net.prototxt").write_text("""
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 dim: 1 dim: 1 dim: 1 }
  data_filler { type: "constant" value: 1 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 1 kernel_size: 1 bias_term: false
  weight_filler { type: "constant" value: 1 } } }
layer { name: "loss" type: "Reduction" bottom: "c" top: "loss" loss_weight: 1 }""")
    (tmp_path / "solver.prototxt").write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0.0001 lr_policy: "fixed"')
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    solver.step(256)
    np.testing.assert_allclose(solver.net.params["c"][0].data.item(), 1 - 0.0256, rtol=1e-5)


def test_an_unknown_precision_ends_in_one_line(tmp_path, capsys):
    with pytest.raises(CaffeError, match="precision is 'fp8'; choose fp32, tf32, bf16"):
        caffe.set_precision("fp8")
    assert main(["time", "-model", "none.prototxt", "--precision", "half"]) == 1
    assert "choose fp32, tf32, bf16" in capsys.readouterr().err


@pytest.mark.parametrize(("precision", "rounded"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_torch_rounds_factors_on_a_gpu_only_when_asked_and_only_in_a_pass(make_net, monkeypatch, precision, rounded):
    backends, seen = (torch.backends.cuda.matmul, torch.backends.cudnn), []
    before = [backend.allow_tf32 for backend in backends]
    net = run(make_net, precision)
    monkeypatch.setattr(context._context, "gpu", True)
    layer = net._engine[2]
    monkeypatch.setattr(type(layer), "forward", lambda *_: seen.append([backend.allow_tf32 for backend in backends]))
    monkeypatch.setattr(type(layer), "backward", lambda *_: seen.append([backend.allow_tf32 for backend in backends]))
    net.forward(start="relu", end="relu")
    net.run_backward(2, 2)
    assert seen == [[rounded] * 2] * 2
    assert [backend.allow_tf32 for backend in backends] == before


@pytest.mark.parametrize(("flags", "slow"), [("avx2", True), ("avx512_bf16", False)])
def test_the_log_states_it(tmp_path, capsys, monkeypatch, flags, slow):
    monkeypatch.setattr(processor, "INFO", tmp_path / "cpuinfo")
    processor.INFO.write_text(f"flags : {flags}\n")
    (tmp_path / "net.prototxt").write_text(NET)
    assert main(["time", "-model", str(tmp_path / "net.prototxt"), "-iterations", "1", "-precision", "bf16"]) == 0
    log = capsys.readouterr().err
    assert "Precision bf16: layers compute in bf16; weights, solver, softmax and losses in fp32." in log
    assert ("This processor has no bf16 arithmetic: -precision fp32 is faster." in log) == slow

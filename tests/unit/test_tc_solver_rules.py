"""Learning rates against closed forms, updates against Caffe's formulas written out in numpy, fillers against their limits."""

import math

import numpy as np
import pytest
import torch

import torchcaffe as caffe
from torchcaffe import rates
from torchcaffe.fillers import fill
from torchcaffe.proto import caffe_pb2 as pb

POLICIES = {  # fields, rate at an iteration
    "fixed": ({}, lambda it: 0.2),
    "step": ({"gamma": 0.5, "stepsize": 3}, lambda it: 0.2 * 0.5 ** (it // 3)),
    "exp": ({"gamma": 0.9}, lambda it: 0.2 * 0.9**it),
    "inv": ({"gamma": 0.1, "power": 0.75}, lambda it: 0.2 * (1 + 0.1 * it) ** -0.75),
    "multistep": ({"gamma": 0.5, "stepvalue": [2, 3, 7]}, lambda it: 0.2 * 0.5 ** sum(it >= s for s in (2, 3, 7))),
    "poly": ({"power": 1.5, "max_iter": 12}, lambda it: 0.2 * (1 - it / 12) ** 1.5),
    "sigmoid": ({"gamma": 0.5, "stepsize": 5}, lambda it: 0.2 / (1 + math.exp(-0.5 * (it - 5)))),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_learning_rates(policy):
    fields, closed = POLICIES[policy]
    param, step = pb.SolverParameter(lr_policy=policy, base_lr=0.2, **fields), 0
    rates.check_policy(param)
    for it in range(12):
        step = rates.next_step(param, it, step)
        assert rates.rate(param, it, step) == pytest.approx(closed(it), rel=1e-6)


@pytest.mark.parametrize(("fields", "expected"), [
    ({"lr_policy": "sigmoid", "gamma": 1, "stepsize": 1000}, 0),
    ({"lr_policy": "step", "gamma": 10, "stepsize": 1}, math.inf),
    ({"lr_policy": "poly", "power": -1, "max_iter": 400}, math.inf),
    ({"lr_policy": "poly", "power": 0.5, "max_iter": 100}, math.nan),  # beyond max_iter
])
def test_learning_rates_out_of_range(fields, expected):
    param = pb.SolverParameter(base_lr=1, **fields)
    assert rates.rate(param, 400 if expected else 0, 400) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("clip", [-1, 1])
def test_a_net_that_is_all_frozen_stays(tmp_path, clip):
    (tmp_path / "solver.prototxt").write_text(f"""
      base_lr: 0.1 lr_policy: "fixed" clip_gradients: {clip} snapshot_after_train: false net_param {{
      layer {{ name: "d" type: "DummyData" top: "x" top: "label"
        dummy_data_param {{ shape {{ dim: 2 dim: 3 }} shape {{ dim: 2 }} }} }}
      layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "y" param {{ lr_mult: 0 }} param {{ lr_mult: 0 }}
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
      layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" }} }}""")
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    before = solver.net.params["ip"][0].data.copy()
    solver.step(2)
    assert solver.iter == 2
    np.testing.assert_array_equal(solver.net.params["ip"][0].data, before)


def test_multistep_advances_by_one_an_iteration():
    """After a jump (a resumed run without its step), Caffe catches up step by step."""
    param = pb.SolverParameter(lr_policy="multistep", base_lr=1, gamma=0.5, stepvalue=[1, 2, 3])
    steps = [0]
    for it in range(10, 14):
        steps.append(rates.next_step(param, it, steps[-1]))
    assert steps == [0, 1, 2, 3, 3]


@pytest.mark.parametrize(("fields", "expected"), [
    ({"lr_policy": "cosine"}, "unknown learning rate policy 'cosine'"),
    ({"lr_policy": "step"}, "positive stepsize"),
    ({"lr_policy": "sigmoid", "stepsize": 5, "gamma": -1}, "must not be negative"),
    ({"lr_policy": "poly"}, "positive max_iter"),
])  # fmt: skip
def test_wrong_policies(fields, expected):
    with pytest.raises(caffe.CaffeError, match=expected):
        rates.check_policy(pb.SolverParameter(**fields))


# ------------------------------------------------------------ updates
def sgd(p, rate, g, h, it):
    h[0] = p["momentum"] * h[0] + rate * g
    return h[0]


def nesterov(p, rate, g, h, it):
    old, h[0] = h[0], p["momentum"] * h[0] + rate * g
    return (1 + p["momentum"]) * h[0] - p["momentum"] * old


def adagrad(p, rate, g, h, it):
    h[0] = h[0] + g * g
    return rate * g / (np.sqrt(h[0]) + p["delta"])


def rmsprop(p, rate, g, h, it):
    h[0] = p["rms_decay"] * h[0] + (1 - p["rms_decay"]) * g * g
    return rate * g / (np.sqrt(h[0]) + p["delta"])


def adadelta(p, rate, g, h, it):
    h[0] = p["momentum"] * h[0] + (1 - p["momentum"]) * g * g
    step = g * np.sqrt((h[1] + p["delta"]) / (h[0] + p["delta"]))
    h[1] = p["momentum"] * h[1] + (1 - p["momentum"]) * step * step
    return rate * step


def adam(p, rate, g, h, it):
    h[0] = p["momentum"] * h[0] + (1 - p["momentum"]) * g
    h[1] = p["momentum2"] * h[1] + (1 - p["momentum2"]) * g * g
    correction = np.sqrt(1 - p["momentum2"] ** (it + 1)) / (1 - p["momentum"] ** (it + 1))
    return rate * correction * h[0] / (np.sqrt(h[1]) + p["delta"])


FORMULAS = {
    "SGD": (sgd, {"momentum": 0.9}), "Nesterov": (nesterov, {"momentum": 0.9}), "AdaGrad": (adagrad, {"delta": 1e-3}),
    "RMSProp": (rmsprop, {"rms_decay": 0.8, "delta": 1e-3}), "AdaDelta": (adadelta, {"momentum": 0.9, "delta": 1e-3}),
    "Adam": (adam, {"momentum": 0.9, "momentum2": 0.99, "delta": 1e-3}),
}  # fmt: skip
EXTRAS = [{}, {"clip_gradients": 1.5, "iter_size": 4}, {"regularization_type": "L1", "weight_decay": 0.3}]
NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" param { lr_mult: 2 decay_mult: 0.5 } param { lr_mult: 1 }
    inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 1 } } }
  layer { name: "frozen" type: "InnerProduct" bottom: "y" top: "z" param { lr_mult: 0 } param { lr_mult: 0 }
    inner_product_param { num_output: 2 } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "z" }"""


@pytest.mark.parametrize("extra", EXTRAS, ids=["plain", "clipped sums", "L1"])
@pytest.mark.parametrize("kind", FORMULAS)
def test_updates(kind, extra):
    rule, fields = FORMULAS[kind]
    param = pb.SolverParameter(type=kind, base_lr=0.1, lr_policy="step", gamma=0.1, stepsize=2,
                               **{"weight_decay": 0.1, **fields, **extra})
    from google.protobuf import text_format
    text_format.Parse(NET, param.net_param)
    solver = caffe.get_solver(param)
    blobs = list(solver.net.params["ip"])
    random, weights = np.random.RandomState(1), [np.array(b.data, float) for b in blobs]
    histories = [[np.zeros(w.shape), np.zeros(w.shape)] for w in weights]
    for it in range(4):
        gradients = [random.randn(*w.shape) for w in weights]
        for blob, gradient in zip(blobs, gradients):
            blob.diff[...] = gradient
        solver.apply_update()
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        clip = min(1, extra.get("clip_gradients", math.inf) / norm)
        for i, (lr_mult, decay_mult) in enumerate([(2, 0.5), (1, 1)]):
            decay = param.weight_decay * decay_mult * (np.sign(weights[i]) if "regularization_type" in extra else weights[i])
            gradient = gradients[i] * clip / param.iter_size + decay
            weights[i] = weights[i] - rule(fields | {"delta": fields.get("delta", 0)}, 0.1 * 0.1 ** (it // 2) * lr_mult,
                                           gradient, histories[i], it)
            np.testing.assert_allclose(blobs[i].data, weights[i], rtol=2e-5, atol=2e-6)
    assert solver.iter == 4


# ------------------------------------------------------------ fillers
def xavier(fan):
    return lambda t: (t.abs().max() <= math.sqrt(3 / fan)) & (t.abs().max() > 0.98 * math.sqrt(3 / fan))


def spread(std, mean=0.0):
    return lambda t: abs(float(t.std()) - std) < 0.03 * std and abs(float(t.mean()) - mean) < 0.03 * std


FILLERS = [  # filler, shape, what holds; a convolution 40 x 20 x 5 x 5 has fan-in 500, fan-out 1000
    ({"type": "constant", "value": 0.7}, (3, 4), lambda t: (t == 0.7).all()),
    ({}, (3, 4), lambda t: (t == 0).all()),
    ({"type": "uniform", "min": -2, "max": 5}, (50, 400), lambda t: t.min() >= -2 and t.max() < 5 and t.max() - t.min() > 6.9),
    ({"type": "gaussian", "mean": 3, "std": 2}, (50, 400), spread(2, 3)),
    ({"type": "gaussian", "sparse": 5}, (50, 400), lambda t: 0.08 < (t != 0).float().mean() < 0.12),
    ({"type": "xavier"}, (40, 20, 5, 5), xavier(500)),
    ({"type": "xavier", "variance_norm": 1}, (40, 20, 5, 5), xavier(1000)),
    ({"type": "xavier", "variance_norm": 2}, (40, 20, 5, 5), xavier(750)),
    ({"type": "msra"}, (40, 20, 5, 5), spread(math.sqrt(2 / 500))),
    ({"type": "msra", "variance_norm": 1}, (40, 20, 5, 5), spread(math.sqrt(2 / 1000))),
    ({"type": "positive_unitball"}, (6, 3, 7), lambda t: (t >= 0).all() and torch.allclose(t.sum((1, 2)), torch.ones(6))),
    ({"type": "bilinear"}, (2, 1, 3, 3), lambda t: torch.allclose(t[1, 0, 1], torch.tensor([0.5, 1.0, 0.5]))),
    ({"type": "bilinear"}, (1, 2, 4, 4), lambda t: torch.allclose(t[0, 1, :, 1] / 0.75, torch.tensor([0.25, 0.75, 0.75, 0.25]))),
]


@pytest.mark.parametrize(("filler", "shape", "holds"), FILLERS)
def test_fillers(filler, shape, holds):
    caffe.set_random_seed(3)
    tensor = fill(shape, pb.FillerParameter(**filler))
    assert tensor.shape == shape
    assert tensor.dtype == torch.float32
    assert holds(tensor)


@pytest.mark.parametrize(("filler", "shape", "expected"), [
    ({"type": "kaiming"}, (2,), "filler kaiming: type is 'kaiming', expected one of constant"),
    ({"type": "xavier", "sparse": 2}, (2, 2), "sparsity"),
    ({"type": "bilinear"}, (2, 2), "square kernel"),
    ({"type": "gaussian", "std": -1}, (2,), "std is -1.0, expected 0 or more"),
    ({"type": "gaussian", "std": float("nan")}, (2,), "std is nan"),
    ({"type": "gaussian", "sparse": -5}, (2,), "sparse is -5"),
    ({"type": "gaussian", "sparse": 1}, (), "sparse is 1, expected a blob with an axis"),
    ({"type": "uniform", "min": 2, "max": 1}, (2,), "min is 2.0, expected a finite number, at most max"),
    ({"type": "uniform", "max": float("inf")}, (2,), "max is inf"),
    ({"type": "uniform", "min": float("nan")}, (2,), "min is nan"),
    ({"type": "uniform", "min": -3e38, "max": 3e38}, (2,), "max is 3.*, expected a finite range"),
])  # fmt: skip
def test_wrong_fillers(filler, shape, expected):
    with pytest.raises(caffe.CaffeError, match=expected):
        fill(shape, pb.FillerParameter(**filler))


def test_what_a_filler_lacks_names_the_layer(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('layer { name: "d" type: "DummyData" top: "x" '
                    'dummy_data_param { shape { dim: 2 } data_filler { type: "gaussian" std: -1 } } }')
    with pytest.raises(caffe.CaffeError, match=r"layer 'd' .DummyData.: filler gaussian: std is -1\.0"):
        caffe.Net(str(path), caffe.TRAIN).forward()


@pytest.mark.parametrize("kind", ["constant", "uniform", "gaussian", "positive_unitball", "xavier", "msra"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (3,)])
def test_fillers_of_any_shape(kind, shape):
    assert fill(shape, pb.FillerParameter(type=kind)).shape == shape

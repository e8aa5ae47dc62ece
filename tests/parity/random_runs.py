"""Short trainings of random nets by random solvers, the same for both engines.

`python -m tests.parity.random_runs ENGINE SEED 0,1,2 OUT.npz` runs the numbered ones on an engine.

Needs numpy only, as it runs on both Pythons. A case that torchcaffe refuses is left out. What the last bit of a sum would
decide is avoided: a layer before BatchNorm has no bias, whose gradient is zero but for rounding.
"""

import importlib
import os
import sys
import tempfile
from typing import Any, Dict, List, Tuple

import numpy as np

from . import live
from .random_layers import Random, _maybe

BATCH, SIDE, CLASSES, STEPS = 4, 24, 3, 6
BOUNDS = (1e-4, 1e-3)  # of the losses, relative to the largest, and of the parameters' change, relative to the largest
LAYER = 'layer {{ name: "{0}" type: "{1}" {2} top: "{3}" {4} }}\n'


def _layer(name: str, kind: str, bottoms: List[str], fields: str = "", top: str = "") -> str:
    return LAYER.format(name, kind, " ".join(f'bottom: "{bottom}"' for bottom in bottoms), top or name, fields)


def _multipliers(r: Random, count: int) -> str:
    return "".join(f"param {{ lr_mult: {r.choice([0, 0.5, 1, 2], p=[.1, .2, .5, .2])} decay_mult: {r.choice([0, 1, 2])} }} "
                   for _ in range(count))


def _filter(r: Random, name: str, bottom: str, size: int, bias: bool = True, output: int = 0) -> str:
    fields = (f"num_output: {output or 2 * r.randint(1, 5)} kernel_size: {size} pad: {r.randint(0, size // 2 + 1)} "
              f"stride: {r.choice([1, 1, 2])} {'' if bias else 'bias_term: false'}")
    return _layer(name, "Convolution", [bottom], _multipliers(r, 1 + bias) + f"convolution_param {{ {fields} }}")


def _activation(r: Random, name: str, bottom: str) -> Tuple[str, str]:
    """Return a layer, in place where Caffe allows it, and the name of its top."""
    kinds = {"ReLU": _maybe(r, "relu_param { negative_slope: 0.1 }"), "TanH": "", "Sigmoid": "", "ELU": "", "PReLU": "",
             "AbsVal": "", "BNLL": "", "Power": "power_param { power: 2 scale: 0.5 shift: 1.5 }"}
    kind = str(r.choice(sorted(kinds)))
    top = bottom if kind in ("ReLU", "TanH", "ELU") else name
    return _layer(name, kind, [bottom], kinds[kind], top), top


def _normalization(name: str, bottom: str) -> str:
    scale = _layer(name, "Scale", [name + "_norm"], "scale_param { bias_term: true }")
    return _layer(name + "_norm", "BatchNorm", [bottom], "batch_norm_param { eps: 0.01 }") + scale


def _branch(r: Random, name: str, bottom: str) -> str:
    """Two filters beside each other, joined."""
    kind = str(r.choice(["Concat", "Eltwise"]))
    output = 2 * int(r.randint(1, 4))
    sides = [_layer(f"{name}_{side}", "Convolution", [bottom], _multipliers(r, 2) + "convolution_param { "
                    f"num_output: {output} kernel_size: {size} pad: {size // 2} }}") for side, size in ((1, 1), (2, 3))]
    how = f"eltwise_param {{ operation: {r.choice(['SUM', 'MAX', 'PROD'])} }}" if kind == "Eltwise" else ""
    return "".join(sides) + _layer(name, kind, [f"{name}_1", f"{name}_2"], how)


def _block(r: Random, name: str, bottom: str) -> Tuple[str, str]:
    """Return some layers and the name of their top."""
    what = r.randint(4)
    if what == 0:
        return _branch(r, name, bottom), name
    text = _filter(r, name, bottom, int(r.choice([1, 3])), bias=what != 1)
    if what == 1:
        text += _normalization(name + "_scaled", name)
        name += "_scaled"
    acts, top = _activation(r, name + "_act", name)
    if what == 2:
        lrn = f"lrn_param {{ local_size: 3 alpha: 0.5 {_maybe(r, 'norm_region: WITHIN_CHANNEL')} }}"
        return text + acts + _layer(name + "_lrn", "LRN", [top], lrn), name + "_lrn"
    pool = f"pooling_param {{ pool: {r.choice(['MAX', 'AVE'])} kernel_size: {r.randint(2, 4)} stride: {r.randint(1, 3)} }}"
    return text + acts + _layer(name + "_pool", "Pooling", [top], pool), name + "_pool"


def _loss(r: Random, scores: str) -> str:
    how = f"normalization: {r.choice(['FULL', 'VALID', 'BATCH_SIZE', 'NONE'])}"
    ignored = _maybe(r, f"ignore_label: {r.randint(CLASSES)}", 0.3)
    kinds = {"EuclideanLoss": ("target", ""), "HingeLoss": ("label", f"hinge_loss_param {{ norm: {r.choice(['L1', 'L2'])} }}"),
             "SigmoidCrossEntropyLoss": ("target", f"loss_param {{ {how} }}"),
             "SoftmaxWithLoss": ("label", f"loss_param {{ {how} {ignored} }}")}
    kind = str(r.choice(sorted(kinds), p=[0.15, 0.15, 0.15, 0.55]))
    truth, fields = kinds[kind]
    return _layer("loss", kind, [scores, truth], f"loss_weight: {r.choice([0.5, 1, 3])} {fields}")


def net_text(r: Random) -> str:
    """Return a random training net with inputs data, label and target."""
    shapes = {"data": (BATCH, 3, SIDE, SIDE), "label": (BATCH,), "target": (BATCH, CLASSES)}
    text = "".join(_layer(name, "Input", [], "input_param { shape { " + " ".join(f"dim: {n}" for n in shape) + " } }")
                   for name, shape in shapes.items())
    bottom = "data"
    for number in range(r.randint(1, 4)):
        made, bottom = _block(r, f"b{number}", bottom)
        text += made
    if r.rand() < 0.5:
        text += _layer("gap", "Pooling", [bottom], "pooling_param { pool: AVE global_pooling: true }")
        bottom = "gap"
    text += _layer("scores", "InnerProduct", [bottom], _multipliers(r, 2) + f"inner_product_param {{ num_output: {CLASSES} }}")
    return text + _loss(r, "scores") + _layer("unread", "Silence", ["label", "target"]).replace('top: "unread"', "")


SOLVERS = {"SGD": "base_lr: 0.005 momentum: 0.9", "Nesterov": "base_lr: 0.005 momentum: 0.8",
           "AdaGrad": "base_lr: 0.02 delta: 0.0001", "RMSProp": "base_lr: 0.005 rms_decay: 0.9 delta: 0.0001",
           "AdaDelta": "base_lr: 1 momentum: 0.9 delta: 0.0001",
           "Adam": "base_lr: 0.005 momentum: 0.9 momentum2: 0.99 delta: 0.0001"}
POLICIES = ['"fixed"', '"step" gamma: 0.5 stepsize: 2', '"exp" gamma: 0.9', '"inv" gamma: 0.1 power: 0.75', '"poly" power: 2',
            '"multistep" gamma: 0.3 stepvalue: 2 stepvalue: 4', '"sigmoid" gamma: 0.5 stepsize: 3']


def solver_text(r: Random, net: str) -> str:
    """Return a random solver."""
    kind = str(r.choice(sorted(SOLVERS)))
    return (f'net: "{net}" type: "{kind}" {SOLVERS[kind]} lr_policy: {r.choice(POLICIES)} max_iter: {2 * STEPS}\n'
            f'weight_decay: {r.choice([0, 0.0005, 0.05])} regularization_type: "{r.choice(["L1", "L2"])}"\n'
            f"clip_gradients: {r.choice([-1, 0.5, 3])} iter_size: {r.choice([1, 1, 3])}\n"
            "display: 0 snapshot_after_train: false random_seed: 1 solver_mode: CPU\n")


def _start(net: Any, r: Random) -> None:
    for name in net.params:
        for blob in net.params[name]:
            shape = blob.data.shape
            blob.data[...] = r.randn(*shape) / np.sqrt(max(1, np.prod(shape[1:]))) if len(shape) > 1 else r.rand(*shape) + 0.5
    net.blobs["data"].data[...] = r.randn(BATCH, 3, SIDE, SIDE)
    net.blobs["label"].data[...] = r.randint(0, CLASSES, BATCH)
    net.blobs["target"].data[...] = r.rand(BATCH, CLASSES)


def run(caffe: Any, r: Random, folder: str) -> Dict[str, np.ndarray]:
    """Return the loss of each step, and what the parameters moved by."""
    net_path, solver_path = (os.path.join(folder, name) for name in ("net.prototxt", "solver.prototxt"))
    with open(net_path, "w") as file:
        file.write(net_text(r))
    with open(solver_path, "w") as file:
        file.write(solver_text(r, net_path))
    solver = caffe.get_solver(solver_path)
    _start(solver.net, r)
    start = {name: [blob.data.copy() for blob in blobs] for name, blobs in solver.net.params.items()}
    losses = []
    for _ in range(STEPS):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    moved = {f"moved:{name}:{i}": blob.data - start[name][i]
             for name, blobs in solver.net.params.items() for i, blob in enumerate(blobs)}
    return {"loss": np.array(losses), **moved}


def run_all(caffe: Any, seed: int, numbers: List[int]) -> Dict[str, np.ndarray]:
    """Return the results of the numbered cases."""
    found: Dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            print(number, file=sys.stderr, flush=True)  # the last one, should Caffe end the process
            try:
                results = run(caffe, np.random.RandomState(seed * 100003 + number), folder)
            except getattr(caffe, "CaffeError", ()):
                continue
            if np.isfinite(results["loss"]).all():  # else Caffe's MAX pooling writes beside its memory
                found.update({f"{number} {name}": value for name, value in results.items()})
    return found


def errors(found: Dict[str, np.ndarray], wanted: Dict[str, np.ndarray], number: int) -> Tuple[float, float]:
    """Return how far a case is from another engine's: its losses, and what its parameters moved by."""
    keys = [key for key in wanted if key.startswith(f"{number} moved")]
    moved = max(float(np.abs(found[key] - wanted[key]).max()) for key in keys) / max(np.abs(wanted[key]).max() for key in keys)
    return live.error(found[f"{number} loss"], wanted[f"{number} loss"]), moved


if __name__ == "__main__":
    engine, seed_, numbers_, out_ = sys.argv[1:]
    np.savez(out_, **run_all(importlib.import_module(engine), int(seed_), [int(n) for n in numbers_.split(",")]))

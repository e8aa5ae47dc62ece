"""Layers with random fields and shapes, the same for both engines.

`python -m tests.parity.random_layers ENGINE SEED 0,1,2 OUT.npz` runs the numbered ones on an engine.

Needs numpy only, as it runs on both Pythons. A case that torchcaffe refuses is left out.
"""

import importlib
import os
import sys
import tempfile
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from . import cases, live

Random = np.random.RandomState
Made = Tuple[str, List[Tuple[int, ...]], int]  # text, shapes of the bottoms, number of tops


def _shape(r: Random, axes: int = 4) -> Tuple[int, ...]:
    return tuple(int(n) for n in r.randint(1, 8, axes))


def _picture(r: Random) -> Tuple[int, ...]:
    return (int(r.randint(1, 4)), int(r.choice([2, 4, 6])), int(r.randint(4, 11)), int(r.randint(4, 11)))


def _maybe(r: Random, text: str, chance: float = 0.5) -> str:
    return text if r.rand() < chance else ""


def _conv(r: Random) -> Made:
    kind = r.choice(["Convolution", "Deconvolution"])
    k, s, p, d, g = (int(r.choice(v)) for v in ([1, 2, 3], [1, 1, 2, 3], [0, 1, 2], [1, 1, 2], [1, 1, 2]))
    square = f"kernel_size: {k} stride: {s} pad: {p}"
    uneven = f"kernel_h: {k} kernel_w: {r.randint(1, 4)} stride_h: {s} stride_w: {r.randint(1, 3)} pad_h: {p} pad_w: 1"
    fields = f"num_output: {2 * r.randint(1, 5)} {r.choice([square, uneven])} dilation: {d} group: {g}"
    fields += _maybe(r, " bias_term: false", 0.3)
    return f'type: "{kind}" convolution_param {{ {fields} }}', [_picture(r)] * 2, 2  # both through one filter


def _pool(r: Random) -> Made:
    k = int(r.randint(1, 5))
    kind = r.choice(["MAX", "AVE"])
    if r.rand() < 0.15:
        return f'type: "Pooling" pooling_param {{ pool: {kind} global_pooling: true }}', [_picture(r)], 1
    fields = f"pool: {kind} kernel_size: {k} stride: {r.randint(1, 4)} pad: {r.randint(k)} {_maybe(r, 'round_mode: FLOOR', 0.3)}"
    return f'type: "Pooling" pooling_param {{ {fields} }}', [_picture(r)], 1


def _lrn(r: Random) -> Made:
    fields = f"local_size: {r.choice([1, 3, 5])} alpha: {r.rand():.3f} beta: {r.rand():.3f} k: {1 + r.rand():.3f}"
    return f'type: "LRN" lrn_param {{ {fields} {_maybe(r, "norm_region: WITHIN_CHANNEL")} }}', [_picture(r)], 1


def _inner(r: Random) -> Made:
    shape = _shape(r, int(r.randint(2, 5)))
    axis = int(r.randint(-len(shape) + 1, len(shape)))
    fields = f"num_output: {r.randint(1, 6)} axis: {axis} {_maybe(r, 'transpose: true')} {_maybe(r, 'bias_term: false')}"
    return f'type: "InnerProduct" inner_product_param {{ {fields} }}', [shape], 1


def _joined(r: Random) -> Made:
    shape, axis = list(_shape(r)), int(r.randint(-4, 4))
    shapes = []
    for _ in range(r.randint(1, 4)):
        shape[axis] = int(r.randint(1, 5))
        shapes.append(tuple(shape))
    return f'type: "Concat" concat_param {{ axis: {axis} }}', shapes, 1


def _cut(r: Random) -> Made:
    shape, axis, tops = list(_shape(r)), int(r.randint(-4, 4)), int(r.randint(1, 4))
    shape[axis] = tops * 2
    points = " ".join(f"slice_point: {n}" for n in sorted(r.choice(np.arange(1, tops * 2), tops - 1, replace=False)))
    return f'type: "Slice" slice_param {{ axis: {axis} {points} }}', [tuple(shape)], tops


def _eltwise(r: Random) -> Made:
    count, kind = int(r.randint(2, 5)), str(r.choice(["SUM", "PROD", "MAX"]))
    more = " ".join(f"coeff: {c:.3f}" for c in r.randn(count)) if kind == "SUM" and r.rand() < 0.6 else ""
    more += _maybe(r, " stable_prod_grad: false")
    return f'type: "Eltwise" eltwise_param {{ operation: {kind} {more} }}', [_shape(r)] * count, 1


def _affine(r: Random) -> Made:
    kind, shape = str(r.choice(["Scale", "Bias"])), _shape(r)
    axis = int(r.randint(-4, 4))
    rest = 4 - axis % 4
    bias = _maybe(r, "bias_term: true") if kind == "Scale" else ""
    if r.rand() < 0.5:
        n = int(r.randint(-1, rest + 1))
        return f'type: "{kind}" {kind.lower()}_param {{ axis: {axis} num_axes: {n} {bias} }}', [shape], 1
    operand = shape[axis % 4:axis % 4 + int(r.randint(1, rest + 1))]
    return f'type: "{kind}" {kind.lower()}_param {{ axis: {axis} {bias} }}', [shape, operand], 1


def _plain(r: Random) -> Made:
    a, b, c = (round(float(x), 3) for x in r.rand(3) + 0.1)
    axis = r.randint(-4, 4)
    texts = {
        "ReLU": ["", *(f"relu_param {{ negative_slope: {slope} }}" for slope in (a, -a))],
        "PReLU": ["", "prelu_param { channel_shared: true }"],
        "ELU": [f"elu_param {{ alpha: {alpha} }}" for alpha in (a, -a)], "Swish": [f"swish_param {{ beta: {a} }}"],
        "Sigmoid": [""], "TanH": [""], "AbsVal": [""], "BNLL": [""], "Dropout": ["dropout_param { dropout_ratio: 0 }"],
        "Power": [f"power_param {{ power: {p} scale: {s} shift: {c} }}" for p in (0, 1, 2, 3) for s in (0, 1, b)],
        "Exp": [f"exp_param {{ base: {base} scale: {b} shift: {c} }}" for base in (-1, 2, 0.5)],
        "Clip": [f"clip_param {{ min: {-a} max: {b} }}"],
        "BatchNorm": ["", f"batch_norm_param {{ moving_average_fraction: {a / 2} eps: 0.01 }}"],
        "MVN": ["", "mvn_param { across_channels: true }", "mvn_param { normalize_variance: false }",
                f"mvn_param {{ eps: {a} }}"],
        "Softmax": [f"softmax_param {{ axis: {axis} }}"], "Tile": [f"tile_param {{ axis: {axis} tiles: {r.randint(1, 4)} }}"],
        "Flatten": [f"flatten_param {{ axis: {r.randint(0, 2)} end_axis: {r.randint(2, 4)} }}"],
        "Reduction": [f"reduction_param {{ operation: {how} axis: {axis} coeff: {a} }}"
                      for how in ("SUM", "ASUM", "SUMSQ", "MEAN")],
        "Reshape": ["reshape_param { shape { dim: 0 dim: -1 } axis: 1 num_axes: 2 }"]}
    kind = sorted(texts)[r.randint(len(texts))]
    return f'type: "{kind}" {texts[kind][r.randint(len(texts[kind]))]}', [_shape(r)], 1


MAKERS: List[Callable[[Random], Made]] = [_conv, _pool, _lrn, _inner, _joined, _cut, _eltwise, _affine, _plain, _plain, _plain]


def run(caffe: Any, made: Made, r: Random, folder: str) -> Dict[str, np.ndarray]:
    """Return outputs and gradients of a case."""
    text, shapes, tops = made
    path = os.path.join(folder, "layer.prototxt")
    with open(path, "w") as out:
        out.write(cases.layer_net(cases.Case(text, [], tops), shapes))
    net = caffe.Net(path, caffe.TRAIN)
    for i, shape in enumerate(shapes):
        net.blobs[f"x{i}"].data[...] = r.randn(*shape)
    for blob in net.params.get("layer", []):
        blob.data[...] = r.rand(*blob.data.shape) + 0.1
    for _ in range(2):
        net.forward()
    found = {f"y:{top}": net.blobs[top].data.copy() for top in net.outputs}
    for top in net.outputs:
        net.blobs[top].diff[...] = r.randn(*net.blobs[top].data.shape)
    net.clear_param_diffs()
    net.backward()
    found.update({f"dx:{x}": net.blobs[x].diff.copy() for x in net.inputs})
    found.update({f"dw:{i}": b.diff.copy() for i, b in enumerate(net.params.get("layer", []))})
    return found


def run_all(caffe: Any, seed: int, numbers: List[int]) -> Dict[str, np.ndarray]:
    """Return the results of the numbered cases."""
    found: Dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            r = np.random.RandomState(seed * 100003 + number)
            made = MAKERS[number % len(MAKERS)](r)
            print(number, made, file=sys.stderr, flush=True)  # the last one, should Caffe end the process
            try:
                results = run(caffe, made, r, folder)
            except getattr(caffe, "CaffeError", ()):
                continue
            found.update({f"{number} {made[0]} {made[1]} {name}": value for name, value in results.items()})
    return found


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return `live.error`; values that are not finite must be so in both."""
    if found.shape != wanted.shape:
        return float("inf")
    finite = np.isfinite(wanted)
    return live.error(found[finite], wanted[finite]) if (finite == np.isfinite(found)).all() else float("inf")


if __name__ == "__main__":
    engine, seed_, numbers_, out_ = sys.argv[1:]
    np.savez(out_, **run_all(importlib.import_module(engine), int(seed_), [int(n) for n in numbers_.split(",")]))

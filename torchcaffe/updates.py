"""The six update rules of Caffe: from gradients and history to the step that is taken (src/caffe/solvers/).

Each rule works on lists of tensors, one entry a parameter, through torch's fused list operations. It changes the histories and
the gradients in place; afterwards the gradient of a parameter is the step, ``w -= step``.
"""
import math
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from . import blas, libm

_MANY = 1_000_000  # parameters, beyond which speed counts more than the last digit
Rule = Callable[[Any, int, List[float], List[Tensor], List[Tensor], List[Tensor]], None]


def add_scaled(ys: List[Tensor], xs: List[Tensor], factors: List[float]) -> None:
    """Add factor * x to y for each pair, in one fused call for all pairs of equal factor.

    A fused multiply-add rounds once, as the BLAS calls of Caffe do.
    """
    for factor in set(factors):
        chosen = [i for i, f in enumerate(factors) if f is factor or f == factor]  # NaN is not equal to itself
        if factor:
            torch._foreach_add_([ys[i] for i in chosen], [xs[i] for i in chosen], alpha=factor)


def l2_norm(grads: List[Tensor]) -> float:
    """Return the norm of all gradients; of small nets on a CPU it adds up in the order of Caffe's BLAS."""
    if grads[0].is_cuda or sum(g.numel() for g in grads) > _MANY:
        return float(torch.stack(torch._foreach_norm(grads)).norm())
    total = blas.add_up(torch.stack([blas.sum_squares(g) for g in grads]))
    return float(np.sqrt(total.numpy()))  # torch's root is not always rounded to the nearest


def _powers(values: Sequence[Tensor], exponent: float) -> List[Tensor]:
    """Return the magnitudes to a power, in small nets on a CPU as Caffe's powf gives them."""
    if values[0].is_cuda or sum(v.numel() for v in values) > _MANY:
        return list(torch._foreach_pow(torch._foreach_abs(list(values)), exponent))
    return [libm.power(v.abs(), exponent) for v in values]


def _sgd(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], _: List[Tensor]) -> None:
    torch._foreach_mul_(h, p.momentum)
    add_scaled(h, g, rates)
    torch._foreach_copy_(g, h)


def _nesterov(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], _: List[Tensor]) -> None:
    back = torch._foreach_mul(h, -p.momentum)
    torch._foreach_mul_(h, p.momentum)
    add_scaled(h, g, rates)
    torch._foreach_copy_(g, back)
    add_scaled(g, h, [1 + p.momentum] * len(g))


def _adagrad(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], _: List[Tensor]) -> None:
    torch._foreach_add_(h, _powers(g, 2))
    _divide(g, h, p.delta, rates)


def _rmsprop(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], _: List[Tensor]) -> None:
    torch._foreach_mul_(h, p.rms_decay)
    torch._foreach_add_(h, _powers(g, 2), alpha=1 - p.rms_decay)
    _divide(g, h, p.delta, rates)


def _divide(g: List[Tensor], h: List[Tensor], delta: float, rates: List[float]) -> None:
    root = _powers(h, 0.5)
    torch._foreach_add_(root, delta)
    torch._foreach_div_(g, root)
    torch._foreach_mul_(g, rates)


def _adadelta(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], steps: List[Tensor]) -> None:
    torch._foreach_mul_(h, p.momentum)
    torch._foreach_add_(h, _powers(g, 2), alpha=1 - p.momentum)
    ratio = torch._foreach_add(steps, p.delta)
    torch._foreach_div_(ratio, torch._foreach_add(h, p.delta))
    torch._foreach_mul_(g, _powers(ratio, 0.5))
    torch._foreach_mul_(steps, p.momentum)
    torch._foreach_add_(steps, _powers(g, 2), alpha=1 - p.momentum)
    torch._foreach_mul_(g, rates)


def _adam(p: Any, it: int, rates: List[float], g: List[Tensor], m: List[Tensor], v: List[Tensor]) -> None:
    torch._foreach_mul_(m, p.momentum)
    torch._foreach_add_(m, g, alpha=1 - p.momentum)
    torch._foreach_mul_(v, p.momentum2)
    torch._foreach_add_(v, torch._foreach_mul(g, g), alpha=1 - p.momentum2)
    correction = math.sqrt(1 - p.momentum2 ** (it + 1)) / (1 - p.momentum ** (it + 1))
    root = _powers(v, 0.5)
    torch._foreach_add_(root, p.delta)
    torch._foreach_copy_(g, m)
    torch._foreach_div_(g, root)
    torch._foreach_mul_(g, [r * float(np.float32(correction)) for r in rates])


# type -> (rule, number of histories a parameter)
RULES: Dict[str, Tuple[Rule, int]] = {
    "SGD": (_sgd, 1), "Nesterov": (_nesterov, 1), "AdaGrad": (_adagrad, 1), "RMSProp": (_rmsprop, 1),
    "AdaDelta": (_adadelta, 2), "Adam": (_adam, 2)}

"""The six update rules of Caffe: from gradients and history to the step that is taken (src/caffe/solvers/).

Each rule works on lists of tensors, one entry a parameter, through torch's fused list operations. It changes the histories and
the gradients in place; afterwards the gradient of a parameter is the step, ``w -= step``.
"""
import math
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import torch
from torch import Tensor

from .errors import CaffeError
from .glog import log, number

_LEAST_RATE = 1e-6
Rule = Callable[[Any, int, List[float], List[Tensor], List[Tensor], List[Tensor]], None]


def check(p: Any, kind: str) -> None:
    """Raise CaffeError where a SolverParameter has what a rule cannot work with."""
    if p.regularization_type not in ("L1", "L2"):
        raise CaffeError(f"solver: unknown regularization_type {p.regularization_type!r}; known: L1, L2")
    if kind in ("AdaGrad", "RMSProp") and p.momentum:
        raise CaffeError(f"solver: momentum cannot be used with {kind}")
    if kind == "Adam" and p.momentum == 1:
        raise CaffeError("solver: momentum is 1, it must be below 1 for Adam")
    if kind == "RMSProp" and not 0 <= p.rms_decay < 1:
        raise CaffeError(f"solver: rms_decay is {p.rms_decay:g}, it must lie in [0, 1)")


def _add_scaled(ys: List[Tensor], xs: List[Tensor], factors: List[float]) -> None:
    """Add factor * x to y for each pair, in one fused call for all pairs of equal factor.

    A fused multiply-add rounds once, as the BLAS calls of Caffe do.
    """
    for factor in set(factors):
        chosen = [i for i, f in enumerate(factors) if f is factor or f == factor]  # NaN is not equal to itself
        if factor:
            torch._foreach_add_([ys[i] for i in chosen], [xs[i] for i in chosen], alpha=factor)


def clip(p: Any, grads: List[Tensor]) -> None:
    """Scale all gradients down where their norm exceeds ``clip_gradients`` (``ClipGradients``)."""
    limit = p.clip_gradients
    if limit < 0:
        return
    norm = float(torch.stack(torch._foreach_norm(grads)).norm())
    if norm > limit:
        log("sgd_solver.cpp:95", f"Gradient clipping: scaling down gradients (L2 norm {number(norm)} > {number(limit)}) "
                                 f"by scale factor {number(limit / norm)}")
        torch._foreach_mul_(grads, float(torch.tensor(limit) / norm))


def regularize(p: Any, weights: List[Tensor], grads: List[Tensor], decays: List[float]) -> None:
    """Add decay * weight, or with L1 its sign, to each gradient."""
    if any(decays):
        terms = torch._foreach_sign(weights) if p.regularization_type == "L1" else weights
        _add_scaled(grads, list(terms), decays)


def _squares(values: List[Tensor]) -> List[Tensor]:
    return list(torch._foreach_mul(values, values))


def _sgd(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], _: List[Tensor]) -> None:
    torch._foreach_mul_(h, p.momentum)
    _add_scaled(h, g, rates)
    torch._foreach_copy_(g, h)


def _order(x: Tensor) -> List[int]:
    """Return the strides that matter for the order in memory."""
    return [stride for stride, length in zip(x.stride(), x.shape) if length > 1]


def sgd_at_once(momentum: float, rates: List[float], decays: List[float], w: List[Tensor], g: List[Tensor],
                h: List[Tensor]) -> bool:
    """Decay, and take SGD's step, in one pass over the memory; return whether that was possible. The step is then in `h` alone.

    torch's h = m h + (1 - dampening) g and w -= lr h are Caffe's rule where lr is 1 and dampening 1 - rate; a very small rate
    would lose digits there.
    """
    alike = all(a.stride() == b.stride() == c.stride() or _order(a) == _order(b) == _order(c) for a, b, c in zip(w, g, h))
    if not momentum or not alike or not all(rate == 0 or _LEAST_RATE < rate < math.inf for rate in rates):
        return False
    for rate, decay in set(zip(rates, decays)):
        ws, gs, hs = ([x for x, pair in zip(xs, zip(rates, decays)) if pair == (rate, decay)] for xs in (w, g, h))
        try:
            torch._fused_sgd_(ws, gs, hs, weight_decay=decay, momentum=momentum, lr=1.0, dampening=1 - rate, nesterov=False,
                              maximize=False, is_first_step=False)
        except (AttributeError, NotImplementedError):  # before PyTorch 2.4, where the first call does nothing at all
            return False
        for weight in ws:  # the call above does not count its change, which folded weights are known to be old by
            torch.autograd.graph.increment_version(weight)
    return True


def _nesterov(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], _: List[Tensor]) -> None:
    back = torch._foreach_mul(h, -p.momentum)
    torch._foreach_mul_(h, p.momentum)
    _add_scaled(h, g, rates)
    torch._foreach_copy_(g, back)
    _add_scaled(g, h, [1 + p.momentum] * len(g))


def _adagrad(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], _: List[Tensor]) -> None:
    torch._foreach_add_(h, _squares(g))
    _divide(g, h, p.delta, rates)


def _rmsprop(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], _: List[Tensor]) -> None:
    torch._foreach_mul_(h, p.rms_decay)
    torch._foreach_add_(h, _squares(g), alpha=1 - p.rms_decay)
    _divide(g, h, p.delta, rates)


def _divide(g: List[Tensor], h: List[Tensor], delta: float, rates: List[float]) -> None:
    root = torch._foreach_sqrt(h)
    torch._foreach_add_(root, delta)
    torch._foreach_div_(g, root)
    torch._foreach_mul_(g, rates)


def _adadelta(p: Any, it: int, rates: List[float], g: List[Tensor], h: List[Tensor], steps: List[Tensor]) -> None:
    torch._foreach_mul_(h, p.momentum)
    torch._foreach_add_(h, _squares(g), alpha=1 - p.momentum)
    ratio = torch._foreach_add(steps, p.delta)
    torch._foreach_div_(ratio, torch._foreach_add(h, p.delta))
    torch._foreach_mul_(g, torch._foreach_sqrt(ratio))
    torch._foreach_mul_(steps, p.momentum)
    torch._foreach_add_(steps, _squares(g), alpha=1 - p.momentum)
    torch._foreach_mul_(g, rates)


def _adam(p: Any, it: int, rates: List[float], g: List[Tensor], m: List[Tensor], v: List[Tensor]) -> None:
    torch._foreach_mul_(m, p.momentum)
    torch._foreach_add_(m, g, alpha=1 - p.momentum)
    torch._foreach_mul_(v, p.momentum2)
    torch._foreach_add_(v, _squares(g), alpha=1 - p.momentum2)
    correction = math.sqrt(1 - p.momentum2 ** (it + 1)) / (1 - p.momentum ** (it + 1))
    root = torch._foreach_sqrt(v)
    torch._foreach_add_(root, p.delta)
    torch._foreach_copy_(g, m)
    torch._foreach_div_(g, root)
    torch._foreach_mul_(g, [r * float(np.float32(correction)) for r in rates])


# type -> (rule, number of histories a parameter)
RULES: Dict[str, Tuple[Rule, int]] = {
    "SGD": (_sgd, 1), "Nesterov": (_nesterov, 1), "AdaGrad": (_adagrad, 1), "RMSProp": (_rmsprop, 1),
    "AdaDelta": (_adadelta, 2), "Adam": (_adam, 2)}

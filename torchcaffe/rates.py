"""Learning-rate policies (``SGDSolver::GetLearningRate``), in float32 as Caffe computes them."""
from typing import Any, Callable, Dict

import numpy as np

from .errors import CaffeError

_f, _d = np.float32, np.float64
_NEEDS_GAMMA = ("step", "exp", "inv", "multistep", "sigmoid")


def _power(p: Any, step: int) -> Any:
    return p.base_lr * _d(p.gamma) ** step  # a power with an integer is a double there


def _inv(p: Any, it: int, step: int) -> Any:
    return _f(p.base_lr) * _f(_d(_f(1) + _f(p.gamma) * _f(it)) ** -p.power)


def _poly(p: Any, it: int, step: int) -> Any:
    return _f(p.base_lr) * _f(_d(_f(1) - _f(it) / _f(p.max_iter)) ** p.power)


def _sigmoid(p: Any, it: int, step: int) -> Any:
    return _f(p.base_lr) * (_f(1) / (_f(1) + _f(np.exp(_d(-_f(p.gamma) * (_f(it) - _f(p.stepsize)))))))


_POLICIES: Dict[str, Callable[[Any, int, int], Any]] = {
    "fixed": lambda p, it, step: _f(p.base_lr), "step": lambda p, it, step: _power(p, step),
    "multistep": lambda p, it, step: _power(p, step), "exp": lambda p, it, step: _power(p, it),
    "inv": _inv, "poly": _poly, "sigmoid": _sigmoid}


def check_policy(p: Any) -> None:
    """Raise CaffeError for a solver text whose policy is unknown or lacks what it needs."""
    if p.lr_policy not in _POLICIES:
        raise CaffeError(f"unknown learning rate policy {p.lr_policy!r}; known: {', '.join(_POLICIES)}")
    if p.lr_policy in ("step", "sigmoid") and p.stepsize <= 0:
        raise CaffeError(f"lr_policy {p.lr_policy!r} needs a positive stepsize")
    if p.lr_policy in _NEEDS_GAMMA and p.gamma < 0:
        raise CaffeError(f"lr_policy {p.lr_policy!r}: gamma is {p.gamma:g}, it must not be negative")
    if p.lr_policy == "poly" and p.max_iter <= 0:
        raise CaffeError("lr_policy 'poly' needs a positive max_iter")


def next_step(p: Any, iteration: int, step: int) -> int:
    """Return the step that holds at an iteration; multistep advances by one at most."""
    if p.lr_policy == "step":
        return int(iteration // p.stepsize)
    if p.lr_policy == "multistep" and step < len(p.stepvalue) and iteration >= p.stepvalue[step]:
        return step + 1
    return step


def rate(p: Any, iteration: int, step: int) -> float:
    """Return the learning rate of an iteration: infinite or not a number where Caffe's is."""
    with np.errstate(all="ignore"):
        return float(_f(_POLICIES[p.lr_policy](p, iteration, step)))

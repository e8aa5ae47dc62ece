"""First values of parameters (Caffe's ``filler.hpp``): the same distributions, from torch's generator."""
import math
from typing import Any, Callable, Dict

import torch
from torch import Tensor

from . import context
from .blob import Shape, allocate
from .errors import CaffeError


def _fan(shape: Shape, filler: Any) -> float:
    """Return n of Xavier and MSRA: fan-in, fan-out or their mean.

    Caffe takes fan_in = count / shape[0] and fan_out = count / shape[1] of the blob as it is stored, so a grouped
    convolution divides the fan-in by the group but not the fan-out.
    """
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    kinds = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}
    return kinds[filler.VarianceNorm.Name(filler.variance_norm)]


def _constant(t: Tensor, f: Any) -> None:
    t.fill_(f.value)


def _uniform(t: Tensor, f: Any) -> None:
    t.uniform_(f.min, f.max, generator=context.generator())


def _gaussian(t: Tensor, f: Any) -> None:
    t.normal_(f.mean, f.std, generator=context.generator())
    if f.sparse >= 0:  # about `sparse` values of each output stay
        keep = f.sparse / t.shape[0]
        t.mul_(torch.empty_like(t).bernoulli_(min(keep, 1.0), generator=context.generator()))


def _positive_unitball(t: Tensor, f: Any) -> None:
    t.uniform_(0, 1, generator=context.generator())
    rows = t.view(t.shape[0] if t.dim() else 1, -1)
    rows.div_(rows.sum(1, keepdim=True))


def _xavier(t: Tensor, f: Any) -> None:
    bound = math.sqrt(3 / _fan(tuple(t.shape), f))
    t.uniform_(-bound, bound, generator=context.generator())


def _msra(t: Tensor, f: Any) -> None:
    t.normal_(0, math.sqrt(2 / _fan(tuple(t.shape), f)), generator=context.generator())


def _bilinear(t: Tensor, f: Any) -> None:
    if t.dim() != 4 or t.shape[2] != t.shape[3]:
        raise CaffeError(f"filler bilinear: the blob is {tuple(t.shape)}, it must have 4 axes and a square kernel")
    size = t.shape[3]
    half = math.ceil(size / 2)
    centre = (size - 1) / (2 * half)
    line = 1 - (torch.arange(size) / half - centre).abs()
    t.copy_((line[:, None] * line).expand_as(t))


_FILLERS: Dict[str, Callable[[Tensor, Any], None]] = {
    "constant": _constant, "uniform": _uniform, "gaussian": _gaussian, "positive_unitball": _positive_unitball,
    "xavier": _xavier, "msra": _msra, "bilinear": _bilinear}


def _check(shape: Shape, f: Any) -> None:
    """Raise a CaffeError that names the field which cannot be."""
    largest = torch.finfo(torch.float32).max
    for name, wrong, expected in (
            ("type", f.type not in _FILLERS, f"one of {', '.join(_FILLERS)}"),
            ("sparse", f.sparse < -1, "-1 or more"),
            ("sparse", f.sparse >= 0 and f.type != "gaussian", "a gaussian filler; sparsity is only supported by it"),
            ("sparse", f.sparse >= 0 and not shape, "a blob with an axis"),
            ("std", f.type == "gaussian" and not f.std >= 0, "0 or more"),
            ("min", f.type == "uniform" and not -largest <= f.min <= f.max, f"a finite number, at most max, {f.max}"),
            ("max", f.type == "uniform" and not f.max - max(f.min, -largest) <= largest, f"a finite range from min, {f.min}")):
        if wrong:
            raise CaffeError(f"filler {f.type}: {name} is {getattr(f, name)!r}, expected {expected}")


def fill(shape: Shape, filler: Any) -> Tensor:
    """Return a float32 CPU tensor drawn as a FillerParameter says."""
    _check(shape, filler)
    tensor = allocate(shape)
    if tensor.numel():
        _FILLERS[filler.type](tensor, filler)
    return tensor

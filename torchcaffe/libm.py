"""Exponential, logarithm and powers of float32 values as glibc rounds them, which is not always to the nearest.

Caffe calls expf, logf and powf value by value. They compute in double precision, from a table of 16 or 32 entries and a short
polynomial (e_expf.c, e_logf.c, e_powf.c); that is repeated here on tensors. On a GPU torch's own functions serve.
"""
import math
from typing import Tuple

import torch
from torch import Tensor

_EXP = [float.fromhex(x) for x in ("0x1.c6af84b912394p-5", "0x1.ebfce50fac4f3p-3", "0x1.62e42ff0c52d6p-1")]
_LOG = [float.fromhex(x) for x in ("-0x1.00ea348b88334p-2", "0x1.5575b0be00b6ap-2", "-0x1.ffffef20a4123p-2")]
_LOG2 = [float.fromhex(x) for x in ("0x1.27616c9496e0bp-2", "-0x1.71969a075c67ap-2", "0x1.ec70a6ca7baddp-2",
                                    "-0x1.7154748bef6c8p-1", "0x1.71547652ab82bp0")]
_INVERSES = torch.tensor([float.fromhex(x) for x in (  # of a number in each sixteenth from 0.7 to 1.4 of the logarithm's range
    "0x1.661ec79f8f3bep+0", "0x1.571ed4aaf883dp+0", "0x1.49539f0f010bp+0", "0x1.3c995b0b80385p+0", "0x1.30d190c8864a5p+0",
    "0x1.25e227b0b8eap+0", "0x1.1bb4a4a1a343fp+0", "0x1.12358f08ae5bap+0", "0x1.0953f419900a7p+0", "0x1p+0",
    "0x1.e608cfd9a47acp-1", "0x1.ca4b31f026aap-1", "0x1.b2036576afce6p-1", "0x1.9c2d163a1aa2dp-1", "0x1.886e6037841edp-1",
    "0x1.767dcf5534862p-1")], dtype=torch.float64)
_LOGS, _LOGS2 = -_INVERSES.log(), -_INVERSES.log2()
_START = 0x3f330000  # bits of the float32 where the range begins


def exp(x: Tensor) -> Tensor:
    """Return e to the power of each value."""
    return x.exp() if x.is_cuda else torch.where(x.isfinite(), _power_of_two(x.double() * (1 / math.log(2))), x.exp())


def _power_of_two(x: Tensor) -> Tensor:
    steps = x * 32
    whole = steps.round()
    rest = (steps - whole) / 32
    factor = (_EXP[0] * rest + _EXP[1]) * (rest * rest) + (_EXP[2] * rest + 1)
    return (factor * torch.exp2(whole / 32)).float()


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm of each value; those that are numbers must be normal and positive."""
    if x.is_cuda:
        return x.log()
    rest, at, exponent = _reduce(x)
    square = rest * rest
    near = _LOGS[at] + exponent * math.log(2) + rest
    found = ((_LOG[1] * rest + _LOG[2]) + _LOG[0] * square) * square + near
    return torch.where(x.isfinite(), found.float(), x.log())


def power(x: Tensor, exponent: float) -> Tensor:
    """Return each value to a power; none may be negative."""
    if x.is_cuda:
        return x.pow(exponent)
    smallest = torch.finfo(torch.float32).tiny
    rest, at, shift = _reduce(x.clamp(min=smallest))
    square = rest * rest
    near = _LOG2[4] * rest + (_LOGS2[at] + shift)
    log2 = (_LOG2[0] * rest + _LOG2[1]) * (square * square) + ((_LOG2[2] * rest + _LOG2[3]) * square + near)
    return torch.where((x >= smallest) & x.isfinite(), _power_of_two(exponent * log2), x.pow(exponent))


def _reduce(x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Return rest, place in the table and exponent of two: x is (1 + rest) / inverse times that power."""
    bits = x.contiguous().view(torch.int32) - _START
    at, exponent = (bits >> 19) % 16, bits >> 23
    mantissa = (x.contiguous().view(torch.int32) - (exponent << 23)).view(torch.float32).double()
    return mantissa * _INVERSES[at] - 1, at, exponent.double()

"""Sums and products a channel, over memory in long lines.

Torch's loops over the channels alone, such as 16, cost more than the arithmetic in them. So several pixels with all their
channels, which lie side by side in memory, make one line. Each column is summed by itself first, which also keeps more digits
than torch's own batch_norm does.
"""
import functools
from typing import Optional, Tuple

import torch
from torch import Tensor

_WIDTH = 512  # numbers of a line, at most: 2 KB; where there are more channels, one pixel makes a line
_ENOUGH = 32  # channels whose products need no longer lines


@functools.cache
def _pixels(count: int, channels: int) -> int:
    """Return how many of `count` pixels make a line."""
    return max(n for n in range(1, max(1, min(count, _WIDTH // max(1, channels))) + 1) if count % n == 0)


class Rows:
    """The tensors of one shape N x C x ... as matrices; `of` and `back` copy nothing where channels come last in memory."""

    def __init__(self, like: Tensor) -> None:
        self.shape = like.shape
        self.channels = like.shape[1] if like.dim() > 1 else 1
        self.count = like.numel() // max(1, self.channels)
        self.times = _pixels(self.count, self.channels)

    def of(self, x: Tensor) -> Tensor:
        """Return the matrix of a tensor."""
        size = self.count // self.times, self.times * self.channels
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return x.as_strided(size, (size[1], 1))
        return (x.movedim(1, -1) if x.dim() > 2 else x).reshape(size)

    def back(self, rows: Tensor) -> Tensor:
        """Return the tensor of a matrix."""
        if len(self.shape) <= 2:
            return rows.view(self.shape)
        return rows.view(self.shape[0], *self.shape[2:], self.channels).movedim(-1, 1)

    def wide(self, values: Tensor) -> Tensor:
        """Return one value a channel, repeated along a line: a copy, since batch norm's loops read no strides."""
        return values.expand(self.times, -1).contiguous().view(-1) if self.times > 1 else values

    def moments(self, rows: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the variance and the mean of each channel."""
        means, variances = torch.batch_norm_update_stats(rows, None, None, 0.0)
        if self.times == 1:
            return variances, means
        columns = self.times, self.channels
        between, mean = torch.var_mean(means.view(columns), 0, correction=0)
        return between.add_(variances.view(columns).mean(0)), mean

    def sums(self, x: Tensor, dy: Tensor, centre: Tensor, factor: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the sums of (x - centre) * factor * dy and of dy of each channel."""
        _, both, alone = torch.ops.aten.native_batch_norm_backward(
            dy, x, None, None, None, self.wide(centre), self.wide(factor), True, 0.0, [False, True, True])
        return both.view(self.times, -1).sum(0), alone.view(self.times, -1).sum(0)

    def affine(self, rows: Tensor, factor: Tensor, shift: Optional[Tensor], out: Optional[Tensor] = None) -> Tensor:
        """Return rows * factor + shift, one of each a channel."""
        if self.channels < _ENOUGH:
            factor, shift = self.wide(factor), None if shift is None else self.wide(shift)
        lines = rows.view(-1, len(factor))
        out = None if out is None else out.view(lines.shape)
        found = torch.mul(lines, factor, out=out) if shift is None else torch.addcmul(shift, lines, factor, out=out)
        return found.view(rows.shape)

"""BatchNorm and the Scale behind it as one step, whose gradient reads and writes each blob once less often."""
from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..blob import Shape
from .base import Tensors
from .dense import BatchNorm
from .neuron import Scale
from .rows import Rows
from .several import Several


class Joined(Several):
    """What the two do, with the parameters of both; what lies between them is found again where it is asked for."""

    saves_top, repeatable = False, False

    def __init__(self, norm: BatchNorm, scale: Scale) -> None:
        super().__init__(norm.param, norm.phase)
        self.parts = self.norm, self.scale = norm, scale
        self.blobs.extend([*norm.blobs, *scale.blobs])
        self.propagate_down, self.param_wanted = norm.propagate_down, [False] * len(norm.blobs) + scale.param_wanted
        self.needs_backward, self.may_overwrite = scale.needs_backward, norm.may_overwrite

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        found = self.scale.top_shapes(self.norm.top_shapes(shapes))
        self.overwrites = None if self.scale.overwrites is None else len(self.norm.blobs)
        return found

    def line(self, rows: Any, x: Any, params: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        """Return factor and term of each channel; fixed statistics do not look at the values."""
        self.centre, self.factor = self.norm.statistics(rows, x, params[:3])
        slope = self.factor * params[3]
        return slope, (-self.centre * slope if len(params) < 5 else torch.addcmul(params[4], self.centre, slope, value=-1))

    def compute(self, *tensors: Tensor) -> Tensors:
        rows = Rows(tensors[0])
        x = rows.of(tensors[0])
        slope, shift = self.line(rows, x, tensors[1:])
        return rows.back(rows.affine(x, slope, shift, x if self.may_overwrite and not self.learns else None))

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        rows = Rows(diffs[0])
        x, dy = rows.of(tensors[0]), rows.of(diffs[0])
        along, total = rows.sums(x, dy, self.centre, self.factor)
        of_params = [None] * 3 + [found if asked else None for found, asked in zip((along, total), wanted[4:])]
        if not wanted[0]:
            return [None, *of_params]
        slope = self.factor * tensors[4]
        if self.norm.fixed:
            return [rows.back(rows.affine(dy, slope, None)), *of_params]
        bend = torch.mul(along, self.factor).mul_(slope).div_(-rows.count)
        shift = torch.mul(total, slope).div_(-rows.count).addcmul_(bend, self.centre, value=-1)
        return [rows.back(rows.affine(x, bend, shift).addcmul_(dy, rows.wide(slope))), *of_params]

    def shares(self, tensors: List[Tensor], ys: Sequence[Tensor], kinds: Any) -> Sequence[Any]:
        rows = Rows(tensors[0])
        y = rows.back((rows.of(tensors[0]) - rows.wide(self.centre)).mul_(rows.wide(self.factor)))
        self.norm.factor = self.factor
        return ([], [y], kinds), ([y, *tensors[4:]], (), kinds)

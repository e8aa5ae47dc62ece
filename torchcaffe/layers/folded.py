"""A convolution, and what normalizes and rectifies it in place, as one call where no gradient follows.

The factors and terms of a BatchNorm with fixed statistics and of its Scale enter weights and bias. The weights lie in oneDNN's
order, which torch's convolution brings them into in every pass: more work than the sums where a net of many weights sees one
picture.
"""
from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor

from ..blob import Shape
from .base import Layer, Tensors
from .joined import Joined
from .several import Several
from .spatial import Convolution


def foldable(layer: Layer) -> bool:
    """Return whether a layer is a convolution of pictures that oneDNN can compute with weights in its own order."""
    return (isinstance(layer, Convolution) and not layer.transposed and len(layer.kernel) == 2 and len(layer.param.top) == 1
            and layer.compute_type == torch.float32 and layer.blobs[0].tensor.device.type == "cpu"
            and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
            and all(hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight")))


class Folded(Several):
    """The convolution with the parameters of all that it takes in; they are folded again when one of them has changed."""

    def __init__(self, layers: List[Any], norm: Optional[Joined], rectify: bool) -> None:
        conv: Convolution = layers[0]
        super().__init__(conv.param, conv.phase)
        self.parts, self.conv, self.norm, self.rectify = layers, conv, norm, rectify
        self.blobs.extend([*conv.blobs, *(norm.blobs if norm else [])])
        self.enter = conv.enter  # type: ignore[method-assign]
        self._stamp: Any = None
        self._folded: Tuple[Tensor, Optional[Tensor]]

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        return self.conv.top_shapes(shapes)

    def compute(self, *tensors: Tensor) -> Tensors:
        x, params = tensors[0], tensors[1:]
        stride, pad, dilation, _, _, group = self.conv.how
        last = self.conv.layout == torch.channels_last
        stamp = x.shape, [(id(p), p._version) for p in params]
        if stamp != self._stamp or any(b.shown for b in self.blobs):
            weight, bias = self._fold(params)
            if last:
                weight = torch.ops.mkldnn._reorder_convolution_weight(
                    weight.contiguous(memory_format=self.conv.layout), pad, stride, dilation, group, x.shape)
            self._folded, self._stamp, self._params = (weight, bias), stamp, params  # held, so that no other gets their ids
        y: Tensor
        if last:
            y = torch.ops.mkldnn._convolution_pointwise(x, *self._folded, pad, stride, dilation, group, "none", [], "")
        else:
            y = torch.convolution(x, *self._folded, *self.conv.how)  # type: ignore[arg-type]
        return y.relu_() if self.rectify else y  # oneDNN's own makes 0 of NaN, and a diverged net looks sound

    def _fold(self, params: Tuple[Tensor, ...]) -> Tuple[Tensor, Optional[Tensor]]:
        """Return the weights and the bias."""
        own = len(self.conv.blobs)
        weight, bias = params[0], params[1] if own > 1 else None
        if self.norm is None:
            return weight, bias
        slope, shift = self.norm.line(None, None, params[own:])
        return weight * slope.view(-1, 1, 1, 1), shift if bias is None else torch.addcmul(shift, bias, slope)

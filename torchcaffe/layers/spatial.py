"""Layers with windows over height and width: convolution, pooling, local response normalization, cropping."""
import functools
from typing import Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blob import Shape
from .base import ANY, LOW, Layer, Tensors, register

_LARGE = 2 ** 18  # numbers; fewer are pooled faster by torch


def _sizes(layer: Layer, param: Any, name: str, axes: int, default: Optional[int]) -> List[int]:
    """Return a repeated spatial field (``pad``), or its _h and _w twins, as one number an axis."""
    field = "kernel_size" if name == "kernel" else name
    values = list(getattr(param, field))
    if name != "dilation" and (param.HasField(name + "_h") or param.HasField(name + "_w")):
        layer.check(axes == 2, f"{name}_h and {name}_w need two spatial axes, there are {axes}; give {field}")
        layer.check(not values, f"give either {field} or {name}_h and {name}_w, not both")
        values = [getattr(param, name + "_h"), getattr(param, name + "_w")]
    layer.check(bool(values) or default is not None, f"{field} is missing")
    values = values or [default or 0]
    layer.check(len(values) in (1, axes), f"{field} is given {len(values)} times, need 1 or {axes}")
    return values * axes if len(values) == 1 else values


def _channels_last(x: Tensor) -> Tensor:
    """Return pictures with channels last in memory; where it is in both orders, strides say which is meant."""
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = x.shape
    both = channels == 1 or height == width == 1
    return x.as_strided(x.shape, (height * width * channels, 1, width * channels, channels)) if both else x


def _of_channels(dy: Tensor) -> Tensor:
    """Return the sum of each channel; oneDNN's, for the bias, is off by up to 4e-5 of it, torch's by 1e-7."""
    axes = [*range(2, dy.dim())]
    return dy.sum(axes).sum(0) if len(dy) > 1 else dy.sum([0, *axes])  # a picture at a time threads share the work


@register
class Convolution(Layer):
    """Cross-correlation of each group of channels with learned filters (base_conv_layer.cpp)."""

    bottoms, tops = (1, None), (1, None)
    numbers, saves_top, by_hand = LOW, False, True
    transposed = False

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.convolution_param
        axis = self.axis(p.axis, shapes[0])
        self.check(axis == 1, f"axis is {p.axis}; only the channel axis 1 is supported")
        n = len(shapes[0]) - 2
        self.check(1 <= n <= 3, f"the bottom has shape {shapes[0]}; 1 to 3 spatial axes are supported")
        self.kernel, self.stride = _sizes(self, p, "kernel", n, None), _sizes(self, p, "stride", n, 1)
        self.pad, self.dilation = _sizes(self, p, "pad", n, 0), _sizes(self, p, "dilation", n, 1)
        self.check(min(self.kernel + self.stride + self.dilation) > 0, "kernel, stride and dilation must be positive")
        self.group, self.channels = p.group, shapes[0][1]
        self.check(p.num_output > 0, "num_output must be positive")
        self.check(self.channels > 0, f"the bottom has no channels, its shape is {shapes[0]}")
        self.check(self.group > 0 and self.channels % self.group == 0 and p.num_output % self.group == 0,
                   f"group {p.group} must divide the {self.channels} channels and num_output {p.num_output}")
        self.add_param(self.weight_shape(p.num_output), p.weight_filler)
        if p.bias_term:
            self.add_param((p.num_output,), p.bias_filler)
        self.how = (self.stride, self.pad, self.dilation, self.transposed, [0] * n, self.group)

    def weight_shape(self, outputs: int) -> Shape:
        """Return the shape of the weights."""
        return (outputs, self.channels // self.group, *self.kernel)

    def length(self, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        """Return the output length along one axis."""
        return (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(all(s == shapes[0] for s in shapes), f"bottoms differ in shape: {shapes}")
        self.check(len(shapes[0]) == len(self.kernel) + 2 and shapes[0][1] == self.channels,
                   f"was set up for {self.channels} channels and {len(self.kernel)} spatial axes, gets {shapes[0]}")
        out = tuple(map(self.length, shapes[0][2:], self.kernel, self.stride, self.pad, self.dilation))
        self.check(min(out) > 0, f"input {shapes[0][2:]} is smaller than the kernel {tuple(self.kernel)}")
        # oneDNN and cuDNN are faster with channels last, and their tops stay so. But in pictures of width 1 torch's dilated
        # convolution reads outside its memory; and where a 1 x 1 kernel skips positions of fewer channels than oneDNN's block of
        # 8 or 16, the gradient of the weights writes outside (oneDNN issue 6035)
        skips = max(self.kernel) == 1 < max(self.stride) and self.channels // self.group < 16
        last = len(self.kernel) == 2 and not self.transposed and min(shapes[0][2:]) > 1 and not skips
        self.layout = torch.channels_last if last else torch.contiguous_format
        return [(shapes[0][0], self.param.convolution_param.num_output, *out)] * len(shapes)

    def enter(self, tensor: Tensor) -> Tensor:
        x = self._turned(tensor)
        if self.layout == torch.channels_last:
            x = _channels_last(x)
        elif not self.transposed:
            x = x.reshape(-1).view(x.shape)  # strides say which is meant, again
        return x

    def compute(self, *tensors: Tensor) -> Tensors:
        count = len(tensors) - len(self.blobs)
        weight, bias = tensors[count], tensors[count + 1] if len(self.blobs) > 1 else None
        if weight.dim() == 4 and not weight.is_contiguous(memory_format=self.layout):
            self.blobs[0].lay(self.layout)  # not in every pass again
            weight = weight.contiguous(memory_format=self.layout)
        return [torch.convolution(x, weight, bias, *self.how) for x in tensors[:count]]

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        count = len(tensors) - len(self.blobs)
        found = [torch.ops.aten.convolution_backward(dy, x, tensors[count], None, *self.how, [asked, wanted[count], False])
                 for x, dy, asked in zip(tensors, diffs, wanted)]
        of_weight = functools.reduce(torch.add, [of_w for _, of_w, _ in found]) if wanted[count] else None
        of_bias = [functools.reduce(torch.add, map(_of_channels, diffs)) for asked in wanted[count + 1:] if asked]
        return [*[of_x for of_x, _, _ in found], of_weight, *of_bias]


@register
class Deconvolution(Convolution):
    """The transpose of Convolution: spreads each input value over a window (deconv_layer.cpp)."""

    transposed = True

    def weight_shape(self, outputs: int) -> Shape:
        return (self.channels, outputs // self.group, *self.kernel)

    def length(self, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        return stride * (size - 1) + dilation * (kernel - 1) + 1 - 2 * pad


def _largest(x: Tensor, height: int, width: int) -> Tensor:
    """Return the largest value of each tile of pictures with channels last.

    Two to seven times as fast as torch's pooling, which finds the place of each value too, where channels are few or bfloat16.
    """
    n, channels, rows, columns = x.shape
    lines = x.permute(0, 2, 3, 1).view(-1, height, columns * channels)
    pixels = functools.reduce(torch.maximum, lines.unbind(1)).view(-1, width, channels)
    found = functools.reduce(torch.maximum, pixels.unbind(1))
    return found.view(n, rows // height, columns // width, channels).permute(0, 3, 1, 2)


@register
class Pooling(Layer):
    """Maximum or mean of windows (pooling_layer.cpp).

    Output lengths round up by default, so the last window may hang over the edge and is clipped there. The mean divides
    by the window's area including padding, but clipped at size + pad.
    """

    tops, numbers, saves_top = (1, 2), ANY, False
    index: Tensor  # of each window's largest value

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.pooling_param
        self.check(p.pool != p.STOCHASTIC, "pool: STOCHASTIC is not supported")
        self.max = p.pool == p.MAX
        self.check(len(self.param.top) < 2 or self.max, "only pool: MAX has a second top")
        self.kernel = self._pair(p, "kernel", "kernel_size", 0)
        self.stride, self.pad = self._pair(p, "stride", "stride", 1), self._pair(p, "pad", "pad", 0)
        if p.global_pooling:
            self.check(self.kernel == (0, 0), "global_pooling takes no kernel size")
            self.check(self.pad == (0, 0) and self.stride == (1, 1), "global_pooling takes only pad 0 and stride 1")
        else:
            self.check(min(self.kernel) > 0, "kernel_size (or kernel_h and kernel_w) is missing or 0")
            self.check(all(a < k for a, k in zip(self.pad, self.kernel)), "pad must be smaller than the kernel")
        self.check(min(self.stride) > 0, "stride must be positive")

    def _pair(self, p: Any, name: str, single: str, default: int) -> Tuple[int, int]:
        two = p.HasField(name + "_h"), p.HasField(name + "_w")
        self.check(two[0] == two[1] and not (two[0] and p.HasField(single)),
                   f"give either {single} or both {name}_h and {name}_w")
        if two[0]:
            return getattr(p, name + "_h"), getattr(p, name + "_w")
        return (getattr(p, single),) * 2 if p.HasField(single) else (default, default)

    def _length(self, size: int, kernel: int, stride: int, pad: int) -> int:
        room = size + 2 * pad - kernel
        p = self.param.pooling_param
        length = (room // stride if p.round_mode == p.FLOOR else -(-room // stride)) + 1
        if any(self.pad) and (length - 1) * stride >= size + pad:
            length -= 1
        return length

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(len(shapes[0]) == 4, f"the bottom has shape {shapes[0]}, it must have 4 axes")
        if self.param.pooling_param.global_pooling:
            self.kernel = shapes[0][2], shapes[0][3]
        size = shapes[0][2:]
        self.out = tuple(map(self._length, size, self.kernel, self.stride, self.pad))
        starts = [(n - 1) * s - a for n, s, a in zip(self.out, self.stride, self.pad)]
        self.check(min(self.out) > 0 and all(a < n for a, n in zip(starts, size)),
                   f"a window starts outside the input {size}; change kernel, stride or round_mode")
        torch_out = tuple(map(self._torch_length, size, self.kernel, self.stride, self.pad))
        self.by_hand = torch_out == self.out and all(2 * a <= k for a, k in zip(self.pad, self.kernel))
        self.window = self.kernel, self.stride, self.pad
        self.tiles = (self.kernel == self.stride != (1, 1) and not any(self.pad)
                      and not any(n % k for n, k in zip(size, self.kernel)))
        return [(*shapes[0][:2], *self.out)] * max(1, len(self.param.top))

    def compute(self, *tensors: Tensor) -> Tensors:
        x, = tensors
        if not self.by_hand:
            return self._padded(x)
        if not self.max:
            if (x.is_cuda or x.dtype != torch.float32) and self.param.pooling_param.global_pooling:
                return x.mean((2, 3), keepdim=True, dtype=torch.float32)  # scores need their digits
            return F.avg_pool2d(x, *self.window, True)  # adds one value after the other as Caffe does
        if not self.learns and len(self.param.top) < 2:
            fast = self.tiles and not x.is_cuda and x.numel() >= _LARGE and x.is_contiguous(memory_format=torch.channels_last)
            return _largest(x, *self.kernel) if fast else torch.max_pool2d(x, *self.window, ceil_mode=True)
        y, self.index = F.max_pool2d(x, *self.window, ceil_mode=True, return_indices=True)
        return (y, self.index.to(torch.float32)) if len(self.param.top) > 1 else y

    def slopes(self, tensors: List[Tensor], ys: Sequence[Tensor], diffs: List[Tensor], wanted: List[bool]
               ) -> Sequence[Optional[Tensor]]:
        if not self.by_hand:
            return super().slopes(tensors, ys, diffs, wanted)
        x, dy, aten = tensors[0], diffs[0], torch.ops.aten
        if x.stride(1) == 1 and x.is_contiguous(memory_format=torch.channels_last):
            dy = _channels_last(dy)  # else torch copies the gradient of x, which is larger, twice
        if self.max:
            return [aten.max_pool2d_with_indices_backward(dy, x, *self.window, (1, 1), True, self.index)]
        return [aten.avg_pool2d_backward(dy.to(x.dtype), x, *self.window, True, True, None)]

    def _torch_length(self, size: int, kernel: int, stride: int, pad: int) -> int:
        """Return the length that torch's pooling with ceil_mode gives; 0 where it refuses."""
        room = size + 2 * pad - kernel
        length = -(-room // stride) + 1
        return 0 if room < 0 else length - ((length - 1) * stride >= size + pad)

    def _padded(self, x: Tensor) -> Tensors:
        """Pool where torch's own rule differs: pad to whole windows, then divide means by Caffe's areas."""
        size = x.shape[2:]
        ends = [(n - 1) * s + k for n, s, k in zip(self.out, self.stride, self.kernel)]
        after = [e - n - a for e, n, a in zip(ends, size, self.pad)]
        room = (self.pad[1], after[1], self.pad[0], after[0])
        if not self.max:
            total = F.avg_pool2d(F.pad(x, room), self.kernel, self.stride, divisor_override=1)
            return total / self._areas(x)
        wide = F.pad(x, room, value=float("-inf"))
        y, index = F.max_pool2d(wide, self.kernel, self.stride, return_indices=True)
        row, column = index // wide.shape[3] - self.pad[0], index % wide.shape[3] - self.pad[1]
        return (y, (row * size[1] + column).to(torch.float32))[:max(1, len(self.param.top))]

    def _areas(self, x: Tensor) -> Tensor:
        lengths = []
        for n, size, k, s, a in zip(self.out, x.shape[2:], self.kernel, self.stride, self.pad):
            start = torch.arange(n) * s - a
            lengths.append((start + k).clamp(max=size + a) - start)
        return (lengths[0][:, None] * lengths[1]).to(x)


@register
class LRN(Layer):
    """Local response normalization, across channels or within one (lrn_layer.cpp)."""

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.lrn_param
        self.check(p.local_size % 2 == 1, f"local_size is {p.local_size}, it must be odd")
        self.check(len(shapes[0]) == 4, f"the bottom has shape {shapes[0]}, it must have 4 axes")

    def compute(self, *tensors: Tensor) -> Tensors:
        x, = tensors
        p = self.param.lrn_param
        n, square = p.local_size, x * x
        if p.norm_region == p.ACROSS_CHANNELS:
            half = min(n // 2, max(0, x.shape[1] - 1))  # further out are only zeros
            wide = F.pad(square[:, None], (0, 0, 0, 0, half, half))
            total = F.avg_pool3d(wide, (2 * half + 1, 1, 1), 1, divisor_override=1)[:, 0]
            return x * (p.k + p.alpha / n * total) ** -p.beta
        # within a channel Caffe takes the mean of Pooling AVE, with its clipped areas, and k = 1
        mean = F.avg_pool2d(square, n, 1, n // 2, count_include_pad=True)
        return x * (1 + p.alpha * mean) ** -p.beta


@register
class Crop(Layer):
    """Cut the first bottom to the size of the second, from `axis` on (crop_layer.cpp)."""

    bottoms, numbers = (2, 2), ANY
    no_gradient, passes_over = (1,), True

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        p = self.param.crop_param
        whole, like = shapes
        axis = self.axis(p.axis, whole)
        self.check(len(whole) == len(like), f"bottoms have shapes {whole} and {like}; they need as many axes")
        cut = len(whole) - axis
        self.check(len(p.offset) in (0, 1, cut), f"offset is given {len(p.offset)} times, need 1 or {cut}")
        offsets = list(p.offset) * cut if len(p.offset) == 1 else list(p.offset) or [0] * cut
        for i, offset in enumerate(offsets, axis):
            self.check(offset + like[i] <= whole[i], f"axis {i}: offset {offset} + {like[i]} exceeds {whole[i]}")
        self.window = (slice(None),) * axis + tuple(slice(o, o + n) for o, n in zip(offsets, like[axis:]))
        return [whole[:axis] + like[axis:]]

    def compute(self, *tensors: Tensor) -> Tensors:
        return tensors[0][self.window].clone(memory_format=torch.contiguous_format)

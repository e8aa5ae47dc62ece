"""Where the pixels of one blob of a NetSpec lie in another, and the Crop layer that aligns both (pycaffe's coord_map).

A map is (axis, scales, shifts): what is at x in a bottom is at scale * x + shift in its top, in each axis after `axis`.
"""
import contextlib
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from .net_spec import Function, Top, layers

Map = Tuple[Optional[int], Any, Any]
_SAME = {"AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "ELU", "Eltwise", "Exp", "LRN", "Log", "MVN", "PReLU", "Power", "ReLU",
         "Scale", "Sigmoid", "Softmax", "Split", "TanH", "Threshold"}
_WINDOWS = {"Convolution": "convolution_param", "Pooling": "pooling_param", "Im2col": "convolution_param"}


class UndefinedMapException(Exception):  # noqa: N818  (pycaffe's name)
    """A layer whose coordinates have no simple map."""


class AxisMismatchException(Exception):  # noqa: N818
    """Maps of different first axes."""


def _field(fn: Function, group: str, *names: str) -> Any:
    """Return a field of a layer, written beside its type or in its own message; the first of several names."""
    fields = {**fn.params.get(group, {}), **fn.params}
    return next((fields[name] for name in names if name in fields), None)


def conv_params(fn: Function) -> Tuple[int, Any, Any, Any]:
    """Return channel axis, stride, kernel with dilation, and padding of a layer with windows."""
    group = _WINDOWS.get(fn.type_name, "convolution_param")
    kernel = _field(fn, group, "kernel_size")
    if kernel is None:
        kernel = [_field(fn, group, "kernel_h"), _field(fn, group, "kernel_w")]
    stride, pad, dilation = (_field(fn, group, name) for name in ("stride", "pad", "dilation"))
    axis = _field(fn, group, "axis") or 1
    extent = np.array(1 if dilation is None else dilation, ndmin=1) * (np.array(kernel, ndmin=1) - 1) + 1
    return axis, np.array(1 if stride is None else stride, ndmin=1), extent, np.array(0 if pad is None else pad, ndmin=1)


def crop_params(fn: Function) -> Tuple[int, Any]:
    """Return the axis before the first that a Crop layer cuts, and its offset."""
    offset = _field(fn, "crop_param", "offset")
    axis = _field(fn, "crop_param", "axis")
    return (2 if axis is None else axis) - 1, np.array(0 if offset is None else offset, ndmin=1)


def coord_map(fn: Function) -> Map:
    """Return the map of a layer."""
    if fn.type_name in _WINDOWS:
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in _SAME:
        return None, 1, 0
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis, 1, -offset
    raise UndefinedMapException(fn.type_name)


def compose(base_map: Map, next_map: Map) -> Map:
    """Return the map of two layers, one after the other."""
    (ax1, a1, b1), (ax2, a2, b2) = base_map, next_map
    if ax1 is not None and ax2 is not None and ax1 != ax2:
        raise AxisMismatchException
    return ax2 if ax1 is None else ax1, a1 * a2, a1 * b2 + b1


def inverse(coord_map: Map) -> Map:
    """Return the map of the other direction."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def _bottoms(fn: Function) -> List[Top]:
    return list(fn.inputs[:1] if fn.type_name == "Crop" else fn.inputs)  # the second bottom gives a size only


def _above(top: Top) -> Iterator[Tuple[Top, Map]]:
    """Yield a blob and all that it is made of, nearest first, each with the map from the blob to it."""
    maps: Dict[Top, Map] = {top: (None, 1, 0)}
    waiting = [top]
    while waiting:
        blob = waiting.pop()
        yield blob, maps[blob]
        for bottom in _bottoms(blob.fn):
            with contextlib.suppress(UndefinedMapException):
                if bottom not in maps:
                    maps[bottom] = compose(maps[blob], coord_map(blob.fn))
                    waiting.append(bottom)


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """Return the map from one blob to another by way of what both are made of."""
    ours = dict(_above(top_from))
    for blob, theirs in _above(top_to):
        if blob in ours:
            return compose(theirs, inverse(ours[blob]))
    raise RuntimeError("Could not compute map between tops; are they connected by spatial layers?")


def crop(top_from: Top, top_to: Top) -> Any:
    """Return a Crop layer that aligns a blob with another one, by whole pixels."""
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    shifts = np.atleast_1d(shift)
    if not (np.asarray(scale) == 1).all():
        raise ValueError(f"scale mismatch on crop (a = {scale})")
    if not (shifts <= 0).all() or not (np.round(shifts) == shifts).all():
        raise ValueError(f"cannot crop by {shift}: whole numbers of at most 0 are needed")
    return layers.Crop(top_from, top_to, crop_param={"axis": (axis or 1) + 1, "offset": [int(-n) for n in shifts]})

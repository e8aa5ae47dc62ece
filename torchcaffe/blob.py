"""Caffe's Blob: an N-dimensional float32 array and its gradient, visible from Python as numpy arrays."""
import math
import numbers
import warnings
from typing import Any, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from . import context
from .errors import CaffeError

Shape = Tuple[int, ...]


def allocate(shape: Shape, device: Optional[torch.device] = None) -> Tensor:
    """Return a float32 tensor of zeros."""
    try:
        return torch.zeros(shape, device=device)
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
        raise CaffeError(f"no memory for an array of shape {shape}: {str(error).splitlines()[0]}") from None


def tensor_of(array: Any) -> Tensor:
    """Return a tensor on the memory of an array, which may be read-only: torch is only to read it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


class Memory:
    """The values, or the gradient, of one blob or of several that share them; Caffe's SyncedMemory.

    The engine works on tensors (``read``, ``write``); users see numpy (``array``). Float32 on a CPU is the same memory.
    On a GPU or in bfloat16 the user's array is a copy. It is made at the first access, and read back before the engine reads.
    Once a user has an array, later results are copied into it rather than put beside it, so that an array that a
    script holds stays alive, as in pycaffe. No tensor yet means zeros. Each blob has its own shape; one with fewer values than
    there are sees the first of them. Memory that a user has an array of never gets smaller.
    """

    __slots__ = ("_host", "_kept", "_laid", "_lent", "_stale", "_tensor", "device", "shown", "size")

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self.device = size, device
        self._tensor: Optional[Tensor] = None
        self._host: Optional[Tensor] = None
        self._laid = False   # stored in another order than the axes say
        self._stale = True   # the host copy is older than the tensor
        self._lent = False   # the tensor is somebody else's, to be copied before anybody reads it
        self._kept = False   # the tensor is somebody else's too, to be copied before a user has an array of it
        self.shown = False   # a user has an array of it

    @property
    def empty(self) -> bool:
        """True when nothing was written yet: the array is zero and takes no memory."""
        return self._tensor is None

    def read(self, shape: Shape) -> Tensor:
        """Return the tensor for the engine, after taking back what a user changed."""
        if self._tensor is None:
            self._tensor = allocate(shape if math.prod(shape) >= self.size else (self.size,), self.device)
        if self._lent:
            self._tensor, self._lent = self._tensor.clone(), False
        if self._host is not None and not self._stale:
            self._tensor.copy_(self._host)
            self._stale = True
        return self._tensor if self._tensor.shape == shape else self._seen(shape)

    def _seen(self, shape: Shape) -> Tensor:
        """Return the first values in another shape; make room for them where a blob that shares them has cut them off."""
        self._order()
        tensor: Any = self._tensor
        if tensor.numel() < math.prod(shape):
            self._grow(math.prod(shape))
        return _first(self._tensor, shape)

    def _grow(self, size: int) -> None:
        tensor: Any = self._tensor
        self._tensor, self._host = torch.cat([tensor.view(-1), tensor.new_zeros(size - tensor.numel())]), None

    def _order(self) -> None:
        """Store the content in the order of its axes."""
        if self._laid or not self._tensor.is_contiguous():  # type: ignore[union-attr]
            self._tensor, self._laid = self._tensor.contiguous(), False  # type: ignore[union-attr]

    def _replace(self, tensor: Tensor) -> None:
        self._tensor, self._host, self.shown, self.size = tensor, None, False, max(self.size, tensor.numel())

    def write(self, tensor: Tensor) -> None:
        """Replace the content by a tensor of the engine."""
        if self.shown and self._tensor is not None and self._tensor.numel() >= tensor.numel():
            mine = _first(self._tensor, tensor.shape)
            if mine.data_ptr() != tensor.data_ptr() or mine.stride() != tensor.stride():
                mine.data.copy_(tensor)  # a layer may have kept it for its gradient, which Caffe takes from the new values
        else:
            self._replace(tensor.contiguous() if 0 in tensor.stride() and tensor.numel() > 1 else tensor)
        self._stale, self._lent, self._kept = True, False, False

    def keep(self, tensor: Tensor) -> None:
        """Replace the content by a tensor that a gradient needs as it is; a user gets an array of a copy of it."""
        self.write(tensor)
        self._kept = self._tensor is tensor and not self.shown

    def lend(self, tensor: Tensor) -> None:
        """Replace the content by a tensor that stays another's; it is copied if anybody reads the content."""
        self.write(tensor)
        self._lent = self._tensor is tensor

    def clear(self, shape: Shape) -> None:
        """Set to zero."""
        if self.shown:
            self.read(shape).zero_()
            self._stale = True
        else:
            self._tensor, self._lent = None, False

    def lay(self, shape: Shape, layout: torch.memory_format) -> None:
        """Store the content in the engine's preferred memory layout, until a user accesses the array."""
        if not self.shown and not self.read(shape).is_contiguous(memory_format=layout):
            self._tensor, self._laid = self.read(shape).contiguous(memory_format=layout), True

    def round(self, shape: Shape, kind: torch.dtype) -> None:
        """Store the content in another number type, until a user accesses the array."""
        if not self.shown and self.read(shape).dtype != kind:
            self._tensor = self.read(shape).to(kind)

    def array(self, shape: Shape) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Return the content as an array that writes through."""
        self.read(shape)
        self.shown = True
        if self._kept:  # the array will be written into
            self._tensor, self._kept = self._tensor.clone(), False  # type: ignore[union-attr]
        self._order()  # scripts reshape and flatten arrays and expect to write through
        if self._tensor.numel() < self.size:  # type: ignore[union-attr]
            self._grow(self.size)  # so that blobs that share it can get larger again
        tensor: Any = self._tensor
        if tensor.device.type == "cpu" and tensor.dtype == torch.float32:
            return _first(tensor, shape).numpy()  # type: ignore[no-any-return]
        if self._host is None:
            self._host = torch.empty_like(tensor, device="cpu", dtype=torch.float32)
        if self._stale:
            self._host.copy_(tensor)
        self._stale = False
        return _first(self._host, shape).numpy()  # type: ignore[no-any-return]


def _first(tensor: Any, shape: Shape) -> Tensor:
    """Return as many values of a contiguous tensor as a shape has, in this shape."""
    return tensor if tensor.shape == shape else tensor.view(-1)[:math.prod(shape)].view(shape)  # type: ignore[no-any-return]


class Blob:
    """An N-dimensional array ``data`` and its gradient ``diff``, float32, N x C x H x W for pictures."""

    def __init__(self, shape: Shape = (), device: Optional[torch.device] = None) -> None:
        self._shape, where = tuple(shape), device or context.device()  # lengths of the axes
        self._data, self._diff = Memory(self.count, where), Memory(self.count, where)

    @property
    def data(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Values, as a numpy array that writes through, on a GPU too."""
        return self._data.array(self._shape)

    @property
    def diff(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Gradient, as a numpy array that writes through; after an update of the solver, the step taken."""
        return self._diff.array(self._shape)

    @property
    def tensor(self) -> Tensor:
        """Values, for the engine."""
        return self._data.read(self._shape)

    @tensor.setter
    def tensor(self, value: Tensor) -> None:
        if value.shape != self._shape:
            self.reshape(*value.shape)
        self._data.write(value)

    def keep(self, value: Tensor) -> None:
        """Set the values to a tensor that a gradient needs as it is."""
        if value.shape != self._shape:
            self.reshape(*value.shape)
        self._data.keep(value)

    @property
    def grad(self) -> Tensor:
        """Gradient, for the engine."""
        return self._diff.read(self._shape)

    @grad.setter
    def grad(self, value: Tensor) -> None:
        self._diff.keep(value)  # sums give all their terms the same

    @property
    def shown(self) -> bool:
        """True when a user has an array of the values."""
        return self._data.shown

    def lay(self, layout: torch.memory_format) -> None:
        """Store the values in the engine's preferred memory layout, until a user accesses them."""
        self._data.lay(self._shape, layout)

    def round(self, kind: torch.dtype) -> None:
        """Store the values in another number type; users see float32."""
        self._data.round(self._shape, kind)

    def forget(self) -> None:
        """Free the values, unless a user has an array of them."""
        if not self.shown:
            self._data.clear(self._shape)

    def forget_grad(self) -> None:
        """Free the gradient, unless a user has an array of it."""
        if not self._diff.shown:
            self._diff.clear(self._shape)

    def lend_grad(self, value: Tensor) -> None:
        """Set the gradient to a tensor that stays another's."""
        self._diff.lend(value)

    def add_grad(self, value: Tensor) -> None:
        """Add to the gradient, which is float32 for any value."""
        if self._diff.empty:
            self._diff.write(value.float())
        else:
            self._diff.read(self._shape).add_(value)

    @property
    def empty(self) -> bool:
        """True when there are no values: they were freed, or never written."""
        return self._data.empty

    @property
    def grad_empty(self) -> bool:
        """True when the gradient is zero and no user has accessed it."""
        return self._diff.empty

    def clear_grad(self) -> None:
        """Set the gradient to zero."""
        self._diff.clear(self._shape)

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return self._shape

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self._shape)

    def reshape(self, *shape: int) -> None:
        """Change the shape; the memory stays, with its values, where it has room for the new one."""
        if not all(isinstance(n, numbers.Integral) for n in shape):
            raise CaffeError(f"a blob cannot have the shape {shape}; give lengths, one after the other: reshape(2, 3)")
        if min(shape, default=0) < 0:
            raise CaffeError(f"a blob cannot have the shape {shape}; lengths start at 0")
        self._shape = tuple(int(n) for n in shape)
        if self.count > self._data.size:
            self._data = Memory(self.count, self._data.device)
        if self.count > self._diff.size:
            self._diff = Memory(self.count, self._diff.device)

    def _legacy(self, axis: int) -> int:
        return self._shape[axis] if axis < len(self._shape) else 1

    num = property(lambda self: self._legacy(0), doc="Length of axis 0, or 1.")
    channels = property(lambda self: self._legacy(1), doc="Length of axis 1, or 1.")
    height = property(lambda self: self._legacy(2), doc="Length of axis 2, or 1.")
    width = property(lambda self: self._legacy(3), doc="Length of axis 3, or 1.")


def share_data(source: Blob, target: Blob) -> None:
    """Let `target` use the memory of `source` for its values (``ShareData``)."""
    target._data = source._data


def share_diff(source: Blob, target: Blob) -> None:
    """Let `target` use the memory of `source` for its gradient (``ShareDiff``)."""
    target._diff = source._diff


class Blobs(list):  # type: ignore[type-arg]
    """The list of a layer's parameters (pycaffe's BlobVec)."""

    def add_blob(self, *shape: int) -> Blob:
        """Append a parameter of the given shape, filled with zeros."""
        self.append(Blob(shape))
        return self[-1]  # type: ignore[no-any-return]

"""Caffe's Blob: an N-dimensional float32 array and its gradient, visible from Python as numpy arrays."""
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
    """One array of a blob; Caffe's SyncedMemory.

    The engine works on tensors (``read``, ``write``); users see numpy (``array``). Float32 on a CPU is the same memory.
    On a GPU or in bfloat16 the user's array is a copy. It is made at the first access, and read back before the engine reads.
    Once a user has an array, later results are copied into it rather than put beside it, so that an array that a
    script holds stays alive, as in pycaffe. No tensor yet means zeros.
    """

    __slots__ = ("_host", "_kept", "_laid", "_lent", "_stale", "_tensor", "device", "shape", "shown")

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
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

    def read(self) -> Tensor:
        """Return the tensor for the engine, after taking back what a user changed."""
        if self._tensor is None:
            self._tensor = allocate(self.shape, self.device)
        if self._lent:
            self._tensor, self._lent = self._tensor.clone(), False
        if self._host is not None and not self._stale:
            self._tensor.copy_(self._host)
            self._stale = True
        return self._tensor

    def write(self, tensor: Tensor) -> None:
        """Replace the content (and the shape) by a tensor of the engine."""
        if self.shown and tensor.shape == self.shape and self._tensor is not None:
            if self._tensor.data_ptr() != tensor.data_ptr() or self._tensor.stride() != tensor.stride():
                self._tensor.copy_(tensor)
        else:
            overlaps = 0 in tensor.stride() and tensor.numel() > 1
            self._tensor, self._host, self.shown = tensor.contiguous() if overlaps else tensor, None, False
            if self.shape != tensor.shape:
                self.shape = tuple(tensor.shape)
        self._stale, self._lent, self._kept = True, False, False

    def keep(self, tensor: Tensor) -> None:
        """Replace the content by a tensor that a gradient needs as it is; a user gets an array of a copy of it."""
        self.write(tensor)
        self._kept = self._tensor is tensor

    def lend(self, tensor: Tensor) -> None:
        """Replace the content by a tensor that stays another's; it is copied if anybody reads the content."""
        self.write(tensor)
        self._lent = self._tensor is tensor

    def clear(self) -> None:
        """Set to zero."""
        if self.shown:
            self.read().zero_()
            self._stale = True
        else:
            self._tensor, self._lent = None, False

    def lay(self, layout: torch.memory_format) -> None:
        """Store the content in the engine's preferred memory layout, until a user accesses the array."""
        if not self.shown and not self.read().is_contiguous(memory_format=layout):
            self._tensor, self._laid = self.read().contiguous(memory_format=layout), True

    def round(self, kind: torch.dtype) -> None:
        """Store the content in another number type, until a user accesses the array."""
        if not self.shown and self.read().dtype != kind:
            self._tensor = self.read().to(kind)

    def reshape(self, shape: Shape) -> None:
        """Change the shape; the content survives where the count stays the same."""
        if shape == self.shape:
            return
        same = self._tensor is not None and self._tensor.numel() == int(np.prod(shape))
        self._tensor = self.read().reshape(shape) if same else None
        self.shape, self._host, self.shown = shape, None, False

    def array(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Return the content as an array that writes through."""
        self.shown = True
        tensor = self.read()
        if self._kept:  # the array will be written into
            tensor = self._tensor = tensor.clone()
            self._kept = False
        if self._laid or not tensor.is_contiguous():  # scripts reshape and flatten arrays and expect to write through
            tensor = self._tensor = tensor.contiguous()
            self._laid = False
        if tensor.device.type == "cpu" and tensor.dtype == torch.float32:
            return tensor.numpy()  # type: ignore[no-any-return]
        if self._host is None:
            self._host = torch.empty_like(tensor, device="cpu", dtype=torch.float32)
        if self._stale:
            self._host.copy_(tensor)
        self._stale = False
        return self._host.numpy()  # type: ignore[no-any-return]


class Blob:
    """An N-dimensional array ``data`` and its gradient ``diff``, float32, N x C x H x W for pictures."""

    def __init__(self, shape: Shape = (), device: Optional[torch.device] = None) -> None:
        where = device or context.device()
        self._data, self._diff = Memory(tuple(shape), where), Memory(tuple(shape), where)

    @property
    def data(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Values, as a numpy array that writes through, on a GPU too."""
        return self._data.array()

    @property
    def diff(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Gradient, as a numpy array that writes through; after an update of the solver, the step taken."""
        return self._diff.array()

    @property
    def tensor(self) -> Tensor:
        """Values, for the engine."""
        return self._data.read()

    @tensor.setter
    def tensor(self, value: Tensor) -> None:
        self._data.write(value)
        self._diff.reshape(self._data.shape)

    def keep(self, value: Tensor) -> None:
        """Set the values to a tensor that a gradient needs as it is."""
        self._data.keep(value)
        self._diff.reshape(self._data.shape)

    @property
    def grad(self) -> Tensor:
        """Gradient, for the engine."""
        return self._diff.read()

    @grad.setter
    def grad(self, value: Tensor) -> None:
        self._diff.keep(value)  # sums give all their terms the same

    @property
    def shown(self) -> bool:
        """True when a user has an array of the values."""
        return self._data.shown

    def lay(self, layout: torch.memory_format) -> None:
        """Store the values in the engine's preferred memory layout, until a user accesses them."""
        self._data.lay(layout)

    def round(self, kind: torch.dtype) -> None:
        """Store the values in another number type; users see float32."""
        self._data.round(kind)

    def forget(self) -> None:
        """Free the values, unless a user has an array of them."""
        if not self.shown:
            self._data.clear()

    def forget_grad(self) -> None:
        """Free the gradient, unless a user has an array of it."""
        if not self._diff.shown:
            self._diff.clear()

    def lend_grad(self, value: Tensor) -> None:
        """Set the gradient to a tensor that stays another's."""
        self._diff.lend(value)

    def add_grad(self, value: Tensor) -> None:
        """Add to the gradient, which is float32 for any value."""
        if self._diff.empty:
            self._diff.write(value.float())
        else:
            self._diff.read().add_(value)

    @property
    def grad_empty(self) -> bool:
        """True when the gradient is zero and no user has accessed it."""
        return self._diff.empty

    def clear_grad(self) -> None:
        """Set the gradient to zero."""
        self._diff.clear()

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return self._data.shape

    @property
    def count(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def reshape(self, *shape: int) -> None:
        """Change the shape; the values survive where their number stays the same."""
        self._data.reshape(tuple(int(n) for n in shape))
        self._diff.reshape(self._data.shape)

    def _legacy(self, axis: int) -> int:
        return self.shape[axis] if axis < len(self.shape) else 1

    num = property(lambda self: self._legacy(0), doc="Length of axis 0, or 1.")
    channels = property(lambda self: self._legacy(1), doc="Length of axis 1, or 1.")
    height = property(lambda self: self._legacy(2), doc="Length of axis 2, or 1.")
    width = property(lambda self: self._legacy(3), doc="Length of axis 3, or 1.")


def share(source: Blob, target: Blob) -> None:
    """Let `target` use the memory of `source` for its values (``ShareData``)."""
    target._data = source._data


class Blobs(list):  # type: ignore[type-arg]
    """The list of a layer's parameters (pycaffe's BlobVec)."""

    def add_blob(self, *shape: int) -> Blob:
        """Append a parameter of the given shape, filled with zeros."""
        self.append(Blob(shape))
        return self[-1]  # type: ignore[no-any-return]


def alias(source: Blob, target: Blob) -> None:
    """Let `target`, of another shape but as many values, use the memory of `source` for values and gradient."""
    for mine, theirs in ((target._data, source._data), (target._diff, source._diff)):
        theirs.shown = mine.shown = True  # from now on both are only ever written in place
        mine._tensor = theirs.read().view(mine.shape)

"""Layers that give out arrays: a script's, or datasets of HDF5 files."""
import itertools
import math
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import torch

from .. import context, hdf5
from ..blob import Blob, Shape
from ..errors import CaffeError
from ..limits import MAX_TABLE, MAX_VALUES, check_size, open_regular
from .base import Layer, register
from .inputs import Source


@register
class MemoryData(Layer):
    """Arrays given by `net.set_input_arrays`, a batch after the other."""

    bottoms, tops = (0, 0), (2, 2)
    reshapes = False

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.memory_data_param
        self.shape = (p.batch_size, p.channels, p.height, p.width)
        self.check(math.prod(self.shape) > 0, "batch_size, channels, height and width must be positive")
        self.arrays: Optional[Tuple[Any, Any]] = None
        self.at = 0

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        return [self.shape, self.shape[:1]]

    def set_arrays(self, pictures: Any, labels: Any) -> None:
        """Take float32 arrays N x C x H x W and N; N must be a multiple of the batch size."""
        count = len(pictures)
        self.check(tuple(pictures.shape[1:]) == self.shape[1:], f"data is {pictures.shape}, expected N x {self.shape[1:]}")
        self.check(labels.size == count, f"{labels.size} labels for {count} pictures")
        self.check(count > 0 and count % self.shape[0] == 0, f"{count} pictures are no multiple of {self.shape[0]}")
        self.arrays, self.at = (pictures, labels.reshape(-1)), 0

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        if self.arrays is None:
            self.fail("has no data; call net.set_input_arrays(data, labels) first")
        end = self.at + self.shape[0]
        for top, array in zip(tops, self.arrays):
            part = np.array(array[self.at:end], np.float32)
            part = part.reshape(-1, 1, 1, 1) if part.ndim == 1 else part  # four axes from the first batch on, as in Caffe
            top.tensor = torch.from_numpy(part).to(context.device())
        self.at = end % len(self.arrays[0])


@register
class HDF5Data(Source):
    """Rows of the datasets that are named like the tops, in HDF5 files that a text file lists (hdf5_data_layer.cpp).

    With `shuffle` the files, and the rows of each, come in an order of torch's generator, not of the C library's as in Caffe.
    """

    tops = (1, None)

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.hdf5_data_param
        self.check(not self.param.HasField("transform_param"), "does not transform its input; leave transform_param out")
        self.check(p.batch_size > 0, "batch_size must be positive")
        try:
            with open_regular(p.source, encoding="utf-8", errors="surrogateescape") as file:
                check_size(file, MAX_TABLE)
                self.files = file.read().split()
        except OSError as error:
            self.fail(f"source {p.source!r}: {error.strerror}")
        self.check(bool(self.files), f"source {p.source!r} names no file")
        seed = int(torch.randint(2**31, (), generator=context.generator())) if p.shuffle else 0
        self.random = np.random.RandomState(seed)
        self.first: List[Any] = []  # datasets of the first file
        self.first = self._load(self.files[0])

    def _load(self, path: str) -> List[Any]:
        """Return the datasets of a file, float32."""
        try:
            with hdf5.opened(path, f"a file with datasets {', '.join(self.param.top)}") as file:
                items = [hdf5.member(file, name) for name in self.param.top]
                sizes = [math.prod(hdf5.shape_of(item)) for item in items]
                self.check(sum(sizes) <= MAX_VALUES, f"{path}: {sum(sizes)} values, at most {MAX_VALUES} fit; make several files")
                found = [hdf5.values(item) for item in items]
        except CaffeError as error:
            self.fail(str(error))
        self.check(all(len(a.shape) and len(a) == len(found[0]) > 0 for a in found),
                   f"{path}: datasets have shapes {[a.shape for a in found]}; they need as many rows, at least one")
        rows = [a.shape[1:] for a in self.first or found]
        self.check([a.shape[1:] for a in found] == rows,
                   f"{path}: its rows have shapes {[a.shape[1:] for a in found]}, those of {self.files[0]} {rows}")
        return found

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        return [(self.param.hdf5_data_param.batch_size, *array.shape[1:]) for array in self.first]

    def _mix(self, items: List[Any]) -> List[Any]:
        return [items[i] for i in self.random.permutation(len(items))] if self.param.hdf5_data_param.shuffle else items

    def _rows(self) -> Iterator[List[Any]]:
        """Yield one entry of each dataset, without end."""
        arrays = self.first
        while True:
            for path in self._mix(self.files):
                arrays = self._load(path) if len(self.files) > 1 else arrays
                for i in self._mix(list(range(len(arrays[0])))):
                    yield [array[i] for array in arrays]

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        size = self.param.hdf5_data_param.batch_size
        if not self.reads:
            first, step = self.turns(self.taken * size)
            self.mine, self.reads = itertools.islice(self._rows(), first, None, step), True
        self.taken += 1
        for top, rows in zip(tops, zip(*itertools.islice(self.mine, size))):
            top.tensor = torch.from_numpy(np.stack(rows)).to(context.device())

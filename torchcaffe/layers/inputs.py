"""Layers without bottoms: where a net's data come from."""
import copy
import itertools
import re
import weakref
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import torch

from .. import context, data
from ..blob import Blob, Shape
from ..errors import CaffeError
from ..limits import MAX_TABLE, check_size, open_regular
from ..proto import caffe_pb2 as pb
from .base import Layer, register


def _source() -> Any:
    """Return the module that reads records and files; late, since OpenCV takes 16 MB, which a deploy net can do without."""
    from .. import records
    return records


@register
class Input(Layer):
    """Tops that the user fills."""

    bottoms, tops = (0, 0), (1, None)
    reshapes = False

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        given = [tuple(s.dim) for s in self.param.input_param.shape]
        count = len(self.param.top)
        self.check(len(given) in (0, 1, count), f"has {len(given)} shapes for {count} tops; give 1 or {count}")
        self.check(all(n >= 0 for s in given for n in s), f"negative length in shapes {given}")
        return given * count if len(given) == 1 else given or [()] * count

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        pass


@register
class DummyData(Layer):
    """Tops filled by fillers: constants once, all others in each forward pass."""

    bottoms, tops = (0, 0), (1, None)
    reshapes = False
    filled = False

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        p, count = self.param.dummy_data_param, len(self.param.top)
        legacy, times = [p.num, p.channels, p.height, p.width], "once" if count == 1 else f"1 or {count} times"
        if any(legacy):
            self.check(not p.shape, "give either shape or num, channels, height and width")
            self.check(all(len(f) in (1, count) for f in legacy), f"num, channels, height, width: each must be given {times}")
            given = list(zip(*[list(f) * count if len(f) == 1 else list(f) for f in legacy]))
        else:
            given = [tuple(s.dim) for s in p.shape]
            self.check(len(given) in (1, count), f"has {len(given)} shapes for {count} tops; shape must be given {times}")
            self.check(all(n >= 0 for shape in given for n in shape), "a dim of its shape is below 0")
        fillers = list(p.data_filler) or [pb.FillerParameter(type="constant")]
        self.check(len(fillers) in (1, count), f"has {len(fillers)} fillers for {count} tops; give none, 1 or {count}")
        self.fillers = fillers * count if len(fillers) == 1 else fillers
        return given * count if len(given) == 1 else given

    def reshape(self, bottoms: List[Blob], tops: List[Blob]) -> None:
        super().reshape(bottoms, tops)
        if not self.filled:
            self.fill(tops, constants=True)
            self.filled = True

    def fill(self, tops: List[Blob], constants: bool) -> None:
        """Fill the constant tops, or the others."""
        for top, filler in zip(tops, self.fillers):
            if (filler.type == "constant") == constants:
                top.tensor = self.drawn(top.shape, filler).to(context.device())

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        self.fill(tops, constants=False)


class Source(Layer):
    """What layers share that read batches one after the other: their position, and which records are theirs."""

    bottoms = (0, 0)
    reshapes = False
    taken = 0  # batches given out so far
    reads = False

    def go_to(self, batch: int) -> None:
        """Let the next batch be number `batch` of the stream, which starts at 0."""
        self.check(not self.reads, "its position can only be set before the first batch")
        self.taken = batch

    def turns(self, skipped: int) -> Tuple[int, int]:
        """Return which records are this process's while several train, after it `skipped` some: the first, the step."""
        rank, count = (0, 1) if self.phase == pb.TEST else (context.solver_rank(), context.solver_count())
        return rank + skipped * count, count


class Batches(Source):
    """What layers share that read pictures: transformation, read-ahead, label top."""

    tops = (1, 2)

    def setup(self, shapes: List[Shape]) -> None:
        try:
            self.transformer = data.Transformer(self.param.transform_param, self.phase)
            self.transformer.seed()
            self.open()
            self.first = self.transformer.shape(self.peek())
        except CaffeError as error:
            self.fail(str(error))
        self.transformer.seed()  # Caffe seeds twice; the second draw counts
        context.draw()           # and once for its thread
        self.device = context.device()
        self.prefetcher: Optional[data.Prefetcher] = None

    def open(self) -> None:
        """Open the source."""
        raise AssertionError

    def peek(self) -> Any:
        """Return the first picture, C x H x W."""
        raise AssertionError

    def pictures(self, skipped: int) -> Iterator[Tuple[Any, int]]:
        """Yield (picture, label) without end, from number `skipped` on."""
        raise AssertionError

    @property
    def batch_size(self) -> int:
        """Number of records of a batch."""
        raise AssertionError

    def top_shapes(self, shapes: List[Shape]) -> List[Shape]:
        self.check(self.batch_size > 0, "batch_size must be positive")
        return [(self.batch_size, *self.first), (self.batch_size,)][:len(self.param.top)]

    def batches(self) -> Iterator[Tuple[torch.Tensor, torch.Tensor]]:
        """Yield (data, labels) without end."""
        skipped = self.taken * self.batch_size
        pictures = self.pictures(skipped)
        self.transformer.skip(skipped)
        while True:
            labels = self.array((self.batch_size,), torch.float32)
            numbers = labels.numpy()
            for i, (picture, label) in enumerate(itertools.islice(pictures, self.batch_size)):
                if i == 0:
                    late = self.transformer.may_finish_later(picture)
                    shape = (self.batch_size, *self.transformer.shape(picture))
                    batch = self.array(shape, torch.uint8 if late else torch.float32)
                    array = batch.numpy()
                elif late and picture.dtype != np.uint8:  # records of several kinds
                    batch, late = self.transformer.finish(batch), False
                    array = batch.numpy()
                self.transformer(picture, array[i])
                numbers[i] = label
            yield batch, labels

    def array(self, shape: Shape, kind: torch.dtype) -> torch.Tensor:
        """Return memory for a batch, pinned where a GPU copies it asynchronously."""
        return torch.empty(shape, dtype=kind, pin_memory=self.device.type == "cuda")

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        if self.prefetcher is None:
            depth = self.param.data_param.prefetch
            reader = copy.copy(self)  # the thread must not keep the layer itself alive
            self.prefetcher, self.reads = data.Prefetcher(reader.batches(), depth), True
            weakref.finalize(self, self.prefetcher.stop)
        try:
            batch = self.prefetcher.next()
        except CaffeError as error:
            self.fail(str(error))
        self.taken += 1
        for top, tensor in zip(tops, batch):
            here = tensor.to(self.device, non_blocking=True)
            top.tensor = self.transformer.finish(here) if tensor.dtype == torch.uint8 else here


@register
class Data(Batches):
    """Datums of an LMDB, in key order, from the first record on, wrapping around at the end."""

    def open(self) -> None:
        p = self.param.data_param
        self.check(p.backend == p.LMDB, "backend LEVELDB is not supported; use backend: LMDB")
        self.env = _source().open_lmdb(p.source)

    def peek(self) -> Any:
        return _source().decode(next(self._records()), self.param.transform_param)

    @property
    def batch_size(self) -> int:
        return int(self.param.data_param.batch_size)

    def _records(self) -> Iterator[Any]:
        yield from _source().records(self.env, self.param.data_param.source)

    def pictures(self, skipped: int) -> Iterator[Tuple[Any, int]]:
        first, count = self.turns(skipped)
        decode, param = _source().decode, self.param.transform_param
        for datum in itertools.islice(self._records(), first % self.env.stat()["entries"], None, count):
            yield decode(datum, param), datum.label


@register
class ImageData(Batches):
    """Picture files named in a text file, one `path label` a line."""

    tops = (2, 2)

    def open(self) -> None:
        p = self.param.image_data_param
        self.check((p.new_height > 0) == (p.new_width > 0), "give new_height and new_width together")
        self.lines = self._read_lines(p.source)
        if p.shuffle:
            self.random = np.random.RandomState(context.draw())
            data.shuffle(self.lines, self.random)
        self.start = context.draw() % p.rand_skip if p.rand_skip else 0
        self.check(self.start < len(self.lines), f"cannot skip {self.start} of {len(self.lines)} pictures")

    def _read_lines(self, source: str) -> List[Tuple[str, int]]:
        try:
            with open_regular(source, encoding="utf-8", errors="surrogateescape") as file:  # names of files are bytes
                check_size(file, MAX_TABLE)
                rows = [line.rstrip("\n").rpartition(" ") for line in file if line.strip()]
        except OSError as error:
            raise CaffeError(f"source {source!r}: {error.strerror}") from None
        self.check(bool(rows), f"source {source!r} names no picture")
        for path, blank, label in rows:
            line, tab = f"{path}{blank}{label}", "; a tab stands where a blank must" if "\t" in label.strip() else ""
            self.check(bool(path) and re.fullmatch("-?[0-9]{1,10}", label.strip()) is not None,
                       f"source {source!r}: line {line[:200]!r} is not 'path label', the label a whole number{tab}")
        return [(path, int(label)) for path, _, label in rows]

    def _read(self, path: str) -> Any:
        p = self.param.image_data_param
        return _source().read_picture(p.root_folder + path, p.new_height, p.new_width, p.is_color)

    def peek(self) -> Any:
        return self._read(self.lines[self.start][0])

    @property
    def batch_size(self) -> int:
        return int(self.param.image_data_param.batch_size)

    def pictures(self, skipped: int) -> Iterator[Tuple[Any, int]]:
        first, count = self.turns(skipped)
        for path, label in itertools.islice(self._endless(), first, None, count):
            yield self._read(path), label

    def _endless(self) -> Iterator[Tuple[str, int]]:
        at = self.start
        while True:
            yield from self.lines[at:]
            at = 0
            if self.param.image_data_param.shuffle:
                data.shuffle(self.lines, self.random)

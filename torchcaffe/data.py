"""Batches as Caffe makes them of pictures: transformed, shuffled, read ahead by a thread."""
import threading
from queue import SimpleQueue
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from . import context
from .errors import CaffeError
from .netparam import blob_array, read_binary
from .proto import caffe_pb2 as pb

Array = Any  # numpy arrays; uint8 H x W x C or float32 C x H x W, BGR


class Transformer:
    """Mirror, crop, mean and scale of one picture after another (data_transformer.cpp).

    The random stream is Caffe's own: for each picture mirror, then the row, then the column of the crop, each one raw
    draw of an mt19937 modulo the number of choices.
    """

    def __init__(self, param: Any, phase: int) -> None:
        self.param, self.phase = param, phase
        self.crop, self.mirrors = int(param.crop_size), bool(param.mirror)  # looked up for each picture
        self.random: Optional[np.random.RandomState] = None
        self.mean = self._read_mean()
        if param.force_color and param.force_gray:
            raise CaffeError("transform_param: force_color and force_gray exclude each other")

    def _read_mean(self) -> Array:
        p = self.param
        if not p.HasField("mean_file"):
            return np.array(p.mean_value, np.float32)
        if p.mean_value:
            raise CaffeError("transform_param: give either mean_file or mean_value, not both")
        mean = blob_array(read_binary(p.mean_file, pb.BlobProto()))
        return mean.reshape(mean.shape[-3:])

    def seed(self) -> None:
        """Start the random stream from the main generator, if anything here is random (``InitRand``)."""
        if self.mirrors or (self.phase == pb.TRAIN and self.crop):
            self.random = np.random.RandomState(context.draw())

    def skip(self, pictures: int) -> None:
        """Leave out the random numbers of so many pictures."""
        draws = self.mirrors + 2 * bool(self.phase == pb.TRAIN and self.crop)
        if self.random is not None:
            self.random.randint(0, 2**32, pictures * draws, dtype=np.uint32)

    def _draw(self, choices: int) -> int:
        assert self.random is not None
        return int(self.random.randint(0, 2**32, dtype=np.uint32)) % choices

    def shape(self, picture: Array) -> Tuple[int, int, int]:
        """Return the shape (C, H, W) of a picture once transformed."""
        channels, height, width = picture.shape
        crop = self.crop
        if height < crop or width < crop:
            raise CaffeError(f"crop_size {crop} exceeds a picture of {height} x {width}")
        return (channels, crop, crop) if crop else (channels, height, width)

    def __call__(self, picture: Array, out: Array) -> None:
        """Transform a picture (C x H x W, any number type) into `out`: float32, or uint8 for `finish` to go on with."""
        channels, height, width = picture.shape
        if out.shape != self.shape(picture):
            raise CaffeError(f"a picture of {channels} x {height} x {width} does not fit a batch of {out.shape}")
        mirror = self.mirrors and self._draw(2)
        row = column = 0
        if self.crop:
            rows, columns = height - self.crop, width - self.crop
            train = self.phase == pb.TRAIN
            row = self._draw(rows + 1) if train else rows // 2
            column = self._draw(columns + 1) if train else columns // 2
        window = (slice(None), slice(row, row + out.shape[1]), slice(column, column + out.shape[2]))
        turned = out[:, :, ::-1] if mirror else out
        if out.dtype == np.uint8:
            np.copyto(turned, picture[window], casting="no")
        else:
            self._normalize(picture[window], window, channels, turned, picture.shape)

    def may_finish_later(self, picture: Array) -> bool:
        """Return whether mean and scale can wait for `finish`: a batch is then a quarter as large while it waits and is moved."""
        return picture.dtype == np.uint8 and self.mean.ndim == 1 and self.mean.size in (0, 1, picture.shape[0])

    def finish(self, batch: Tensor) -> Tensor:
        """Subtract the mean and scale on the batch's device; N x C x H x W, uint8 to float32, the same numbers as without."""
        values = batch.to(torch.float32)
        if self.mean.size:
            values -= torch.from_numpy(self.mean).to(batch.device, non_blocking=True).view(-1, 1, 1)
        return values.mul_(self.param.scale) if self.param.scale != 1 else values

    def _normalize(self, picture: Array, window: Any, channels: int, out: Array, whole: Tuple[int, ...]) -> None:
        mean, scale = self.mean, np.float32(self.param.scale)
        if mean.ndim == 3:
            if mean.shape != whole:
                raise CaffeError(f"mean_file is {mean.shape}, pictures are {whole}")
            np.subtract(picture, mean[window], out=out)
        elif mean.size:
            if mean.size not in (1, channels):
                raise CaffeError(f"{mean.size} mean_value for {channels} channels; give 1 or {channels}")
            np.subtract(picture, mean[:, None, None], out=out)
        else:
            np.multiply(picture, scale, out=out, dtype=np.float32)
            return
        if scale != 1:
            out *= scale


def shuffle(lines: List[Any], random: np.random.RandomState) -> None:
    """Shuffle in place exactly as Caffe does (rng.hpp with boost::uniform_int on an mt19937)."""
    top = 2**32 - 1
    for i in range(len(lines) - 1, 0, -1):
        bucket = top // (i + 1) + (top % (i + 1) == i)
        while True:
            j = int(random.randint(0, 2**32, dtype=np.uint32)) // bucket
            if j <= i:
                break
        lines[i], lines[j] = lines[j], lines[i]


class Prefetcher:
    """Runs an iterator in a thread, `depth` items ahead; an exception there is raised by `next` here, each time.

    The two queues have no lock that a Ctrl-C could leave locked, as `queue.Queue` has.
    """

    def __init__(self, items: Iterator[Any], depth: int) -> None:
        self._wanted: SimpleQueue[None] = SimpleQueue()  # an entry for each item that may be made
        self._ready: SimpleQueue[Tuple[Any, Optional[BaseException]]] = SimpleQueue()
        self._stop = threading.Event()
        for _ in range(max(1, depth) + 1):
            self._wanted.put(None)
        self._thread = threading.Thread(target=_produce, args=(items, self._wanted, self._ready, self._stop), daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """Return the next item."""
        item, error = self._ready.get()
        if error is not None:
            self._ready.put((None, error))
            raise error
        self._wanted.put(None)
        return item

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._wanted.put(None)
        self._thread.join()


def _produce(items: Iterator[Any], wanted: SimpleQueue[None], ready: SimpleQueue[Any], stop: threading.Event) -> None:
    while wanted.get() is None and not stop.is_set():
        try:
            ready.put((next(items), None))
        except BaseException as error:
            ready.put((None, error))
            return

"""What Caffe keeps in its global object: mode and device, random generators, rank among several solvers."""
import contextlib
import os
from typing import Any, ContextManager, Iterator, Optional, Tuple

import numpy as np
import torch

from .errors import CaffeError

_UINT32 = 2**32
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class _Context:
    """The process-wide state; Caffe's singleton of the same purpose is ``Caffe::Get()``."""

    def __init__(self) -> None:
        self.gpu = False
        self.device_id = 0
        self.rank, self.count = 0, 1
        self.compute_type, self.rounds = torch.float32, False
        self.seed(int.from_bytes(os.urandom(4), "little"))

    def seed(self, seed: int) -> None:
        self.stream = np.random.RandomState(seed % _UINT32)
        self.generators = {"cpu": torch.Generator().manual_seed(seed % _UINT32)}
        self.seeded = seed % _UINT32


_context = _Context()


def set_mode_cpu() -> None:
    """Compute on the CPU; concerns nets and solvers made from now on."""
    _context.gpu = False


def set_mode_gpu() -> None:
    """Compute on the current GPU; concerns nets and solvers made from now on."""
    if not torch.cuda.is_available():
        raise CaffeError("cannot use GPU: PyTorch sees no CUDA device; use set_mode_cpu() or no -gpu flag")
    _context.gpu = True


def set_device(device_id: int) -> None:
    """Choose the GPU for the nets and solvers made from now on."""
    found = torch.cuda.device_count()
    if not 0 <= device_id < found:
        raise CaffeError(f"cannot use GPU {device_id}: PyTorch sees {found} CUDA devices")
    _context.device_id = device_id


def device() -> torch.device:
    """Return the device that new blobs live on."""
    return torch.device("cuda", _context.device_id) if _context.gpu else torch.device("cpu")


def set_precision(name: str) -> None:
    """Choose what convolutions and inner products compute in, and what lies between them: ``fp32``, ``tf32`` or ``bf16``.

    ``tf32``: on a GPU factors are rounded to 10 bits of mantissa, sums are float32; on a CPU it is ``fp32``. Concerns nets made
    from now on. Weights, gradients of weights, updates, softmax and losses are float32 in all.
    """
    if name not in PRECISIONS:
        raise CaffeError(f"precision is {name!r}; choose {', '.join(PRECISIONS)}")
    _context.compute_type, _context.rounds = PRECISIONS[name], name == "tf32"


def rounds_products() -> bool:
    """Return whether nets made from now on round the factors of products on a GPU."""
    return _context.rounds


def products(rounded: bool) -> ContextManager[None]:
    """Let products on a GPU round their factors or not, until the block ends; torch's own default is to round in convolutions."""
    return _products(rounded) if _context.gpu else contextlib.nullcontext()


@contextlib.contextmanager
def _products(rounded: bool) -> Iterator[None]:
    places: Tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = rounded
    try:
        yield
    finally:
        for place, value in zip(places, before):
            place.allow_tf32 = value


def compute_type() -> torch.dtype:
    """Return the number type of the layers of nets made from now on."""
    return _context.compute_type


def set_random_seed(seed: int) -> None:
    """Seed every generator of the process, as ``Caffe::set_random_seed`` does."""
    _context.seed(seed)


def draw() -> int:
    """Return the next 32 bits of Caffe's main generator, mt19937 (``caffe_rng_rand``)."""
    return int(_context.stream.randint(0, _UINT32, dtype=np.uint32))


def generator(where: Optional[torch.device] = None) -> torch.Generator:
    """Return the generator of fillers and dropout for a device; its stream is torch's, not Caffe's."""
    name = str(where or "cpu")
    if name not in _context.generators:
        _context.generators[name] = torch.Generator(device=name).manual_seed(_context.seeded)
    return _context.generators[name]


def solver_rank() -> int:
    """Return the number of this process among those that train together."""
    return _context.rank


def set_solver_rank(rank: int) -> None:
    """Set the number of this process among those that train together."""
    _context.rank = rank


def solver_count() -> int:
    """Return how many processes train together."""
    return _context.count


def set_solver_count(count: int) -> None:
    """Set how many processes train together."""
    _context.count = count


def set_multiprocess(together: bool) -> None:
    """Do nothing: the number of processes alone says whether several train together."""

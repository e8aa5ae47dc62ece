"""How many threads a pass takes: no more than there are cores that others leave free.

Two threads of which one has to wait for a core cost up to ten times what one costs, as they wait for each other many times a
layer. The number is found once a process, at its first pass, from what other processes used since torchcaffe was imported, so
that all passes of a process add in one order. It holds within a pass only: torch's own setting is put back. A number that the
environment gives (OMP_NUM_THREADS, MKL_NUM_THREADS) stays as it is. A fork computes with one thread.
"""
import contextlib
import functools
import os
import sys
import time
from typing import Any, Callable, Iterator, Optional, Tuple, TypeVar, cast

_GIVEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_LEAST = 0.1  # seconds that others must have been watched for
_F = TypeVar("_F", bound=Callable[..., Any])


def _used() -> Optional[Tuple[float, float]]:
    """Return the time, and the processor seconds that other processes have used since the machine started."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            counts = [int(word) for word in file.readline().split()[1:9]]
        user, nice, system, _idle, _waiting, *interrupts = counts
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    mine = os.times()
    return time.monotonic(), (user + nice + system + sum(interrupts)) / ticks - mine.user - mine.system


def _in_child() -> None:
    """Let a fork compute with one thread: it has none of those that OpenMP would wait for, without end."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


_start = _used()
os.register_at_fork(after_in_child=_in_child)


@functools.lru_cache(maxsize=1)
def free() -> Optional[int]:
    """Return how many cores others left free so far, at least one; None where nothing is known or a number is given."""
    now = _used()
    if _start is None or now is None or any(name in os.environ for name in _GIVEN) or now[0] - _start[0] < _LEAST:
        return None
    taken = (now[1] - _start[1]) / (now[0] - _start[0])
    return max(1, round((os.cpu_count() or 1) - taken))


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Compute with no more threads than there are free cores, until the block ends."""
    import torch
    most = free()
    before = torch.get_num_threads() if most else 0
    if most is None or most >= before:
        yield
        return
    torch.set_num_threads(most)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shared(function: _F) -> _F:
    """Return a function that runs with a limited number of threads."""
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with limited():
            return function(*args, **kwargs)
    return cast(_F, run)

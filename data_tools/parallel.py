"""Map a function over many items in several processes, in order, with bounded memory."""
from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Callable, Deque, Generator, Iterable, Iterator, List, TypeVar

import cv2

from data_tools.errors import DataError

LOOKAHEAD = 4  # items in the making for each process
Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Generator[Result, None, None]:
    """Yield ``function(item)`` in the order of `items`, computed by `jobs` processes (in this one when `jobs` is 1).

    Processes are spawned, not forked: OpenCV's threads do not survive a fork.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    pending: Deque[Future[Result]] = deque()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        try:
            for item in items:
                with _no_interrupts():
                    pending.append(pool.submit(function, item))
                if len(pending) >= jobs * LOOKAHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise DataError("a worker process was killed, perhaps for memory; try again with fewer --jobs") from error
        finally:
            for future in pending:
                future.cancel()


def default_jobs() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Put off Ctrl-C to the end of the block; processes started in it never see one, their parent stops them.

    The mask is for them, they inherit it. It does not keep another thread of this process from taking the signal.
    """
    seen: List[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if seen and callable(handler):
        handler(signal.SIGINT, None)

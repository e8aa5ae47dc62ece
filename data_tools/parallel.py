"""Map a function over many items in several processes or threads, in order, with bounded memory."""
from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import operator
import os
import signal
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Callable, Deque, Generator, Iterable, Iterator, List, TypeVar, Union

import cv2

from data_tools.cluster import LOOKAHEAD, cluster_map
from data_tools.errors import DataError
from torchcaffe import heap

WAITING = 3   # items that each other job has: one in the making, the others so that it never waits for the next
TOGETHER = 8  # items that go to a process at a time, at most; each journey takes a quarter of a millisecond
Jobs = Union[int, str]  # a number of processes here, or the address of a Dask scheduler
Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], jobs: Jobs, *,
                threads: bool = False) -> Generator[Result, None, None]:
    """Yield ``function(item)`` in the order of `items`, computed where `jobs` says, some items ahead.

    Results are the same wherever they are computed, so that the order and the bytes of what is written are too.
    With `threads` several jobs are threads instead of processes: for a function that spends its time in OpenCV, whose
    results would take as long to hand over as to make.
    """
    if isinstance(jobs, str):
        return cluster_map(function, items, jobs)
    if jobs == 1:
        return _map_here(function, items)
    if threads:
        return _map_ahead(function, items, jobs, ThreadPoolExecutor)
    return _map_together(function, items, jobs)


def _map_here(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    with _one_processor():
        yield from map(function, items)


def _map_together(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Generator[Result, None, None]:
    """Hand items to processes some at a time."""
    work = functools.partial(_each, function)
    with contextlib.closing(_map_ahead(work, _groups(items, jobs), jobs, _processes)) as results:
        for group in results:
            yield from group


def _groups(items: Iterable[Item], jobs: int) -> Iterator[List[Item]]:
    """Divide items into groups, smaller ones where there are few, so that every process gets some; alone if none can tell."""
    size = max(1, min(TOGETHER, operator.length_hint(items) // (jobs * LOOKAHEAD)))
    remaining = iter(items)
    return iter(lambda: list(itertools.islice(remaining, size)), [])


def _each(function: Callable[[Item], Result], group: List[Item]) -> List[Result]:
    return [function(item) for item in group]


def _map_ahead(function: Callable[[Item], Result], items: Iterable[Item], jobs: int,
               make_pool: Callable[[int], Executor]) -> Generator[Result, None, None]:
    """Give the other jobs items as long as they have few waiting; take one oneself when they have enough.

    So this process computes while the others start, and what it computes need not travel.
    """
    pending: Deque[Future[Result]] = deque()
    with _one_processor(), make_pool(jobs - 1) as pool:
        try:
            for item in items:
                if sum(not future.done() for future in pending) < (jobs - 1) * WAITING:
                    with _no_interrupts():
                        pending.append(pool.submit(function, item))
                else:
                    pending.append(_compute(function, item))
                while pending and (pending[0].done() or len(pending) >= jobs * LOOKAHEAD):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise DataError("a worker process was killed, perhaps for memory; try again with fewer --jobs") from error
        finally:
            for future in pending:
                future.cancel()


def _compute(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Compute an item here; an error is raised when its turn comes, as one of another process is."""
    done: Future[Result] = Future()
    try:
        done.set_result(function(item))
    except Exception as error:
        done.set_exception(error)
    return done


@contextlib.contextmanager
def _one_processor() -> Iterator[None]:
    """Let OpenCV compute on one processor in each thread; by itself it would take all of them.

    Pictures of a set have one size mostly, so the memory of one is kept for the next.
    """
    heap.keep()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _processes(jobs: int) -> Executor:
    """Return processes that are spawned, not forked: OpenCV's threads do not survive a fork."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_process)


def _start_process() -> None:
    """Make a process compute on one processor, and end when its parent is killed, which nobody else would tell it."""
    heap.keep()
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


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

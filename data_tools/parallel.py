"""Map a function over many items in several processes, in order, with bounded memory."""
from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import Any, Callable, Deque, Generator, Iterable, Iterator, List, NamedTuple, TypeVar, Union

import cv2

from data_tools.cluster import cluster_map
from data_tools.errors import DataError
from torchcaffe import heap

WAITING = 3   # groups that each other process has: one in the making, the others so that it never waits for the next
AHEAD = 8     # groups for each process that are made, at most, before the turn of their results comes
SHARES = 4    # groups for each process into which what is left is divided
MANY = 64     # processes that a cluster may have
Jobs = Union[int, str]  # a number of processes here, or the address of a Dask scheduler
Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[List[Any]], Any]  # makes results of a group of items


class Workers(NamedTuple):
    """Processes that wait for work: `each` yields what a function makes of groups of items, in their order."""

    each: Callable[[Work, Iterable[List[Any]]], Generator[Any, None, None]]
    number: int = 1

    def map(self, function: Callable[[List[Item]], List[Result]], items: Iterable[Item], total: int,
            together: int) -> Generator[Result, None, None]:
        """Yield the results of `total` items in their order, some groups of them computed ahead.

        They are the same wherever they are computed, so that the order and the bytes of what is written are too.
        `function` takes `together` items at most and returns their results.
        """
        with contextlib.closing(self.each(function, _groups(items, total, together, self.number))) as results:
            for group in results:
                yield from group


@contextlib.contextmanager
def workers(jobs: Jobs) -> Iterator[Workers]:
    """Start the processes that `jobs` says; they end with the block.

    Parameters
    ----------
    jobs : int or str
        Number of processes, this one among them, or the address of a Dask scheduler.
    """
    if isinstance(jobs, str):
        yield Workers(functools.partial(cluster_map, scheduler=jobs), MANY)
        return
    with _one_processor():
        if jobs == 1:
            yield Workers(_here)
            return
        with ProcessPoolExecutor(jobs - 1, multiprocessing.get_context("spawn"), _start_process) as pool:
            with no_interrupts(), _environment(OPENBLAS_NUM_THREADS="1"):
                for _ in range(jobs - 1):
                    pool.submit(int)
            yield Workers(functools.partial(_ahead, pool=pool, jobs=jobs), jobs)


def _groups(items: Iterable[Item], total: int, together: int, number: int) -> Iterator[List[Item]]:
    """Divide items into groups, smaller ones towards the end, so that all processes end together."""
    remaining, left = iter(items), total
    while left > 0:
        size = max(1, min(together, left // (SHARES * number)))
        yield list(itertools.islice(remaining, size))
        left -= size


def _here(function: Work, groups: Iterable[List[Any]]) -> Generator[Any, None, None]:
    yield from map(function, groups)


def _ahead(function: Work, groups: Iterable[List[Any]], pool: ProcessPoolExecutor, jobs: int) -> Generator[Any, None, None]:
    """Give the other processes groups as long as they have few waiting; take one oneself when they have enough.

    So this process computes while the others start, and what it computes need not travel.
    """
    pending: Deque[Future[Any]] = deque()
    try:
        for group in groups:
            with no_interrupts():
                waiting = sum(not future.done() for future in pending)
            pending.append(submit(pool, function, group) if waiting < WAITING * (jobs - 1) else _compute(function, group))
            while pending and (_is_done(pending[0]) or len(pending) >= AHEAD * jobs):
                yield result(pending.popleft())
        while pending:
            yield result(pending.popleft())
    except BrokenProcessPool as error:
        raise DataError("a worker process was killed, perhaps for memory; try again with fewer --jobs") from error
    finally:
        with no_interrupts():
            for future in pending:
                future.cancel()


def _is_done(future: Future[Any]) -> bool:
    with no_interrupts():
        return future.done()


def submit(pool: Executor, function: Callable[..., Result], *args: Any) -> Future[Result]:
    """Give a pool a call. A Ctrl-C waits: it could leave a lock of the pool locked, which the pool's end would wait for."""
    with no_interrupts():
        return pool.submit(function, *args)


def result(future: Future[Result]) -> Result:
    """Wait for a future's result. A Ctrl-C comes while nothing is locked, for the reason of `submit`."""
    done: SimpleQueue[None] = SimpleQueue()
    with no_interrupts():
        future.add_done_callback(lambda _: done.put(None))
    done.get()
    with no_interrupts():
        return future.result()


def _compute(function: Work, group: List[Any]) -> Future[Any]:
    """Compute a group here; an error is raised when its turn comes, as one of another process is."""
    done: Future[Any] = Future()
    try:
        done.set_result(function(group))
    except Exception as error:
        done.set_exception(error)
    return done


@contextlib.contextmanager
def _one_processor() -> Iterator[None]:
    """Let OpenCV compute on one processor; by itself it would take all of them.

    Pictures of a set have one size mostly, so the memory of one is kept for the next.
    """
    heap.keep()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables that processes started in the block inherit."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


def _start_process() -> None:
    """Make a process compute on one processor, and end when its parent is killed, which nobody else would tell it.

    Processes are spawned, not forked: OpenCV's threads do not survive a fork.
    """
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
def no_interrupts() -> Iterator[None]:
    """Put off Ctrl-C to the end of the block; processes started in it never see one, their parent stops them.

    The mask is for them, they inherit it. It does not keep another thread of this process from taking the signal. Only the main
    thread has Ctrl-C; in others the block does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
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

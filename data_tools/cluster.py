"""Map a function over many items on the workers of a Dask cluster, in order, with bounded memory.

The workers must have this package, and see the pictures and the output folder under the same names as this process.
"""
from __future__ import annotations

import importlib
import logging
import pickle
from collections import deque
from typing import Any, Callable, Deque, Generator, Iterable, TypeVar

import cv2

from data_tools.errors import DataError

LOOKAHEAD = 4      # items, or groups of them, in the making for each thread of the cluster
CONNECT = 20       # seconds to wait for the scheduler, and for its first worker
PATIENCE = 30      # seconds after which a result that does not come makes us look whether any worker is left
Item = TypeVar("Item")
Result = TypeVar("Result")


def cluster_map(function: Callable[[Item], Result], items: Iterable[Item], scheduler: str) -> Generator[Result, None, None]:
    """Yield ``function(item)`` in the order of `items`, computed by the cluster of a scheduler, ``tcp://host:port``.

    The items of a lost worker are requeued; Dask gives up on an item after three lost workers.
    """
    client = _connect(scheduler)
    pending: Deque[Any] = deque()
    try:
        for item in items:
            pending.append(client.submit(_call, pickle.dumps((function, item)), pure=False))
            if len(pending) >= LOOKAHEAD * max(1, sum(client.nthreads().values())):
                yield _result(client, pending.popleft())
        while pending:
            yield _result(client, pending.popleft())
    finally:
        client.cancel(list(pending))
        client.close()


def _distributed() -> Any:
    """Import Dask's package, which is only needed here."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise DataError("--scheduler needs the package distributed: pip install '.[dask]' in the project's folder") from error


def _connect(scheduler: str) -> Any:
    distributed = _distributed()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is raised here, in one line
    try:
        client = distributed.Client(scheduler, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise DataError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error}); expected the tcp://host:port "
                        "that `dask scheduler` prints") from error
    try:
        client.wait_for_workers(1, timeout=CONNECT)
    except distributed.TimeoutError as error:
        client.close()
        raise DataError(f"--scheduler {scheduler}: has no workers; start some with `dask worker {scheduler}`") from error
    return client


def _call(work: bytes) -> bytes:
    """Do one item's work in a worker; pickled, because Dask looks for its own things in whatever else it is given."""
    cv2.setNumThreads(1)
    function, item = pickle.loads(work)
    return pickle.dumps(function(item), 5)


def _result(client: Any, future: Any) -> Any:
    distributed = _distributed()
    try:
        while True:
            try:
                return pickle.loads(future.result(timeout=PATIENCE))
            except distributed.TimeoutError:
                if not client.nthreads():
                    raise DataError("the Dask cluster has lost all its workers; start some, then this command again") from None
    except (distributed.KilledWorker, distributed.CancelledError, distributed.comm.CommClosedError) as error:
        raise DataError(f"the Dask cluster gave up ({' '.join(str(error).split())[:200]}); look at its workers' memory, "
                        "then run the same command again") from error

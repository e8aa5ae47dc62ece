import multiprocessing
import os
import re
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from data_tools import parallel
from data_tools.errors import DataError
from data_tools.parallel import workers


def negate(numbers):
    return [-number for number in numbers]


def who(items):
    """Tell for each item whether another process has it, what signals that blocks, and its number of BLAS threads."""
    there, blocked = multiprocessing.parent_process() is not None, signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return [(there, signal.SIGINT in blocked, os.environ.get("OPENBLAS_NUM_THREADS"))] * len(items)


def end_elsewhere(items):
    if multiprocessing.parent_process() is not None:
        os._exit(1)
    return items


def results_of(function, items, jobs=2, together=1):
    with workers(jobs) as pool:
        return list(pool.map(function, items, len(items), together))


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order(jobs):
    assert results_of(negate, range(300), jobs, together=8) == [-number for number in range(300)]
    assert results_of(negate, [], jobs) == []


def test_one_pool_serves_several_maps():
    with workers(2) as pool:
        assert [list(pool.map(negate, range(n), n, 4)) for n in (40, 3)] == [negate(range(40)), [0, -1, -2]]


def test_items_are_taken_only_as_fast_as_results_are_used():
    taken = []
    items = (taken.append(number) or number for number in range(1000))
    with workers(2) as pool, closing(pool.map(negate, items, 1000, 1)) as results:
        assert next(results) == 0
        assert parallel.WAITING <= len(taken) <= 2 * parallel.AHEAD


def test_groups_are_smaller_towards_the_end():
    groups = list(parallel._groups(iter(range(100)), 100, 8, 2))
    sizes = [len(group) for group in groups]
    assert [item for group in groups for item in group] == list(range(100))
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[:5], sizes[-8:]) == ([8] * 5, [1] * 8)
    assert list(parallel._groups(iter(range(3)), 3, 8, 2)) == [[0], [1], [2]]


def test_an_error_in_a_process_is_raised_here():
    with pytest.raises(TypeError, match="bad operand type"):
        results_of(negate, [1, "a", 2])


def test_a_killed_process_is_one_line():
    with pytest.raises(DataError, match="a worker process was killed"):
        results_of(end_elsewhere, range(1))


def test_this_process_computes_while_the_others_have_enough():
    """The others do not see Ctrl-C and compute on one processor each; while they start they have the first ones waiting."""
    seen = results_of(who, range(parallel.WAITING + 1))
    assert seen == [(True, True, "1")] * parallel.WAITING + [(False, False, os.environ.get("OPENBLAS_NUM_THREADS"))]


def test_an_error_here_waits_for_the_items_before_it():
    items = [*range(parallel.WAITING), "a"]
    with workers(2) as pool, closing(pool.map(negate, items, len(items), 1)) as results:
        assert [next(results) for _ in range(parallel.WAITING)] == negate(range(parallel.WAITING))
        with pytest.raises(TypeError, match="bad operand type"):
            next(results)


def test_control_c_while_a_process_is_started_comes_at_the_end_even_by_another_thread():
    done = []

    def start():
        interrupt_from_another_thread()
        done.append(1)
    with pytest.raises(KeyboardInterrupt), parallel.no_interrupts():
        start()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt_from_another_thread():
    def kill():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # to this thread: a process' signal may come later, by any
    thread = threading.Thread(target=kill)
    thread.start()
    thread.join()


@pytest.mark.parametrize("ask", [parallel._is_done, parallel.result])
def test_a_control_c_waits_while_a_future_is_locked(monkeypatch, ask):
    """Else it may stay locked, and the end of its pool waits for ever."""
    future, left = Future(), []
    future.set_result(1)
    for name in ("done", "result", "add_done_callback"):
        monkeypatch.setattr(Future, name, interrupted(getattr(Future, name), left))
    with pytest.raises(KeyboardInterrupt):
        ask(future)
    assert left == [True]


def interrupted(function, left):
    """Return a function during which Ctrl-C is pressed."""
    def run(*args):
        signal.raise_signal(signal.SIGINT)
        sum(range(10))  # where Python would raise it
        left.append(True)
        return function(*args)
    return run


def test_a_control_c_waits_while_a_pool_is_locked(monkeypatch):
    left = []
    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted(ThreadPoolExecutor.submit, left))
    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        parallel.submit(pool, int)
    assert left == [True]


def test_threads_other_than_the_first_may_use_pools():
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as inner:
        assert pool.submit(lambda: parallel.result(parallel.submit(inner, int, "7"))).result() == 7


def test_all_code_uses_pools_of_this_machine_in_this_way():
    root = Path(__file__).parents[2]
    files = [path for package in ("data_tools", "pycam", "torchcaffe") for path in (root / package).rglob("*.py")]
    plain = {path.name for path in files if re.search(r"\.(submit|result)\(", path.read_text())}
    assert plain == {"parallel.py", "cluster.py"}  # the latter: Dask's

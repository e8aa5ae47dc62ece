import _signal
import functools
import operator
import os
import signal
import threading
from contextlib import closing

import pytest

from data_tools import parallel
from data_tools.errors import DataError
from data_tools.parallel import ordered_map


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order(jobs):
    assert list(ordered_map(operator.neg, range(30), jobs)) == [-number for number in range(30)]
    assert list(ordered_map(operator.neg, [], jobs)) == []


def test_items_are_taken_only_as_fast_as_results_are_used():
    taken = []
    with closing(ordered_map(operator.neg, (taken.append(number) or number for number in range(1000)), 2)) as results:
        assert next(results) == 0
        assert len(taken) == 2 * parallel.LOOKAHEAD


def test_items_travel_together_but_few_are_spread_over_the_processes():
    assert [len(group) for group in parallel._groups(range(100), 2)] == [8] * 12 + [4]
    assert [len(group) for group in parallel._groups(range(40), 2)] == [5] * 8
    assert list(parallel._groups(range(3), 2)) == list(parallel._groups(iter(range(3)), 2)) == [[0], [1], [2]]
    assert list(ordered_map(operator.neg, range(100), 2)) == [-number for number in range(100)]


def test_an_error_in_a_process_is_raised_here():
    with pytest.raises(TypeError, match="bad operand type"):
        list(ordered_map(operator.neg, [1, "a", 2], 2))


def test_a_killed_process_is_one_line():
    with pytest.raises(DataError, match="a worker process was killed"):
        list(ordered_map(os._exit, [1], 2))


def test_processes_do_not_see_control_c_and_this_one_still_does():
    blocked = functools.partial(_signal.pthread_sigmask, _signal.SIG_BLOCK)  # signal's cannot be pickled in Python 3.9
    for signals in list(ordered_map(blocked, [[]] * 4, 2))[:parallel.WAITING]:
        assert signal.SIGINT in signals
    assert signal.SIGINT not in blocked([])


def test_this_process_computes_while_the_others_have_enough():
    """Only the others block Ctrl-C, which shows who computed an item; while they start they have the first ones waiting."""
    blocked = functools.partial(_signal.pthread_sigmask, _signal.SIG_BLOCK)
    here = [signal.SIGINT not in signals for signals in ordered_map(blocked, iter([[]] * (parallel.WAITING + 1)), 2)]
    assert here == [False] * parallel.WAITING + [True]


@pytest.mark.parametrize("threads", [False, True])
def test_an_error_here_waits_for_the_items_before_it(threads):
    results = ordered_map(operator.neg, iter([0, 1, 2, 3, "a"]), 2, threads=threads)
    assert [next(results) for _ in range(4)] == [0, -1, -2, -3]
    with pytest.raises(TypeError, match="bad operand type"):
        next(results)


def test_control_c_while_a_process_is_started_comes_at_the_end_even_by_another_thread():
    done = []

    def start():
        interrupt_from_another_thread()
        done.append(1)
    with pytest.raises(KeyboardInterrupt), parallel._no_interrupts():
        start()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt_from_another_thread():
    def kill():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=kill)
    thread.start()
    thread.join()

"""Ctrl-C that Python would lose."""
from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any, Iterator, List

_PAUSE = 0.01  # seconds until the signal is sent again: the destructor has returned by then


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Send a Ctrl-C again that arrives in a destructor or in a weak reference's callback: Python prints it there and goes on.

    For command lines only: it replaces the hook of the process for the time of the block.
    """
    hook = sys.unraisablehook
    lost: List[threading.Timer] = []

    def again(problem: Any) -> None:
        if not issubclass(problem.exc_type, KeyboardInterrupt):
            hook(problem)
            return
        lost.append(threading.Timer(_PAUSE, os.kill, (os.getpid(), signal.SIGINT)))
        lost[-1].start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        pending = [timer for timer in lost if timer.is_alive()]
        for timer in pending:
            timer.cancel()
    if pending:
        raise KeyboardInterrupt

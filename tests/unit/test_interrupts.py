import signal
import sys
import time

import pytest

from pycam import forward
from pycam.__main__ import main as pycam_main
from torchcaffe import __main__ as engine
from torchcaffe import interrupts


class Interrupted:
    """Gets a Ctrl-C while it is destroyed, where Python prints and forgets it."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def work(*_):
    Interrupted()
    time.sleep(5)  # ends at once, or is too long


def test_ctrl_c_in_a_destructor_is_not_lost():
    with pytest.raises(KeyboardInterrupt), interrupts.kept():
        work()


def test_other_errors_of_destructors_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with interrupts.kept():
        class Broken:
            def __del__(self):
                raise ValueError
        Broken()
    assert [problem.exc_type for problem in told] == [ValueError]
    assert sys.unraisablehook == told.append


def test_ctrl_c_in_the_last_moment_comes_at_the_end():
    done = []

    def last():
        Interrupted()
        done.append(1)
    with pytest.raises(KeyboardInterrupt), interrupts.kept():
        last()
    assert done
    time.sleep(0.05)  # no other follows


@pytest.mark.parametrize("command", ["pycam", "torchcaffe"])
def test_commands_end_with_130_all_the_same(command, monkeypatch, capsys, tmp_path):
    if command == "pycam":
        monkeypatch.setattr(forward, "list_pictures", work)
        code = pycam_main(["predict", "--net", "n", "--weights", "w", "--images", str(tmp_path), "--out", "o"])
    else:
        monkeypatch.setitem(engine._COMMANDS, "time", work)
        code = engine.main(["time", "-model", "m"])
    assert code == 130
    assert "interrupted" in capsys.readouterr().err

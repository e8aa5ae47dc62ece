"""Read Caffe's training log (both engines write it) into curves, and the command ``curves``."""
import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Sequence

from data_tools.commands import add
from data_tools.records import read_text

from .errors import CamError

PAUSE = 5.0  # seconds between two looks at a log that is followed

Curve = Dict[int, float]  # iteration -> value, in ascending order of iteration

_ITERATION = re.compile(r"\] +Iteration ([0-9]{1,18})\b(.*)")
_LOSS = re.compile(r", loss = (\S+)")
_TESTING = re.compile(r", Testing net \(#(\d+)\)")
_TEST_OUTPUT = re.compile(r"\] +Test net output #\d+: (\S+) = (\S+)")
_START, _END = "Initializing solver", "Optimization Done"
TUNED = "Finetuning from"  # said by a training that starts from weights


class TrainLog(NamedTuple):
    """What a training run reported.

    Attributes
    ----------
    loss : dict
        Iteration -> training loss, as the solver smooths it.
    test : dict
        Name of a test net's output -> iteration -> value; further test nets carry their number: ``#1 loss``.
    """

    loss: Curve
    test: Dict[str, Curve]


def parse(text: str, name: str = "log") -> TrainLog:
    """Parse a glog training log.

    A run that was resumed repeats iterations: from the point where the numbers step back, the later run replaces what
    the earlier one had reported. The speed in a line may be nonsense and is not read.

    Parameters
    ----------
    text : str
        The whole log, of one run or of several runs one after another.
    name : str
        Names the log in the CamError that a value raises when it is no number.
    """
    log = TrainLog({}, {})
    current, prefix = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        found, output = _ITERATION.search(line), _TEST_OUTPUT.search(line)
        if found:
            iteration, rest = int(found.group(1)), found.group(2)
            if iteration < current:
                _forget(log, iteration)
            current = iteration
            loss, testing = _LOSS.search(rest), _TESTING.match(rest)
            prefix = f"#{testing.group(1)} " if testing and testing.group(1) != "0" else ""
            if loss:
                log.loss[current] = _value(loss.group(1), f"{name}: line {number}")
        elif output:
            log.test.setdefault(prefix + output.group(1), {})[current] = _value(output.group(2), f"{name}: line {number}")
    return log


def _value(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CamError(f"{where}: {text!r} is no number; expected a log as the training wrote it, take the line out") from None


def _forget(log: TrainLog, iteration: int) -> None:
    for curve in (log.loss, *log.test.values()):
        for later in [i for i in curve if i >= iteration]:
            del curve[later]


def read(path: Path) -> TrainLog:
    """Read a log file; raise a CamError when it is missing, damaged, or reports no training iteration."""
    if not path.is_file():
        raise CamError(f"{path}: no such log; expected the log of a training run")
    log = parse(whole_lines(path), str(path))
    if not log.loss:
        raise CamError(f"{path}: no line `Iteration N ..., loss = X`; expected the log of a training run")
    return log


def whole_lines(path: Path) -> str:
    """Return a log without its last line where that is still being written."""
    return read_text(path, "a log as the training wrote it", partial=True)


def add_parser(subparsers: Any) -> None:
    """Add the command ``curves``."""
    parser = add(
        subparsers, "curves", "draw the loss curves of training logs, live with --follow",
        "python -m pycam curves build/stage1/train.log --follow",
        "Draw training loss, test loss and test accuracy of training logs (Fig. 3 of the paper). With --follow the figure is "
        "drawn anew while the training goes on, until it is done or Ctrl-C is pressed.")
    parser.add_argument("logs", type=Path, nargs="+", metavar="LOG", help="training log, of either engine")
    parser.add_argument("--out", type=Path, metavar="FIGURE",
                        help="where the figure goes: .png, .pdf or .svg (default: curves.png beside the first log)")
    parser.add_argument("--follow", action="store_true", help="draw again whenever a log has grown")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``curves``."""
    out = args.out or args.logs[0].with_name("curves.png")
    if args.follow:
        follow(args.logs, out)
    else:
        _draw({path: read(path) for path in args.logs}, out)
    print(out)


def follow(paths: Sequence[Path], out: Path) -> None:
    """Draw the curves whenever a log has grown, until each says that its training is done; logs may not exist yet."""
    drawn, waiting = "", False
    while True:
        texts = {path: whole_lines(path) for path in paths if path.is_file()}
        logs = {path: log for path, log in ((path, parse(text, str(path))) for path, text in texts.items()) if log.loss}
        absent = [str(path) for path in paths if path not in logs]
        if absent and not waiting:
            waiting = True
            print(f"waiting for the first iteration in {', '.join(absent)}; `make stage1` or `python -m pycam train` starts a "
                  "training, Ctrl-C ends this", file=sys.stderr)
        if repr(logs) != drawn and logs:  # as text: a loss that is nan equals no other
            _draw(logs, out)
            drawn = repr(logs)
            print("; ".join(f"{path}: iteration {max(log.loss)}, loss {log.loss[max(log.loss)]:.4g}"
                            for path, log in logs.items()), file=sys.stderr)
        if not absent and all(map(_ended, texts.values())):
            return
        time.sleep(PAUSE)


def _ended(text: str) -> bool:
    """Return whether the last of a log's runs went to its end."""
    return text.rfind(_END) > max(text.rfind(_START), text.rfind("] Iteration "))


def _draw(logs: Dict[Path, TrainLog], out: Path) -> None:
    from .figures import loss_curves, save

    short = {path: f"{path.parent.name}/{path.name}" if path.parent.name else path.name for path in logs}
    names = short if len(set(short.values())) == len(logs) else {path: str(path) for path in logs}
    save(loss_curves({names[path]: log for path, log in logs.items()}), out)

"""Read Caffe's training log (both engines write it) into curves, and the command ``curves``."""
import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Sequence

from .errors import CamError

PAUSE = 5.0  # seconds between two looks at a log that is followed

Curve = Dict[int, float]  # iteration -> value, in ascending order of iteration

_NUMBER = r"[-+]?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?)"
_ITERATION = re.compile(r"\] +Iteration (\d+)\b(.*)")
_LOSS = re.compile(rf", loss = ({_NUMBER})", re.IGNORECASE)
_RATE = re.compile(rf"lr = ({_NUMBER})", re.IGNORECASE)
_TESTING = re.compile(r", Testing net \(#(\d+)\)")
_TEST_OUTPUT = re.compile(rf"\] +Test net output #\d+: (\S+) = ({_NUMBER})", re.IGNORECASE)
_DONE = "Optimization Done"  # among a log's last lines once its training has ended; a resumed one has it earlier too
_END = 2000  # characters


class TrainLog(NamedTuple):
    """What a training run reported.

    Attributes
    ----------
    loss, rate : dict
        Iteration -> training loss (as the solver smooths it), learning rate.
    test : dict
        Name of a test net's output -> iteration -> value; further test nets carry their number: ``#1 loss``.
    """

    loss: Curve
    rate: Curve
    test: Dict[str, Curve]


def parse(text: str) -> TrainLog:
    """Parse a glog training log.

    A run that was resumed repeats iterations: from the point where the numbers step back, the later run replaces what
    the earlier one had reported. The speed in a line may be nonsense and is not read.

    Parameters
    ----------
    text : str
        The whole log, of one run or of several runs one after another.
    """
    log = TrainLog({}, {}, {})
    current, prefix = 0, ""
    for line in text.splitlines():
        found = _ITERATION.search(line)
        if found:
            iteration, rest = int(found.group(1)), found.group(2)
            if iteration < current:
                _forget(log, iteration)
            current = iteration
            prefix = _read_iteration(log, iteration, rest)
        elif "Test net output" in line:
            output = _TEST_OUTPUT.search(line)
            if output:
                log.test.setdefault(prefix + output.group(1), {})[current] = float(output.group(2))
    return log


def _read_iteration(log: TrainLog, iteration: int, rest: str) -> str:
    """Read one ``Iteration`` line; return the prefix for the test outputs that follow."""
    for pattern, curve in ((_LOSS, log.loss), (_RATE, log.rate)):
        value = pattern.search(rest)
        if value:
            curve[iteration] = float(value.group(1))
    testing = _TESTING.match(rest)
    return f"#{testing.group(1)} " if testing and testing.group(1) != "0" else ""


def _forget(log: TrainLog, iteration: int) -> None:
    for curve in (log.loss, log.rate, *log.test.values()):
        for later in [i for i in curve if i >= iteration]:
            del curve[later]


def read(path: Path) -> TrainLog:
    """Read a log file; raise a CamError when it is missing or reports no training iteration."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise CamError(f"{path}: no such log; expected the log of a training run") from None
    log = parse(text)
    if not log.loss:
        raise CamError(f"{path}: no line `Iteration N ..., loss = X`; expected the log of a training run")
    return log


def add_parser(subparsers: Any) -> None:
    """Add the command ``curves``."""
    parser = subparsers.add_parser(
        "curves", help="draw the loss curves of training logs, live with --follow",
        description="Draw training loss, test loss and test accuracy of training logs (Fig. 3 of the paper). With --follow "
                    "the figure is drawn anew while the training goes on, until it is done or Ctrl-C is pressed.",
        epilog="example: python -m pycam curves build/stage1/train.log --follow")
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
    drawn: Dict[Path, TrainLog] = {}
    while True:
        texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()}
        logs = {path: log for path, log in ((path, parse(text)) for path, text in texts.items()) if log.loss}
        if logs != drawn:
            _draw(logs, out)
            drawn = logs
            print("; ".join(f"{path}: iteration {max(log.loss)}, loss {log.loss[max(log.loss)]:.4g}"
                            for path, log in logs.items()), file=sys.stderr)
        if len(logs) == len(paths) and all(_DONE in text[-_END:] for text in texts.values()):
            return
        time.sleep(PAUSE)


def _draw(logs: Dict[Path, TrainLog], out: Path) -> None:
    from .figures import loss_curves, save

    save(loss_curves({f"{path.parent.name}/{path.name}" if path.parent.name else path.name: log
                      for path, log in logs.items()}), out)

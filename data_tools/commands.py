"""What the command lines of this project have in common: parsers, one line for an error, exit codes."""
from __future__ import annotations

import argparse
import errno
import io
import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, NoReturn, Optional, Sequence, Tuple, Type

from data_tools import steps
from data_tools.errors import DataError, unknown
from data_tools.records import shorten
from torchcaffe import errors, interrupts
from torchcaffe.errors import STRAY, one_line

USAGE, INTERRUPTED = 2, 130  # exit codes
OUTPUTS = ("out", "json", "roc", "submission")  # options that name a file to write

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Any]


class Parser(argparse.ArgumentParser):
    """Answers wrong usage in one line, and a misspelt word with the nearest known one."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with exit status 2."""
        self.exit(USAGE, f"error: {one_line(message)}; see {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, unknown(str(value), map(str, action.choices)))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Tuple[Any, List[str]]:
        """Refuse an option that is not known."""
        found, rest = super().parse_known_args(args, namespace)
        wrong = next((word for word in rest if word.startswith("-")), None)
        if wrong:
            self.error(unknown(wrong.partition("=")[0], (name for name in self._option_string_actions if len(name) > 2)))
        return found, rest


def add(commands: Commands, name: str, text: str, example: str, description: str = "") -> argparse.ArgumentParser:
    """Add a command with a line about it, an example of its use and, if more is to be said, a description."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=description or text,
                                                           epilog=f"example: {example}")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def add_step(command: argparse.ArgumentParser, step: Callable[[argparse.Namespace], steps.Step]) -> None:
    """Let a command run the step that a function makes of its arguments."""
    command.set_defaults(step=step, run=lambda args: steps.run(step(args)))


def whole(low: int, high: int = 2 ** 31 - 1) -> Callable[[str], int]:
    """Return a reader of whole numbers in a range, for an option of a command line."""
    def read(text: str) -> int:
        value = int(text) if re.fullmatch("-?[0-9]{1,18}", text) else None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{shorten(text)!r}: expected a whole number from {low} to {high}")
        return value
    return read


def finite(text: str) -> float:
    """Read a finite number, for an option of a command line."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{shorten(text)!r}: expected a finite number")
    return value


def main(parser: argparse.ArgumentParser, arguments: Optional[Sequence[str]], known: Tuple[Type[Exception], ...]) -> int:
    """Run one command; return 0, or 1 with ``error: <one line>`` on stderr for some errors, or 130 after Ctrl-C."""
    args = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the names of files are bytes; stderr does so by itself
    try:
        with interrupts.kept():
            check_outputs(vars(args))
            args.run(args)
    except KeyboardInterrupt:
        print("interrupted: nothing half-written is left; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except known + STRAY as error:
        if args.debug:
            raise
        print(f"error: {sentence(error, getattr(args, 'out', None))}", file=sys.stderr)
        return 1
    return 0


def check_outputs(arguments: Mapping[str, Any]) -> None:
    """Refuse an output file that is also read, or is another output: it would be lost."""
    for name in (name for name in OUTPUTS if isinstance(arguments.get(name), Path)):
        place = os.path.realpath(arguments[name])
        for other, value in arguments.items():
            paths = [path for path in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(path, Path)]
            lost = os.path.isfile(place) or other in OUTPUTS
            if other != name and lost and place in map(os.path.realpath, paths):
                raise DataError(f"{arguments[name]}: is --{name} and {other} too, and would be written over; name another file")


def sentence(error: Exception, out: Optional[Path] = None) -> str:
    """Say an error in one line that any terminal shows; Python leaves out the file's name when a write to `out` fails."""
    nameless = isinstance(error, OSError) and not error.filename and out
    text = one_line(f"{out}: {error}") if nameless else errors.sentence(error)
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return text + ("; make room, then run the same command again" if full else "")

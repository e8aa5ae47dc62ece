"""Command line: ``python -m pycam COMMAND ...``."""
import argparse
import os
import sys
from importlib import import_module
from typing import List, Optional

from torchcaffe.limits import guard_decoder

guard_decoder()  # before the modules below load OpenCV

from data_tools.commands import Parser
from data_tools.commands import main as run_command
from data_tools.errors import DataError
from data_tools.parallel import default_jobs
from torchcaffe.errors import CaffeError

from . import __version__
from .errors import CamError

COMMANDS = (  # modules, in the pipeline's order
    "pipeline", "experiment", "init", "doctor", "weights", "edits", "train", "forward", "crops", "two_stages", "draw_maps",
    "studies.localization", "scoring", "table1", "summary", "compare", "trainlog", "report")
ERRORS = (CamError, DataError, CaffeError, OSError)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each module adds its own with ``add_parser``."""
    parser = Parser(
        prog="python -m pycam", description="Skin lesion classification with class activation maps: every step after "
        "the data, as commands that read files and write files.",
        epilog="example: python -m pycam predict --help")
    parser.add_argument("--version", action="version", version=f"skin-lesion-cam {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"pycam.{name}").add_parser(subparsers)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code: 0, or 1 with ``error: <one line>`` on stderr (2 usage, 130 Ctrl-C)."""
    if argv is None:
        settle_threads()
    return run_command(make_parser(), argv, ERRORS)


def settle_threads() -> None:
    """Let passes take all processors, whatever else runs, so that results do not depend on it.

    Threads that wait for each other give their processor away; otherwise two of them cost up to ten times one on a busy machine.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(default_jobs()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if __name__ == "__main__":
    sys.exit(main())

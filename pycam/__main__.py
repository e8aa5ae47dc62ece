"""Command line: ``python -m pycam COMMAND ...``."""
import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import List, Optional

from data_tools.errors import DataError
from torchcaffe.errors import CaffeError

from . import __version__
from .errors import CamError

COMMANDS = (  # modules, in the pipeline's order
    "init", "doctor", "weights", "train", "predict", "crops", "classify", "localization", "scoring", "tables", "summary",
    "trainlog", "report")
INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each module adds its own with ``add_parser``."""
    parser = argparse.ArgumentParser(
        prog="python -m pycam", description="Skin lesion classification with class activation maps: every step after "
        "the data, as commands that read files and write files.",
        epilog="example: python -m pycam predict --help")
    parser.add_argument("--version", action="version", version=f"skin-lesion-cam {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        if find_spec(f"pycam.{name}"):
            import_module(f"pycam.{name}").add_parser(subparsers)
    for command in subparsers.choices.values():
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code: 0, or 1 with ``error: <one line>`` on stderr (2 usage, 130 Ctrl-C)."""
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (CamError, DataError, CaffeError, OSError) as error:
        if args.debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

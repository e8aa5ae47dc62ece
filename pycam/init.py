"""Hand out the networks and solvers, for an installation that has no repository around it."""
import argparse
from pathlib import Path
from typing import Any

from data_tools.commands import add
from data_tools.files import write_atomic

from .errors import CamError

FOLDERS = ("prototxt", "solvers")  # inside the installed package; beside it in the repository


def add_parser(subparsers: Any) -> None:
    """Add the command ``init``."""
    parser = add(
        subparsers, "init", "write the networks and solvers into a folder",
        "python -m pycam init work && cd work && python -m pycam predict --help",
        "Write prototxt/ and solvers/ into a folder. The commands of all steps run there; the solvers name their networks from "
        "there. What is there and differs is left alone.")
    parser.add_argument("out", type=Path, metavar="DIR", help="folder; made when it is not there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``init``."""
    paths = [(name, path) for name in FOLDERS for path in sorted(source(name).glob("*.prototxt"))]
    texts = {args.out / name / path.name: path.read_bytes() for name, path in paths}
    changed = [path for path, text in texts.items() if path.exists() and path.read_bytes() != text]
    if changed:
        raise CamError(f"{changed[0]}: is there and differs; move it away or choose another folder")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    print(f"{args.out}: {len(texts)} networks and solvers")


def source(name: str) -> Path:
    """Return the folder of the networks or of the solvers, in the repository or in the installed package."""
    package = Path(__file__).resolve().parent
    found = next((folder for folder in (package / name, package.parent / name) if folder.is_dir()), None)
    if found is None:
        raise CamError(f"{package}: has no {name}/; install the package again")
    return found

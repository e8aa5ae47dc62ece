"""The remains of an earlier training in its folder: the snapshot to resume from, and a place for files that must not be mixed."""
import itertools
import re
import sys
from pathlib import Path
from typing import Optional, Tuple

from torchcaffe import wire
from torchcaffe.errors import CaffeError

from .engine import FINAL_WEIGHTS
from .job import NET, SOLVER

LOG = "train.log"
ORIGIN = "origin.json"  # the record of the training


def newest_state(prefix: Path, tell: bool = False) -> Optional[Tuple[int, Path]]:
    """Return (iteration, file) of the newest solver state that is whole and whose weights are; None without any.

    With `tell`, newer incomplete ones are named on stderr.
    """
    found = re.compile(re.escape(prefix.name) + r"_iter_(\d+)\.solverstate$")
    states = [(int(match.group(1)), path) for path in prefix.parent.glob("*.solverstate")
              for match in [found.match(path.name)] if match]
    for iteration, path in sorted(states, reverse=True):
        if _is_whole(path, "SolverState") and _is_whole(path.with_suffix(".caffemodel"), "NetParameter"):
            return iteration, path
        if tell:
            print(f"passed over {path}: it or its .caffemodel is missing or cut off", file=sys.stderr)
    return None


def _is_whole(path: Path, kind: str) -> bool:
    try:
        with wire.reading(str(path), kind) as reader:
            return len(list(reader.parts(reader.whole))) > 0
    except CaffeError:
        return False


def set_aside(folder: Path) -> Optional[Path]:
    """Move what a training left in its folder into ``old-1``, ``old-2``, ...; return that folder, None if nothing was left.

    The record goes last: what a killed move leaves is then still known to be of another training.
    """
    names = (LOG, FINAL_WEIGHTS, SOLVER, NET, ORIGIN)
    left = [*sorted(folder.glob("*_iter_*")), *(folder / name for name in names if (folder / name).exists())]
    if not left:
        return None
    old = next(path for path in (folder / f"old-{number}" for number in itertools.count(1)) if not path.exists())
    old.mkdir()
    for path in left:
        path.rename(old / path.name)
    return old

"""Steps that do nothing while nothing has changed that their output depends on.

A step's *record*, a JSON file with its output, holds the parameters and a hash of every input and output. Content decides. What
the system says of a file (inode, size, times) only saves reading it: while all of these are as recorded, so are its bytes,
because every write sets the change time, and no program can set it back.
"""
from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Literal, Mapping, NamedTuple, Optional, Tuple, TypedDict

from data_tools.errors import DataError
from data_tools.files import listing, locked, sha256_pieces, sweep, write_atomic
from data_tools.lmdb_io import DATA_FILE
from data_tools.records import Count, Name, Value, read_json
from torchcaffe.limits import MAX_VALUES

RECORDS = (".clean.json", ".lmdb.json", "crops.json", "origin.json", ".folds.json", ".made.json")  # in folders of steps
VERSION: Literal[1] = 1
LARGEST = 8 * MAX_VALUES  # bytes of a file that is no LMDB; what reads it has a limit of its own, which is lower
TICK = 0.02  # seconds in which two writes of a file may get the same change time

Stamp = Tuple[int, int, int, int]  # inode, size, times of modification and of change in nanoseconds
Mark = Tuple[str, Stamp]  # hash of a file's content, and its stamp when that was read


if TYPE_CHECKING:
    Facts = Dict[str, Any]
else:  # what msgspec lets pass as facts: when and by what a step's work was done, and how a training went
    Facts = TypedDict("Facts", {**dict.fromkeys(("date", "python", "engine", "device", "net", "weights"), str), "seconds": float,
                                "iterations": Count, "resumed": List[Count]}, total=False)


@dataclass
class Record:
    """What a step's output was made of: parameters, marks of inputs and outputs by name, and facts."""

    parameters: Dict[str, Value]
    inputs: Dict[Name, Mark]
    outputs: Dict[Name, Mark] = field(default_factory=dict)
    finished: bool = False
    facts: Facts = field(default_factory=dict)
    version: Literal[1] = VERSION

    @property
    def pictures(self) -> Dict[str, Any]:
        """Return how its pictures were made; empty where the record does not say."""
        found = self.parameters.get("pictures")
        return found if isinstance(found, dict) else {}


def _anything(old: Optional[Record]) -> None:
    """Prepare nothing."""


class Step(NamedTuple):
    """One arrow of the pipeline.

    Attributes
    ----------
    name : str
        As it is told, such as ``clean/train``.
    out, record : Path
        The file or folder that is made, and the file of its record.
    parameters : dict
        JSON values that the output depends on.
    inputs : dict
        Files that it depends on, by names that are independent of their folder.
    work : callable
        Makes the output and returns its files.
    prepare : callable
        Called before the work with the record of what is there, or None: refuses or removes what must not be mixed.
    resumes : bool
        The step can resume: its record is written at the start, marked unfinished.
    facts : dict
        Told in the record; they decide nothing.
    """

    name: str
    out: Path
    record: Path
    parameters: Dict[str, Any]
    inputs: Dict[str, Path]
    work: Callable[[], Iterable[Path]]
    prepare: Callable[[Optional[Record]], None] = _anything
    resumes: bool = False
    facts: Mapping[str, Any] = {}


def beside(path: Path) -> Path:
    """Return the record of an output that is a single file."""
    return path.parent / f".{path.name}.json"


def code(*modules: str) -> str:
    """Return a hash of the source of modules: outputs of other code are made again."""
    specs = [importlib.util.find_spec(name) for name in modules]
    return hashlib.sha256(b"".join(Path(str(spec and spec.origin)).read_bytes() for spec in specs)).hexdigest()


# ---------------------------------------------------------------- records
def load_record(path: Path) -> Record:
    """Read a record; raise a DataError for one that is damaged."""
    return read_json(path, Record, "the record of a step", "run the step that wrote it again, or delete it")


def read_record(path: Path) -> Optional[Record]:
    """Read a record; None if it is missing or damaged: the output is then made again."""
    try:
        return load_record(path)
    except DataError:
        return None


def find_record(folder: Path) -> Optional[Record]:
    """Return the record that lies in a folder which a step made, or None; raise a DataError where it is damaged."""
    return next((load_record(folder / name) for name in RECORDS if (folder / name).exists()), None)


def write_record(path: Path, record: Record) -> None:
    """Write a record, and the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(asdict(record)) + "\n").encode())


def _stamp(path: Path) -> Stamp:
    """Return a file's stamp once a later write must give it another one."""
    status = os.stat(path)
    if 0 <= time.time() - status.st_ctime_ns / 1e9 < TICK:
        time.sleep(TICK)
        status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Reader:
    """Hash files, except those whose stamps are in an earlier record of the step, or in that of an input's folder."""

    def __init__(self, step: Step, old: Optional[Record]) -> None:
        folders = {path.parent for path in step.inputs.values()}
        records = filter(None, (old, *(read_record(folder / name) for folder in folders for name in RECORDS)))
        self.known = {stamp: digest for record in records
                      for digest, stamp in (*record.inputs.values(), *record.outputs.values())}

    def mark(self, path: Path) -> Mark:
        """Return the mark of a file."""
        try:
            stamp = _stamp(path)
            if stamp[1] > LARGEST and path.name != DATA_FILE:  # a sparse file may have any size
                raise OSError(errno.EFBIG, f"{stamp[1]} bytes, expected {LARGEST} at most")
            return self.known.get(stamp) or sha256_pieces(path), stamp
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error

    def marks(self, paths: Mapping[str, Path]) -> Dict[str, Mark]:
        """Return the marks of files by their names."""
        return {name: self.mark(path) for name, path in paths.items()}


# ---------------------------------------------------------------- steps
def run(step: Step) -> bool:
    """Do a step's work unless its output is current; return whether it was done.

    Of two processes that run it at once, one does the work and the other ends with an error that says so.
    """
    if is_current(step):
        print(f"{step.name}: up to date", flush=True)
        return False
    with locked(Path(os.path.realpath(step.out))):  # by whatever name it is called
        for path in (step.out, step.record):
            sweep(path)
        old = _told(step)
        reader = _Reader(step, old)
        began, inputs = time.time(), reader.marks(step.inputs)
        step.prepare(old)
        begun = Record(_plain(step.parameters), inputs, facts=dict(step.facts))  # prepare may have noted something
        if step.resumes:
            write_record(step.record, begun)
        outputs = {os.path.relpath(path, step.record.parent): path for path in step.work()}
        _check_inputs(step, reader, begun)
        begun.outputs, begun.finished = reader.marks(outputs), True
        begun.facts = {**step.facts, "date": time.strftime("%Y-%m-%d %H:%M"), "seconds": round(time.time() - began, 1),
                       "python": platform.python_version()}
        write_record(step.record, begun)
    return True


def _told(step: Step) -> Optional[Record]:
    """Return the record of what is there, and say why it does not count."""
    try:
        old = load_record(step.record) if step.record.exists() else None
    except DataError as error:
        print(f"note: {step.name}: made anew, {error}", file=sys.stderr)
        return None
    if old and old.finished:
        print(f"note: {step.name}: made anew, {listing(changes(step, old)) or 'a file'} changed", file=sys.stderr)
    return old


def _check_inputs(step: Step, reader: _Reader, begun: Record) -> None:
    """Refuse to mark an output as finished whose inputs changed meanwhile; a resumed step forgets the old inputs."""
    now = {name: path for name, path in step.inputs.items() if path.exists()}
    changed = [name for name, (digest, _) in begun.inputs.items() if name not in now or reader.mark(now[name])[0] != digest]
    if changed:
        begun.inputs = {name: mark for name, mark in begun.inputs.items() if name not in changed}
        if step.resumes:
            write_record(step.record, begun)
        raise DataError(f"{step.name}: {listing(changed)} changed while it was read; run the step again when nothing changes it")


def is_current(step: Step) -> bool:
    """Tell whether a step's output is there and would be made the same again."""
    old = read_record(step.record)
    if old is None or not old.finished or changes(step, old):
        return False
    reader = _Reader(step, old)
    outputs = {name: step.record.parent / name for name in old.outputs}
    if not all(path.is_file() for path in outputs.values()):
        return False
    now = Record(old.parameters, reader.marks(step.inputs), reader.marks(outputs), True, old.facts)
    if _hashes(now.inputs) != _hashes(old.inputs) or _hashes(now.outputs) != _hashes(old.outputs):
        return False
    if now != old:  # other stamps, same content: not to be read again
        with contextlib.suppress(DataError), locked(Path(os.path.realpath(step.out))):  # another process may be at work by now
            if read_record(step.record) == old:
                write_record(step.record, now)
    return True


def changes(step: Step, old: Record) -> List[str]:
    """Return what differs from a record, apart from the content of files: names of parameters and inputs."""
    now = _plain(step.parameters)
    found = [name for name in {**old.parameters, **now} if old.parameters.get(name) != now.get(name)]
    absent, new = ([name for name in one if name not in other]
                   for one, other in ((old.inputs, step.inputs), (step.inputs, old.inputs)))
    moved = not absent + new and list(old.inputs) != list(step.inputs)
    return found + absent + new + ["the order of the inputs"] * moved


def kept(step: Step, old: Optional[Record], *but: str) -> List[str]:
    """Return the inputs that have not changed since a record whose parameters, all `but` some, are those of the step."""
    def rest(parameters: Dict[str, Any]) -> Dict[str, Any]:
        return {name: value for name, value in _plain(parameters).items() if name not in but}
    if old is None or rest(old.parameters) != rest(step.parameters):
        return []
    reader = _Reader(step, old)
    return [name for name, path in step.inputs.items() if name in old.inputs and reader.mark(path)[0] == old.inputs[name][0]]


def take_over(step: Step, old: Optional[Record]) -> None:
    """Make the folder of a resumable step and delete files that differ from its record; refuse a folder of other origin."""
    foreign = sorted(path.name for path in step.out.iterdir() if not path.name.startswith(".")) if step.out.is_dir() else []
    if foreign and not step.record.exists():
        raise DataError(f"{step.out}: holds files that were not made here ({listing(foreign)}); choose an empty or new folder")
    step.out.mkdir(parents=True, exist_ok=True)
    reader, outputs = _Reader(step, old), old.outputs if old else {}
    for path, (digest, _) in ((step.record.parent / name, mark) for name, mark in outputs.items()):
        if path.is_file() and reader.mark(path)[0] != digest:
            path.unlink()


def _hashes(marks: Mapping[str, Mark]) -> Dict[str, str]:
    return {name: digest for name, (digest, _) in marks.items()}


def _plain(parameters: Dict[str, Any]) -> Dict[str, Any]:
    """Return parameters as a record holds them."""
    plain: Dict[str, Any] = json.loads(json.dumps(parameters))
    return plain

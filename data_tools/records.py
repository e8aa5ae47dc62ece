"""Read what this project's own programs wrote, JSON and CSV, held against the types of what must be in it.

A damaged file is answered in one line: the file, the place in it, what was expected and found, what to do.
"""
from __future__ import annotations

import csv
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Dict, List, Tuple, Type, TypeVar, Union

import msgspec

from data_tools.errors import DataError

LARGEST = 1 << 28  # bytes of a record or a table; the record of 100,000 pictures has 30 million
DAMAGED = (msgspec.DecodeError, msgspec.ValidationError, RecursionError)

Name = Annotated[str, msgspec.Meta(pattern=r"\A[^\0]*\Z")]  # of a file; no file's name has a NUL
Count = Annotated[int, msgspec.Meta(ge=0, le=2 ** 53)]
if TYPE_CHECKING:
    Value = Any
else:  # what msgspec lets pass as the value of a parameter
    Leaf = Union[None, bool, int, float, str]
    Value = Union[Leaf, List[Leaf], Dict[str, Union[Leaf, List[Leaf], Dict[str, Leaf]]]]
Kind = TypeVar("Kind")


def read_file(path: Path, what: str) -> bytes:
    """Return the bytes of a file that is one, not a device or a pipe, and that is not larger than any of its kind.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What was expected, for the error's line.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path}: is no regular file; expected {what}")
            if status.st_size > LARGEST:
                raise DataError(f"{path}: {status.st_size} bytes; expected {what}, of {LARGEST} bytes at most")
            return file.read(LARGEST)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected {what}") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would be waited for


def read_text(path: Path, what: str, partial: bool = False) -> str:
    """Return the text of a file in UTF-8; see `read_file`. With `partial`, without a last line that is still being written."""
    content = read_file(path, what)
    content = content[:content.rfind(b"\n") + 1] if partial else content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is no text in UTF-8; expected {what}") from error


def read_json(path: Path, kind: Type[Kind], what: str, advice: str) -> Kind:
    """Read a JSON file of a type that msgspec knows.

    Parameters
    ----------
    path, what
        As in `read_file`.
    kind : type
        What must be in it; keys that the type does not have are passed over.
    advice : str
        What to do about a damaged one, for the error's line.
    """
    content = read_file(path, what)
    try:
        return msgspec.json.decode(content, type=kind)
    except DAMAGED as error:
        raise damaged(path, error, advice) from error


def read_table(path: Path, kind: Type[Kind], columns: Tuple[str, ...], what: str, advice: str) -> List[Kind]:
    """Read a CSV file whose header must be `columns`, a row of a type that msgspec knows; see `read_json`."""
    rows = read_rows(path, what)
    header = tuple(rows[0][1])
    if header != columns:
        raise DataError(f"{path}: the columns are {shorten(','.join(header))}; expected {','.join(columns)}; {advice}")
    return [read_row(path, line, row, kind, columns, advice) for line, row in rows[1:]]


def read_row(path: Path, line: int, row: List[str], kind: Type[Kind], columns: Tuple[str, ...], advice: str) -> Kind:
    """Return a row of a CSV file as a type that msgspec knows."""
    if len(row) != len(columns):
        raise DataError(f"{path}: line {line} has {len(row)} fields, expected {len(columns)}; {advice}")
    try:
        return msgspec.convert(dict(zip(columns, row)), kind, strict=False)
    except DAMAGED as error:
        raise damaged(f"{path}: line {line}", error, advice) from error


def read_rows(path: Path, what: str) -> List[Tuple[int, List[str]]]:
    """Read a CSV file in UTF-8, one row at least: line number and fields of each row that is not blank."""
    text = read_text(path, what)
    try:
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is no line of a CSV file ({error}); expected {what}") from error
    filled = [(line, row) for line, row in rows if any(row)]
    if not filled:
        raise DataError(f"{path}: is empty; expected {what}")
    return filled


def damaged(where: Any, error: Exception, advice: str) -> DataError:
    """Return the error of a damaged record."""
    return DataError(f"{where}: is damaged ({shorten(str(error))}); {advice}")


def shorten(text: str) -> str:
    """Return a text as it can stand in a message."""
    line = " ".join(text[:250].split())
    return line if len(line) <= 200 else f"{line[:200]}..."

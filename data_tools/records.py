"""Read what this project's own programs wrote, JSON and CSV, held against the types of what must be in it.

A damaged file is answered in one line: the file, the place in it, what was expected and found, what to do.
"""
from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Dict, Iterator, List, TextIO, Tuple, Type, TypeVar, Union

import msgspec

from data_tools.errors import DataError
from torchcaffe.limits import MAX_COLUMNS, MAX_COMMAS, MAX_LINE, MAX_LINES, MAX_TABLE, check_size, open_regular, read_bytes

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
        content = read_bytes(path, MAX_TABLE)
    except OSError as error:
        raise _unreadable(path, error, what) from error
    _check_counts(path, content.count(b"\n"), content.count(b","), what)
    return content


def _check_counts(path: Path, lines: int, commas: int, what: str) -> None:
    """Refuse what would be millions of small objects: they take thirty times the memory of the file."""
    if lines > MAX_LINES or commas > MAX_COMMAS:
        raise DataError(f"{path}: more than {MAX_LINES} lines or {MAX_COMMAS} commas; expected {what}")


def _unreadable(path: Path, error: OSError, what: str) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}); expected {what}")


def read_text(path: Path, what: str, partial: bool = False) -> str:
    """Return the text of a file in UTF-8; see `read_file`. With `partial`, without a last line that is still being written."""
    content = read_file(path, what)
    content = content[:content.rfind(b"\n") + 1] if partial else content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_text(path, content.count(b"\n", 0, error.start) + 1, what) from error


def _no_text(path: Path, line: int, what: str) -> DataError:
    return DataError(f"{path}: line {line} is no text in UTF-8; expected {what}")


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
    header = tuple(next(rows)[1])
    if header != columns:
        raise DataError(f"{path}: the columns are {shorten(','.join(header))}; expected {','.join(columns)}; {advice}")
    return [read_row(path, line, row, kind, columns, advice) for line, row in rows]


def read_row(path: Path, line: int, row: List[str], kind: Type[Kind], columns: Tuple[str, ...], advice: str) -> Kind:
    """Return a row of a CSV file as a type that msgspec knows."""
    if len(row) != len(columns):
        raise DataError(f"{path}: line {line} has {len(row)} fields, expected {len(columns)}; {advice}")
    try:
        return msgspec.convert(dict(zip(columns, row)), kind, strict=False)
    except DAMAGED as error:
        raise damaged(f"{path}: line {line}", error, advice) from error


def read_rows(path: Path, what: str) -> Iterator[Tuple[int, List[str]]]:
    """Read a CSV file in UTF-8, one row at least: line number and fields of each row that is not blank, one by one."""
    filled = False
    try:
        with open_regular(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            check_size(file, MAX_TABLE)
            reader = csv.reader(_lines(path, file, what))
            for row in reader:
                if len(row) > MAX_COLUMNS:
                    raise DataError(f"{path}: line {reader.line_num} has {len(row)} fields; expected {what}")
                fields = [field.strip() for field in row]
                if any(fields):
                    filled = True
                    yield reader.line_num, fields
    except OSError as error:
        raise _unreadable(path, error, what) from error
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is no line of a CSV file ({error}); expected {what}") from error
    if not filled:
        raise DataError(f"{path}: is empty; expected {what}")


def _lines(path: Path, file: TextIO, what: str) -> Iterator[str]:
    """Yield the lines of a file whose bytes that are no UTF-8 came as surrogates, up to the first with one."""
    commas = 0
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), 1):
        commas += line.count(",")
        _check_counts(path, number, commas, what)
        if len(line) == MAX_LINE:
            raise DataError(f"{path}: line {number} has {MAX_LINE} characters or more; expected {what}")
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise _no_text(path, number, what) from error
        yield line


def damaged(where: Any, error: Exception, advice: str) -> DataError:
    """Return the error of a damaged record."""
    return DataError(f"{where}: is damaged ({shorten(str(error))}); {advice}")


def shorten(text: str) -> str:
    """Return a text as it can stand in a message."""
    line = " ".join(text[:250].split())
    return line if len(line) <= 200 else f"{line[:200]}..."

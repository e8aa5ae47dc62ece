"""Read the CSV dialects in which people keep predictions and labels: one row a picture, an id and a few numbers.

The 2017 challenge took files with or without a header, fields by position. Here the columns go by name where the header
names them. Byte order marks, line ends of any system, quotes, tabs, semicolons with decimal commas, an index column in
front, paths and suffixes around an id are read; anything that could be meant in two ways is refused.
"""
import csv
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from data_tools.files import listing
from data_tools.isic import CLASSES

from .errors import CamError

SCORED = CLASSES[:2]  # the challenge's two questions: melanoma or not, seborrheic keratosis or not
ID = "image_id"
NAMES = {  # what a header's words are about, without the words of `_FILLER`
    ID: ("image", "image id", "id", "img", "image name", "isic id", "name", "file", "file name", "filename", "picture"),
    CLASSES[0]: ("melanoma", "mel", "m", "task 1", "task1"),
    CLASSES[1]: ("seborrheic keratosis", "seborrhoeic keratosis", "keratosis", "sk", "task 2", "task2"),
    CLASSES[2]: ("nevus", "naevus", "nevi", "nv", "benign nevus", "benign nevi"),
}
_FILLER = {"p", "prob", "probs", "probability", "confidence", "score", "pred", "prediction", "of"}
_SUFFIX = re.compile(r"\.(jpe?g|png|tiff?|bmp|webp)$", re.IGNORECASE)
_DIGITS = re.compile(r"(?<![\d.])\d{7}(?!\d)")  # the number in ISIC_0012086, by which the challenge matched rows
_DECIMAL_COMMA = re.compile(r"^(\d*),(\d+)$")

Row = List[str]


class Table(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    rows : list
        Line number, image id, and the text of each value.
    classes : tuple of str
        What the values of each row are about: `SCORED` and perhaps ``nevus``.
    """

    rows: List[Tuple[int, str, List[str]]]
    classes: Tuple[str, ...]


def read_table(path: Path) -> Table:
    """Read a file with one row a picture.

    Raises
    ------
    CamError
        Names the columns, the line, or the ids that appear twice.
    """
    lines = _split(_text(path))
    if not lines:
        raise CamError(f"{path}: found nothing; expected the columns {_expected()}")
    header = None if any(number(field) is not None for field in lines[0][1]) else lines.pop(0)[1]
    if not lines:
        raise CamError(f"{path}: no rows below the header; expected one row a picture")
    first = lines[0][1]
    columns = _by_position(path, first) if header is None else _by_name(path, header, first)
    width = len(header or first)
    rows = []
    for line, fields in lines:
        if len(fields) != width:
            raise CamError(f"{path}: line {line} has {len(fields)} columns, the first one has {width}; expected {_expected()}")
        rows.append((line, clean_id(fields[columns[ID]]), [fields[i] for name, i in columns.items() if name != ID]))
    refuse_repeated(path, [image_id for _, image_id, _ in rows])
    return Table(rows, tuple(name for name in columns if name != ID))


def _expected() -> str:
    return f"{ID},{','.join(SCORED)}"


def _text(path: Path) -> str:
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise CamError(f"{path}: no such file; expected a CSV with the columns {_expected()}") from None
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise CamError(f"{path}: not a text file ({error.reason}); expected a CSV with the columns {_expected()}") from error


def _split(text: str) -> List[Tuple[int, Row]]:
    """Return line numbers and fields; blank lines and lines that begin with # are left out."""
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip(" \t,;") and not line.startswith("#")]
    mark = next((mark for mark in ";\t," if lines and mark in lines[0][1]), None)
    return [(i, _fields(line, mark)) for i, line in lines]


def _fields(line: str, mark: Optional[str]) -> Row:
    """Split a line at a mark, or at blanks where there is none; empty fields at its end are dropped."""
    fields = line.split() if mark is None else [field.strip() for field in next(csv.reader([line], delimiter=mark))]
    while not fields[-1]:
        fields.pop()
    return fields if mark == "," else [_DECIMAL_COMMA.sub(r"\1.\2", field) for field in fields]


def number(text: str) -> Optional[float]:
    """Return the number that a field holds, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def _id_column(first: Sequence[str]) -> int:
    """Return the column of the ids: the first one that holds no number, or a number of seven digits."""
    return next((i for i, field in enumerate(first) if number(field) is None or _DIGITS.search(field)), 0)


def _by_position(path: Path, first: Sequence[str]) -> Dict[str, int]:
    """Return the columns of a file whose header says nothing: the id, then the classes in their order."""
    start = _id_column(first)
    if len(first) - start - 1 not in (len(SCORED), len(CLASSES)):
        raise CamError(f"{path}: expected the columns {_expected()}, found {','.join(first)}")
    return {ID: start, **{name: start + 1 + i for i, name in enumerate(CLASSES[:len(first) - start - 1])}}


def _by_name(path: Path, header: Sequence[str], first: Sequence[str]) -> Dict[str, int]:
    """Return the columns that the header names; by position where it names no class, as the challenge did."""
    found = [_about(name) for name in header]
    if not set(CLASSES) & set(found) and len(header) == _id_column(first) + 1 + len(SCORED):
        print(f"note: {path}: the header {','.join(header)} names no class; read as {_expected()}", file=sys.stderr)
        return _by_position(path, first)
    if any(found.count(name) != 1 for name in SCORED) or found.count(CLASSES[2]) > 1:
        raise CamError(f"{path}: the header is {','.join(header)}; expected {_expected()}[,{CLASSES[2]}]")
    start = found.index(ID) if ID in found else _id_column(first)
    return {ID: start, **{name: found.index(name) for name in CLASSES if name in found}}


def _about(name: str) -> str:
    """Return which of `NAMES` a header's word is about, or an empty text."""
    words = " ".join(word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and word not in _FILLER)
    return next((about for about, known in NAMES.items() if words in known), "")


def clean_id(text: str) -> str:
    """Return the image id in a field that may hold a path or a picture's file name."""
    return _SUFFIX.sub("", re.split(r"[/\\]", text)[-1])


def challenge_number(image_id: str) -> Optional[str]:
    """Return the seven digits by which the challenge matched rows, or None."""
    found = _DIGITS.search(image_id)
    return found.group() if found else None


def refuse_repeated(path: Path, ids: Sequence[str]) -> None:
    """Raise a CamError that names the ids that appear more than once."""
    repeated = sorted(image_id for image_id, count in Counter(ids).items() if count > 1)
    if repeated:
        raise CamError(f"{path}: {len(repeated)} pictures appear twice: {listing(repeated)}; expected one row a picture")

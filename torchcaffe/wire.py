"""Find the parts of Caffe's binary files without reading them, so that no more is read than somebody needs.

A message is a run of fields: number and kind, then a number, or a length and so many bytes.
"""
import contextlib
import math
import os
from typing import Any, Iterator, List, NamedTuple, Tuple

from google.protobuf import message

from .errors import CaffeError
from .limits import MAX_MODEL, check_size, open_regular
from .netparam import blob_shape, no_message
from .proto import caffe_pb2 as pb

MAX_FIELDS = 1_000_000  # of a file, a second's walk; large nets have ten thousand
MAX_SMALL = 1 << 16     # bytes of a name, or of the field with a blob's shape
_LAYERS = {100: (1, 7), 2: (4, 6)}  # fields of a net with layers, current and V1 -> their fields with the name and the blobs
ITERATION, HISTORY = 1, 3  # fields of a solver state: a number; blobs
_FLOATS, _DOUBLES, _SHAPE = 5, 8, (1, 2, 3, 4, 7)  # fields of a blob
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5        # kinds of fields, as protobuf numbers them


class Part(NamedTuple):
    """A field: its number and kind, where it starts in the file, and where its content starts and ends."""

    field: int
    kind: int
    tag: int
    start: int
    end: int


class StoredBlob(NamedTuple):
    """A blob in a file: its shape, and where its message lies."""

    shape: Tuple[int, ...]
    start: int
    end: int


class StoredLayer(NamedTuple):
    """A layer in a weights file: its name, its blobs, and whether it is of the form that was current from 2014 on."""

    name: str
    blobs: List[StoredBlob]
    current: bool


class Reader:
    """The walk through the fields of an open file."""

    def __init__(self, file: Any) -> None:
        self._handle, self._left = file.fileno(), MAX_FIELDS
        self.whole = Part(0, _BYTES, 0, 0, os.fstat(self._handle).st_size)

    def content(self, start: int, end: int) -> bytes:
        """Return bytes of the file."""
        return os.pread(self._handle, end - start, start)

    def parts(self, inside: Part) -> Iterator[Part]:
        """Yield the fields of a message; raise a ValueError where they do not end with it."""
        at = inside.start
        while at < inside.end:
            head = self.content(at, min(at + 20, inside.end))
            tag, used = _number(head, 0)
            kind, length = tag & 7, {_EIGHT: 8, _FOUR: 4}.get(tag & 7, 0)
            if kind in (_VARINT, _BYTES):
                value, used = _number(head, used)
                length = value if kind == _BYTES else 0
            part = Part(tag >> 3, kind, at, at + used, at + used + length)
            self._left -= 1
            if kind not in (_VARINT, _EIGHT, _BYTES, _FOUR) or not part.field or part.end > inside.end or not self._left:
                raise ValueError(f"a wrong field at byte {at}")
            yield part
            at = part.end

    def layers(self) -> List[StoredLayer]:
        """List the layers of a net; the current ones alone where it has both forms."""
        found = [self._layer(part) for part in self.parts(self.whole) if part.field in _LAYERS and part.kind == _BYTES]
        return [layer for layer in found if layer.current] or found

    def _layer(self, part: Part) -> StoredLayer:
        (name_field, blobs_field), name, blobs = _LAYERS[part.field], "", []
        for field in self.parts(part):
            if field.field == name_field and field.kind == _BYTES and field.end - field.start < MAX_SMALL:
                name = self.content(field.start, field.end).decode()
            elif field.field == blobs_field and field.kind == _BYTES:
                blobs.append(self._blob(field))
        return StoredLayer(name, blobs, part.field == 100)

    def history(self) -> List[StoredBlob]:
        """List the blobs of a solver state."""
        return [self._blob(part) for part in self.parts(self.whole) if part.field == HISTORY and part.kind == _BYTES]

    def has_number(self, field: int) -> bool:
        """Tell whether the file's message has a number in a field."""
        return any(part.field == field and part.kind == _VARINT for part in self.parts(self.whole))

    def rest(self, without: int) -> bytes:
        """Return the file's fields without those of one kind, which hold nearly all of its bytes."""
        kept = [part for part in self.parts(self.whole) if part.field != without]
        if sum(part.end - part.tag for part in kept) > MAX_SMALL:
            raise ValueError(f"more than {MAX_SMALL} bytes besides blobs")
        return b"".join(self.content(part.tag, part.end) for part in kept)

    def _blob(self, part: Part) -> StoredBlob:
        small, values = b"", {_FLOATS: 0, _DOUBLES: 0}
        for field in self.parts(part):
            if field.field in values:
                values[field.field] += (field.end - field.start) // (4 if field.field == _FLOATS else 8)
            elif field.field in _SHAPE and field.end - field.start < MAX_SMALL:
                small += self.content(field.tag, field.end)
        shape, count = blob_shape(pb.BlobProto.FromString(small)), values[_FLOATS] or values[_DOUBLES]
        if count != math.prod(shape):
            raise CaffeError(f"a blob of shape {shape} holds {count} values")
        return StoredBlob(shape, part.start, part.end)


def _number(data: bytes, at: int) -> Tuple[int, int]:
    """Return a number of ten bytes at most, seven bits each, and the position after it."""
    value = 0
    for place, byte in enumerate(data[at:at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError(f"no number in {data[at:at + 10]!r}")


@contextlib.contextmanager
def reading(path: str, kind: str) -> Iterator[Reader]:
    """Open a binary file of Caffe's; say in one line what is wrong with it. `kind` is the name of its message."""
    head = b""
    try:
        with open_regular(path) as file:
            check_size(file, MAX_MODEL)
            head = file.read(100)
            yield Reader(file)
    except OSError as error:
        raise CaffeError(f"{path}: {error.strerror} (relative to {os.getcwd()})") from None
    except (ValueError, message.Error) as error:
        raise CaffeError(f"{path}: this is {no_message(head, kind, error)}") from None
    except CaffeError as error:
        raise CaffeError(f"{path}: {error}") from None

"""Decode pictures whose size is known before they take memory."""
import re
from typing import Any, Iterator, Tuple

import cv2
import numpy as np

from .limits import MAX_PICTURE, MAX_PIXELS, MAX_SCANS

Array = Any
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame's header
_TOO_LARGE = f"more pixels than the {MAX_PIXELS / 1e6:.0f} million that are allowed, or none; make it smaller"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # except markers without a length, which libjpeg skips
PICTURES = (_JPEG, _PNG)  # how complete files of the known formats begin


class PictureError(Exception):
    """What is wrong with the bytes of a picture, in one line."""


def decode(content: bytes, flag: int) -> Array:
    """Return the picture that OpenCV decodes from a file's bytes.

    The pixels of JPEG and PNG files are counted here, those of other formats by OpenCV itself after `limits.guard_decoder`.
    """
    problem = too_large(content) if content else "is empty"
    if problem:
        raise PictureError(problem)
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        fault = str(error).strip().splitlines()[0]
        raise PictureError(_TOO_LARGE if "validateInputImageSize" in fault else f"OpenCV cannot decode it ({fault})") from None
    except MemoryError:
        raise PictureError(_TOO_LARGE) from None
    if picture is None:
        raise PictureError("OpenCV cannot decode it; expected a sound picture")
    return picture


def too_large(content: bytes) -> str:
    """Say in words what is wrong with the size of a JPEG or PNG file, before it is decoded; an empty text where nothing is."""
    scans = 0
    for width, height in _sizes(content):
        scans += not width
        if width * height > MAX_PIXELS:
            return f"{width} x {height} pixels, expected {MAX_PIXELS / 1e6:.0f} million at most; make it smaller"
        if scans > MAX_SCANS:
            return f"more than {MAX_SCANS} scans, expected a usual JPEG file; save it anew"
    if content.startswith(_PNG) and any(end > MAX_PICTURE for _, end in _chunks(content)):  # memory that OpenCV takes for a chunk
        return f"a chunk of more than {MAX_PICTURE} bytes, expected a sound PNG file; save it anew"
    return ""


def _sizes(content: bytes) -> Iterator[Tuple[int, int]]:
    """Yield (width, height) of what a picture's headers announce; (0, 0) for each scan of a JPEG file."""
    if content.startswith(_PNG):
        yield int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    for marker, at in _segments(content) if content.startswith(_JPEG) else ():
        if marker in _JPEG_FRAMES:
            yield int.from_bytes(content[at + 5:at + 7], "big"), int.from_bytes(content[at + 3:at + 5], "big")
        elif marker == _JPEG_SCAN:
            yield 0, 0


def cut_off(content: bytes) -> bool:
    """Tell whether the end of a JPEG or PNG file is missing; what OpenCV cannot read it fills with grey."""
    if content.startswith(_JPEG):
        return all(marker != _JPEG_END for marker, _ in _segments(content))
    return all(kind != b"IEND" or end > len(content) for kind, end in _chunks(content))


def _segments(content: bytes) -> Iterator[Tuple[int, int]]:
    """Walk from marker to marker as libjpeg does, so that a thumbnail's own are passed over; yield each and what is after."""
    position = len(_JPEG)
    while True:
        found = _MARKER.search(content, position)
        if not found:
            return
        position = found.end()
        yield content[position - 1], position
        position += int.from_bytes(content[position:position + 2], "big")


def _chunks(content: bytes) -> Iterator[Tuple[bytes, int]]:
    """Walk through the chunks of a PNG file; yield the kind of each and where it ends, which may be beyond the file."""
    position = len(_PNG)
    while position + 12 <= len(content):
        start, length = position, int.from_bytes(content[position:position + 4], "big")
        position += 12 + length
        yield content[start + 4:start + 8], position

"""What is looked at before a file takes memory or time: its kind, its bytes, the pixels that its picture will have."""
import contextlib
import errno
import os
import stat
from typing import Any

MAX_PIXELS = 40_000_000            # the largest picture of ISIC-2017 has 30 million; hair removal takes some 35 bytes for each
MAX_PICTURE = 8 * MAX_PIXELS       # bytes of a picture's file: four channels of 16 bits that do not shrink at all
MAX_SCANS = 200                    # of a JPEG file, each a walk over all pixels; encoders write ten
MAX_MODEL = 2**31 - 1              # bytes of a binary message; protobuf's own bound
MAX_TEXT = 16 << 20                # bytes of a prototxt, a list of records or another small file; large nets have 0.1 MB
MAX_TABLE = 256 << 20              # bytes of a CSV file; a million rows of predictions have 80 MB
MAX_LINES = 2_000_000              # of a table, log or record; some microseconds and 200 bytes each
MAX_LINE = 4 << 20                 # characters of a line of a table
MAX_COMMAS = 20_000_000            # of a table or record; a record of a million pictures has 12 million
MAX_COLUMNS = 1000                 # of a row of a table
MAX_VALUES = 300_000_000           # numbers of an HDF5 file with data, which is read whole
MAX_AXES = 32                      # of a blob, as in Caffe
MAX_COUNT = 2**31 - 1              # values of a blob, as in Caffe


def open_regular(path: Any, **text: Any) -> Any:
    """Open a file for reading, as bytes or with `encoding` and the like as text.

    Raises
    ------
    OSError
        Where it is no regular file: a FIFO would be waited for, a device would have no end.
    """
    try:
        return open(path, "r" if text else "rb", opener=_regular, **text)
    except ValueError as error:  # a NUL, or what is no text
        raise OSError(errno.EINVAL, f"no file's name ({error})", repr(path)) from None


def _regular(path: str, flags: int) -> int:
    check_kind(path)
    return os.open(path, flags)


def check_target(path: Any) -> None:
    """Raise an OSError where a file shall get a name that something else has, which it would replace: a device, a FIFO."""
    with contextlib.suppress(FileNotFoundError):
        check_kind(path)


def check_kind(path: Any) -> None:
    """Raise an OSError where a path is no regular file."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file; expected one on a disk", path)


def check_size(file: Any, most: int) -> None:
    """Raise an OSError where an open file has more bytes than `most`."""
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise OSError(errno.EFBIG, f"{size} bytes, expected {most} at most", file.name)


def read_bytes(path: Any, most: int) -> bytes:
    """Return the bytes of a regular file of `most` bytes at most; raise an OSError for any other."""
    with open_regular(path) as file:
        check_size(file, most)
        size = os.fstat(file.fileno()).st_size
        content: bytes = file.read(size or most)  # read() clears a buffer of the requested size for each file
    return content


def guard_decoder() -> None:
    """Let OpenCV refuse larger pictures of any format, and keep its own lines to itself; only before it is loaded.

    For command lines: it holds for the whole process.
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

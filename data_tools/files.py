"""Read pictures strictly and write files so that nothing half-written is ever believed."""
from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, Sequence

import cv2
import numpy as np

from data_tools.errors import DataError
from torchcaffe.limits import MAX_PICTURE, check_target, open_regular, read_bytes
from torchcaffe.pictures import PICTURES, PictureError, cut_off, decode

JPEG_QUALITY = 95
LONGEST_SIDE = 32766  # pixels; OpenCV's remap counts them in 16 bits
PARTIAL = ".partial"     # end of temporary names
NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP)
LISTED = 10  # ids named in a message
TOGETHER, GROUP_BYTES = 64, 512 << 10  # files that a process gets at a time, at most, and their bytes
CHUNK = 1 << 20  # bytes hashed at a time
PIECE = 16 << 20  # bytes of a file that have a hash of their own


def at_a_time(paths: Sequence[Path]) -> int:
    """Return how many of some files a process gets at a time: large ones alone, small ones together."""
    total = sum(path.stat().st_size for path in paths if path.exists())  # an absent one is reported when its turn comes
    return min(TOGETHER, max(1, GROUP_BYTES * len(paths) // max(1, total)))


def listing(names: Sequence[str]) -> str:
    """Join names for a message: the first ten, then how many more."""
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def read_image(path: Path) -> np.ndarray:
    """Read a JPEG or PNG file; the one way in which a picture enters this project.

    The orientation tag of a camera is ignored, so that masks and boxes keep fitting; grey, transparent and 16-bit
    pictures become 8-bit colour.

    Returns
    -------
    ndarray
        H x W x 3 uint8, BGR.

    Raises
    ------
    DataError
        When the file is missing, cut off, no picture, or too large (`torchcaffe.limits`), which is known before
        memory is taken. OpenCV alone would fill what is cut off with grey.
    """
    try:
        content = read_bytes(path, MAX_PICTURE)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    problem = _incomplete(content)
    if problem:
        raise DataError(f"{path}: {problem}; expected a complete JPEG or PNG file, copy it again from its source")
    return decode_image(content, str(path))


def _incomplete(content: bytes) -> str:
    """Say what is missing from a picture file's bytes; an empty text when nothing is."""
    if not content.startswith(PICTURES):
        return f"starts with {content[:12]!r}" if content else "is empty"
    return f"cut off after {len(content)} bytes" if cut_off(content) else ""


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a picture to H x W x 3 uint8 BGR; `name` is their source in the error message."""
    try:
        image: np.ndarray = decode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except PictureError as error:
        raise DataError(f"{name}: {error}") from error
    if max(image.shape) > LONGEST_SIDE:
        raise DataError(f"{name}: {image.shape[1]} x {image.shape[0]} pixels; a side may have {LONGEST_SIDE} at most")
    return image


def encode_image(image: np.ndarray, suffix: str, quality: int = JPEG_QUALITY) -> bytes:
    """Encode H x W x 3 uint8 BGR (or H x W grey) as ``.jpg`` with the given quality, or as ``.png``."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    done, content = cv2.imencode(suffix, image, options)
    if not done:
        raise DataError(f"OpenCV cannot encode a picture of shape {image.shape} as {suffix}")
    return bytes(content.tobytes())


def write_image(path: Path, image: np.ndarray, quality: int = JPEG_QUALITY) -> None:
    """Write a picture, H x W x 3 uint8 BGR or H x W grey, in the format of the path's suffix (.jpg or .png)."""
    write_atomic(path, encode_image(image, Path(path).suffix, quality))


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; see `write_together`."""
    write_together({Path(path): content})


def write_together(contents: Dict[Path, bytes]) -> None:
    """Write files under temporary names in their folders, flush them to the disk, and rename them in order.

    To flush some together takes half the time. A killed process leaves temporary files; `locked` deletes those of a folder.
    """
    temporary = {path: path.parent / f".{path.name}.{secrets.token_hex(4)}{PARTIAL}" for path in contents}
    try:
        for path, content in contents.items():
            with _named(path):
                check_target(path)
            with _named(path), open(temporary[path], "wb") as file:
                file.write(content)
                file.flush()
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # begins to bring it to the disk
        for path in contents:
            with _named(path):
                _sync(temporary[path])
        for path in contents:
            with _named(path):
                os.replace(temporary[path], path)
    finally:
        for left in temporary.values():
            with contextlib.suppress(OSError):
                left.unlink()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open_regular(path) as file:
        return sha256_part(file, 0, sys.maxsize).hex()


def sha256_part(file: BinaryIO, start: int, length: int) -> bytes:
    """Return the SHA-256 of `length` bytes of a file at most."""
    digest, end = hashlib.sha256(), start + length
    file.seek(start)
    for chunk in iter(lambda: file.read(min(CHUNK, end - file.tell())), b""):
        digest.update(chunk)
    return digest.digest()


def sha256_pieces(path: Path) -> str:
    """Return the hexadecimal SHA-256 of the SHA-256s of a file's pieces of `PIECE` bytes, which processes can share."""
    with open_regular(path) as file:
        count = -(-os.fstat(file.fileno()).st_size // PIECE)
        return hashlib.sha256(b"".join(sha256_part(file, number * PIECE, PIECE) for number in range(count))).hexdigest()


@contextlib.contextmanager
def partial_folder(target: Path, marker: str) -> Iterator[Path]:
    """Yield a temporary folder next to `target`: renamed to it when the block succeeds, deleted otherwise.

    Parameters
    ----------
    target : Path
        The folder to make. One that is there already is replaced at the end, if it is empty or holds `marker`.
    marker : str
        Name of a file by which a finished folder of this kind is known.

    Raises
    ------
    DataError
        When `target` holds something else or the current folder, or another process is making it.
    """
    target = Path(target).absolute()
    partial = target.parent / f".{target.name}{PARTIAL}"
    with locked(partial):
        _check_replaceable(target, marker)  # under the lock: another process may be about to give it its name
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield partial
            flush(partial)
            _replace(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _check_replaceable(target: Path, marker: str) -> None:
    if target.exists() and not target.is_dir():
        raise DataError(f"{target}: is a file; expected a folder's name, choose another")
    if Path(os.path.realpath(target)) in (Path.cwd(), *Path.cwd().parents):
        raise DataError(f"{target}: the current folder is there, and would be replaced; expected another folder's name")
    if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():
        raise DataError(f"{target}: holds files but no {marker}, so it was not made here; delete it or choose another")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path` against other processes that lock it; make its folder.

    The lock is on a file beside it, ``.NAME.lock``, which whoever holds the lock deletes. Where a file system knows no locks
    there is none.
    """
    lock = path.absolute().parent / f".{path.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = _take(lock, path)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _take(lock: Path, path: Path) -> int:
    """Open and lock a lock file; open it again if its last holder deleted it meanwhile."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise DataError(f"{path}: another process is writing there; wait for it or stop it") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(handle)
                raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                return handle
        os.close(handle)


def sweep(out: Path) -> None:
    """Delete the temporary files that a killed process left of a file, or in a folder, that is locked now."""
    folder, names = (out, "*") if out.is_dir() else (out.parent, f"{glob.escape(out.name)}.????????")  # others may write beside
    for left in folder.glob(f".{names}{PARTIAL}"):
        if left.is_file():
            left.unlink()


def flush(folder: Path) -> None:
    """See a folder and all that is in it to the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(partial: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(partial, target)
    shutil.rmtree(old, ignore_errors=True)

"""Download one file over HTTP: resume after a break, retry, and rename only a complete file."""
from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Callable, Iterator, Optional, Tuple

from tqdm import tqdm

from data_tools.errors import DataError

WAITS = (1, 2, 5, 10, 30)  # seconds before each new try; the first again whenever something came
TIMEOUT = 60               # seconds without a byte
CHUNK = 1 << 18
AGENT = "skin-lesion-cam"
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # states of a server that a later try may not meet
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


class RefusedError(Exception):
    """The server does not give the file."""


class BrokenError(Exception):
    """The transfer ended early; a retry can resume it."""


class UnreachableError(BrokenError):
    """No connection came about."""


def fetch(url: str, target: Path, check: Callable[[Path], object] = lambda path: None, *, copies: int = 1) -> None:
    """Fetch a file; what came of it is kept as ``.NAME.part``, so that the same call goes on after any break.

    Parameters
    ----------
    url : str
        Where from, ``http:`` or ``https:``.
    target : Path
        The file to make.
    check : callable, optional
        Given the whole file under its temporary name; raises an error for a wrong one, which is then deleted.
    copies : int
        How many times the file's size must be free on the disk (2: it will be unpacked on the same disk).

    Raises
    ------
    DataError
        In one line, with what to do by hand.
    """
    part = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(part):
        try:
            _until_whole(url, part, copies)
        except (BrokenError, RefusedError) as error:
            raise DataError(f"{url}: {error}; put {target.name} into {target.parent}/ by hand, or run this again: it goes on "
                            f"where it broke off") from error
        _keep_if_good(part, check)
        os.replace(part, target)
        _version_file(part).unlink()


@contextlib.contextmanager
def _only_one(part: Path) -> Iterator[None]:
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{part}: another process is fetching it; wait for it or stop it") from error
        yield


def _until_whole(url: str, part: Path, copies: int) -> None:
    """Try until the file is whole; give up soon when nothing was ever reached, late after a connection that broke."""
    failures, limit = 0, 1
    while True:
        before = part.stat().st_size
        try:
            return _transfer(url, part, copies)
        except BrokenError as error:
            limit = limit if isinstance(error, UnreachableError) else len(WAITS)
            failures = 1 if part.stat().st_size > before else failures + 1
            if failures > limit:
                raise
            time.sleep(WAITS[failures - 1])


def _transfer(url: str, part: Path, copies: int) -> None:
    """Try once; return when the file is whole."""
    tag, total = _read_version(part)
    have = part.stat().st_size if tag else 0
    with contextlib.closing(_open(url, have, tag)) as response:
        if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            found = _RANGE.match(response.headers.get("Content-Range", ""))
            if have == total or (found and int(found.group(2)) == have):
                return
            raise _start_anew(part, "the file changed at its source")
        start, total = _extent(response, have, total, part)
        _version_file(part).write_text(f"{_version_of(response)}\n{'' if total is None else total}\n", encoding="utf-8")
        if total is not None:
            _check_disk(part, copies * total - start, total)
        with open(part, "r+b") as file:
            file.seek(start)
            file.truncate()
            _copy(response, file, total, part.name[1:-len(".part")])
    size = part.stat().st_size
    if total is not None and size != total:
        raise BrokenError(f"the connection ended after {size} of {total} bytes")


def _open(url: str, have: int, tag: str) -> Any:
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have:
        headers.update({"Range": f"bytes={have}-", "If-Range": tag})
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error
        problem = f"the server answers {error.code} {error.reason}"
        if error.code in _PASSING:
            raise BrokenError(problem) from None
        raise RefusedError(problem) from None
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"cannot be reached ({getattr(error, 'reason', None) or error})") from None
    except ValueError as error:
        raise RefusedError(f"not an address ({error})") from None


def _extent(response: Any, have: int, expected: Optional[int], part: Path) -> Tuple[int, Optional[int]]:
    """Return the offset of the response's first byte and the file's size; None when the server does not send it."""
    if response.status != http.client.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = _RANGE.match(response.headers.get("Content-Range", ""))
    if not found or found.group(1) != str(have) or expected not in (None, int(found.group(2))):
        raise _start_anew(part, "the server sent another part than the one that was asked for")
    return have, int(found.group(2))


def _copy(response: Any, file: IO[bytes], total: Optional[int], name: str) -> None:
    with tqdm(desc=name, total=total, initial=file.tell(), unit="B", unit_scale=True, disable=None) as bar:
        while True:
            try:
                chunk = response.read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise BrokenError(f"the connection broke off after {file.tell()} bytes ({error})") from None
            if not chunk:
                break
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _check_disk(part: Path, needed: int, total: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DataError(f"{part.parent}: {free / 1e9:.1f} GB are free, {needed / 1e9:.1f} GB are needed for a file of "
                        f"{total / 1e9:.1f} GB; make room or choose another disk")


def _keep_if_good(part: Path, check: Callable[[Path], object]) -> None:
    try:
        check(part)
    except Exception:
        part.unlink()
        _version_file(part).unlink()
        raise


# ---------------------------------------------------------------- which version of the file the part is of
def _version_file(part: Path) -> Path:
    return part.with_suffix(".about")


def _version_of(response: Any) -> str:
    """Return what tells one version of the file from another, as If-Range wants it (RFC 9110: no weak tags)."""
    tag = response.headers.get("ETag", "")
    return str(tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", ""))


def _read_version(part: Path) -> Tuple[str, Optional[int]]:
    """Return the tag and the size of the file that the part is of; without a tag, nothing can go on."""
    try:
        tag, total = _version_file(part).read_text(encoding="utf-8").split("\n")[:2]
        return tag, int(total) if total else None
    except (OSError, ValueError):
        return "", None


def _start_anew(part: Path, why: str) -> BrokenError:
    os.truncate(part, 0)
    return BrokenError(f"{why}; starting anew")

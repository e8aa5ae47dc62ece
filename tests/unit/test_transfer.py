"""Fetching from a local server that breaks off, lies about lengths, ignores ranges, or has nothing."""

import http.server
import random
import re
import shutil
from types import SimpleNamespace

import pytest

from data_tools import transfer
from data_tools.errors import DataError

CONTENT = random.Random(1).randbytes(300_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; `server.behave(handler, number)` may do something else with the number-th request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        self.close_connection = True
        if self.path not in self.server.files:
            self.send_error(404)
        elif not self.server.behave(self, len(self.server.requests)):
            self.answer()

    def answer(self, *, ranges=True, stop=None, length=None, tag='"v1"', headers=()):
        """Send the file, or from the first byte that was asked for; stop after some bytes; tell another length."""
        content = self.server.files[self.path]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked.group(1)) if asked and ranges and self.headers["If-Range"] == tag else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in (("ETag", tag), ("Content-Length", length or len(content) - start), *headers):
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content[start:stop])

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def site(serve):
    address, server = serve(handler=Handler)
    server.files, server.requests, server.behave = {"/a.bin": CONTENT}, [], lambda handler, number: False
    server.url = address.rstrip("/")
    return server


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(transfer, "WAITS", (0, 0, 0))


def fetched(site, folder, **more):
    transfer.fetch(f"{site.url}/a.bin", folder / "a.bin", **more)
    assert [path.name for path in folder.iterdir()] == ["a.bin"]  # nothing else is left
    return (folder / "a.bin").read_bytes()


def kept(folder):
    return (folder / ".a.bin.part").stat().st_size


def test_a_whole_file_arrives_in_one_request(site, tmp_path):
    assert fetched(site, tmp_path) == CONTENT
    assert site.requests == [("/a.bin", None, None)]


def test_after_a_break_the_rest_is_asked_for(site, tmp_path):
    site.behave = lambda handler, number: number < 6 and (handler.answer(stop=50_000 * number), True)
    assert fetched(site, tmp_path) == CONTENT  # five breaks, more than there are waits, but each brought something
    assert [asked for _, asked, _ in site.requests] == [None, *(f"bytes={50_000 * n}-" for n in range(1, 6))]
    assert {tag for _, _, tag in site.requests[1:]} == {'"v1"'}


def test_what_came_is_kept_and_the_next_call_goes_on(site, tmp_path):
    site.behave = lambda handler, number: (handler.answer(stop=100_000), True)
    with pytest.raises(DataError, match=r"a.bin: the connection .* 100000 .*; put a.bin into .* by hand, or run this again"):
        transfer.fetch(f"{site.url}/a.bin", tmp_path / "a.bin")
    assert (kept(tmp_path), len(site.requests), (tmp_path / "a.bin").exists()) == (100_000, 4, False)
    site.behave = lambda handler, number: False
    assert fetched(site, tmp_path) == CONTENT
    assert site.requests[-1][1] == "bytes=100000-"


@pytest.mark.parametrize("tag", [None, 'W/"v1"'])
def test_without_a_tag_nothing_is_pieced_together(site, tmp_path, tag):
    site.behave = lambda handler, number: (handler.answer(stop=1000 if number == 1 else None, tag=tag), True)
    assert fetched(site, tmp_path) == CONTENT
    assert site.requests == [("/a.bin", None, None)] * 2


def test_the_date_serves_as_a_tag(site, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    site.behave = lambda handler, number: (handler.answer(stop=9 if number == 1 else None, tag=None,
                                                          headers=[("Last-Modified", date)]), True)
    assert fetched(site, tmp_path) == CONTENT
    assert site.requests[1] == ("/a.bin", "bytes=9-", date)


def test_a_server_that_ignores_ranges_starts_anew(site, tmp_path):
    site.behave = lambda handler, number: (handler.answer(ranges=False, stop=70_000 if number < 3 else None), True)
    assert fetched(site, tmp_path) == CONTENT
    assert len(site.requests) == 3


def test_a_file_that_changed_meanwhile_is_fetched_whole(site, tmp_path):
    def behave(handler, number):
        if number == 1:
            handler.answer(stop=60_000)
        else:
            site.files["/a.bin"] = b"new" * 1000
            handler.answer(tag='"v2"')
        return True
    site.behave = behave
    assert fetched(site, tmp_path) == b"new" * 1000
    assert len(site.requests) == 2  # nothing of the old file is left over it


def test_another_range_than_the_one_asked_for_is_not_believed(site, tmp_path):
    def behave(handler, number):
        if number == 1:
            handler.answer(stop=60_000)
        elif number == 2:
            handler.send_response(206)
            handler.send_header("ETag", '"v1"')
            handler.send_header("Content-Range", f"bytes 60001-{len(CONTENT) - 1}/{len(CONTENT)}")
            handler.send_header("Content-Length", str(len(CONTENT) - 60_001))
            handler.end_headers()
            handler.wfile.write(CONTENT[60_001:])
        return number < 3
    site.behave = behave
    assert fetched(site, tmp_path) == CONTENT
    assert site.requests[2][1] is None


def test_a_longer_length_than_the_file_is_refused_in_the_end(site, tmp_path):
    site.behave = lambda handler, number: (handler.answer(ranges=False, length=len(CONTENT) + 5), True)
    with pytest.raises(DataError, match=f"the connection .* {len(CONTENT)} "):
        transfer.fetch(f"{site.url}/a.bin", tmp_path / "a.bin")
    assert len(site.requests) == 4


def test_a_shorter_length_than_the_file_is_found_by_the_check(site, tmp_path):
    site.behave = lambda handler, number: (handler.answer(length=1000), True)

    def check(path):
        if path.stat().st_size != len(CONTENT):
            raise DataError("short")
    with pytest.raises(DataError, match=r"^short$"):
        transfer.fetch(f"{site.url}/a.bin", tmp_path / "a.bin", check)
    assert list(tmp_path.iterdir()) == []  # a wrong file is not kept
    site.behave = lambda handler, number: False
    assert fetched(site, tmp_path, check=check) == CONTENT


def test_a_part_that_is_the_whole_file_is_taken(site, tmp_path):
    site.behave = lambda handler, number: number == 1 and (handler.answer(length=len(CONTENT) + 5), True)
    assert fetched(site, tmp_path) == CONTENT  # 416 with the true length
    assert site.requests[1][1] == f"bytes={len(CONTENT)}-"


def test_a_busy_server_is_asked_again(site, tmp_path):
    site.behave = lambda handler, number: number < 3 and (handler.send_error(503), True)
    assert fetched(site, tmp_path) == CONTENT


@pytest.mark.parametrize(("path", "code"), [("/none.bin", 404), ("/a.bin", 403)])
def test_a_refusal_is_final(site, tmp_path, path, code):
    site.behave = lambda handler, number: (handler.send_error(403), True)
    with pytest.raises(DataError, match=rf"{path}: the server answers {code} .*; put x.bin into {tmp_path}/ by hand"):
        transfer.fetch(site.url + path, tmp_path / "x.bin")
    assert len(site.requests) == 1


@pytest.mark.parametrize(("url", "reason"), [("http://127.0.0.1:1/a", "cannot be reached"), ("nonsense", "not an address"),
                                             ("http://no-such-host.invalid/a", "cannot be reached")])
def test_without_a_network_it_ends_in_one_line(tmp_path, url, reason):
    with pytest.raises(DataError, match=f"{reason}.*put a into {tmp_path}/ by hand") as caught:
        transfer.fetch(url, tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_before_anything_comes(site, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=400_000))
    with pytest.raises(DataError, match=r"0.0 GB are free.*make room"):
        transfer.fetch(f"{site.url}/a.bin", tmp_path / "a.bin", copies=2)
    assert kept(tmp_path) == 0
    assert fetched(site, tmp_path) == CONTENT  # one copy fits


def test_two_at_once_are_refused(site, tmp_path):
    with transfer._only_one(tmp_path / ".a.bin.part"), pytest.raises(DataError, match="another process is fetching it"):
        transfer.fetch(f"{site.url}/a.bin", tmp_path / "a.bin")

import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools import files
from data_tools.errors import DataError
from torchcaffe import pictures

RANDOM = np.random.RandomState(0)
COLOUR = cv2.resize(RANDOM.randint(0, 256, (6, 8, 3)).astype(np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)


def jpeg(image=COLOUR, *options):
    return cv2.imencode(".jpg", image, list(options))[1].tobytes()


def png(image=COLOUR):
    return cv2.imencode(".png", image)[1].tobytes()


def with_exif(content, orientation=6, thumbnail=b""):
    """Insert an APP1 segment with an orientation tag, and bytes that stand for a thumbnail."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0) + thumbnail
    body = b"Exif\0\0" + tiff
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]


def read(tmp_path, content, name="p.jpg"):
    (tmp_path / name).write_bytes(content)
    return files.read_image(tmp_path / name)


def test_png_is_read_exactly_in_bgr(tmp_path):
    image = np.zeros((2, 3, 3), np.uint8)
    image[:, 0], image[:, 1], image[:, 2] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    np.testing.assert_array_equal(read(tmp_path, png(image)), image)


def test_grey_alpha_and_16_bit_become_8_bit_bgr(tmp_path):
    grey = COLOUR[:, :, 0]
    expected = np.repeat(grey[:, :, None], 3, 2)
    np.testing.assert_array_equal(read(tmp_path, png(grey)), expected)
    np.testing.assert_array_equal(read(tmp_path, png(np.dstack([COLOUR, grey]))), COLOUR)
    deep = read(tmp_path, png(COLOUR.astype(np.uint16) * 257))
    assert deep.dtype == np.uint8
    np.testing.assert_allclose(deep, COLOUR.astype(int), atol=1)


def test_a_cameras_orientation_tag_does_not_turn_the_picture(tmp_path):
    turned = with_exif(jpeg())
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3)  # what OpenCV would do
    np.testing.assert_array_equal(read(tmp_path, turned), read(tmp_path, jpeg()))


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_cut_jpeg_is_refused_even_with_a_whole_thumbnail_or_padding(tmp_path, share, progressive):
    whole = with_exif(jpeg(COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive), 1, jpeg(COLOUR[:8, :8]))
    assert read(tmp_path, whole).shape == COLOUR.shape
    cut = whole[:1000 + int((len(whole) - 1000) * share)]
    for content in (cut, cut + bytes(1000)):
        with pytest.raises(DataError, match=r"p.jpg: cut off after \d+ bytes"):
            read(tmp_path, content)


def test_a_jpeg_may_have_bytes_after_its_end(tmp_path):
    for tail in (b"\0" * 7, b"\n", b"\xff\xff", b"camera notes"):
        np.testing.assert_array_equal(read(tmp_path, jpeg() + tail), read(tmp_path, jpeg()))


@pytest.mark.parametrize("left", [10, 40, -14, -12, -1])
def test_a_cut_png_is_refused(tmp_path, left):
    with pytest.raises(DataError, match="cut off"):
        read(tmp_path, png()[:left])


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"), (b"version https://git-lfs", "starts with b'version http'"), (b"GIF89a", "starts with"),
    (b"\xff\xd8\xff\xd9", "cannot decode"),
])
def test_what_is_no_picture_is_named(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, content)


def test_absent_file_and_folder(tmp_path):
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            files.read_image(path)


def test_written_png_is_lossless_and_jpeg_has_quality_95(tmp_path):
    files.write_image(tmp_path / "p.png", COLOUR)
    np.testing.assert_array_equal(files.read_image(tmp_path / "p.png"), COLOUR)
    files.write_image(tmp_path / "p.jpg", COLOUR)
    assert (tmp_path / "p.jpg").read_bytes() == jpeg(COLOUR, cv2.IMWRITE_JPEG_QUALITY, 95)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    files.write_atomic(tmp_path / "f", b"old")

    def fail(handle):
        raise OSError(28, "no space")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError, match=r"/f: cannot be written \(no space\)"):
        files.write_atomic(tmp_path / "f", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"f": b"old"}


def test_files_written_together_are_renamed_in_their_order_once_all_are_on_the_disk(tmp_path, monkeypatch):
    seen = []
    sync, replace = files._sync, os.replace
    monkeypatch.setattr(files, "_sync", lambda path: (seen.append("sync"), sync(path)))
    monkeypatch.setattr(files.os, "replace", lambda old, new: (seen.append(new.name), replace(old, new)))
    files.write_together({tmp_path / "b": b"1", tmp_path / "a": b"2"})
    assert seen == ["sync", "sync", "b", "a"]
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"2", b"1"]
    with pytest.raises(DataError, match=r"no/c: cannot be written \(No such file"):
        files.write_together({tmp_path / "a": b"new", tmp_path / "no" / "c": b"3"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"2", "b": b"1"}


def test_small_files_go_to_a_process_together_large_ones_alone(tmp_path):
    sizes = {"large": files.GROUP_BYTES + 1, "middle": files.GROUP_BYTES // 5, "small": 10}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert [files.at_a_time([tmp_path / name] * 10) for name in sizes] == [1, 5, files.TOGETHER]
    assert files.at_a_time([]) == 1 == files.at_a_time([tmp_path / "large", tmp_path / "absent"])


def test_a_locked_folder_loses_what_a_killed_process_left_and_nothing_else(tmp_path):
    for name in (".a.jpg.0123abcd.partial", "b.partial", ".state"):
        (tmp_path / name).write_bytes(b"x")
    with files.locked(tmp_path), pytest.raises(DataError, match="another process is writing there"), files.locked(tmp_path):
        pass
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".state", "b.partial"]
    with files.locked(tmp_path):  # it was freed
        pass


def test_beside_a_locked_file_only_its_own_leftovers_are_deleted(tmp_path):
    for name in (".a[.csv.0123abcd.partial", ".a[.csv.md.0123abcd.partial", ".b.csv.0123abcd.partial"):
        (tmp_path / name).write_bytes(b"x")
    files.sweep(tmp_path / "a[.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a[.csv.md.0123abcd.partial", ".b.csv.0123abcd.partial"]


def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    monkeypatch.setattr(files.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(files.errno.EBADF, "no")))
    with files.locked(tmp_path / "new"):
        assert (tmp_path / ".new.lock").is_file()
    monkeypatch.setattr(files.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(files.errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"), files.locked(tmp_path / "new"):
        pass


def test_too_many_pixels_are_refused_by_the_header(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 48)
    for name, content in (("p.jpg", with_exif(jpeg(), 1, jpeg(COLOUR[:8, :8]))), ("p.png", png())):
        assert read(tmp_path, content, name).shape == COLOUR.shape
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(pictures.cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for name, content in (("p.jpg", with_exif(jpeg(), 1, jpeg(COLOUR[:8, :8]))), ("p.png", png())):
        with pytest.raises(DataError, match="64 x 48 pixels, expected 0 million at most"):
            read(tmp_path, content, name)


def make_folder(target, content=b"new", marker="done"):
    with files.partial_folder(target, marker) as folder:
        (folder / "done").write_bytes(content)


def test_a_folder_appears_whole_replaces_its_own_kind_and_refuses_others(tmp_path):
    target = tmp_path / "a" / "b"
    make_folder(target, b"1")
    make_folder(target, b"2")
    assert (target / "done").read_bytes() == b"2"
    with pytest.raises(DataError, match="holds files but no other"):
        make_folder(target, marker="other")
    with pytest.raises(DataError, match="is a file"):
        make_folder(target / "done")
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_a_folder_whose_making_fails_leaves_the_old_one(tmp_path):
    make_folder(tmp_path / "b", b"1")

    def stop(folder):
        (folder / "sub").mkdir()
        assert (tmp_path / "b" / "done").read_bytes() == b"1"
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), files.partial_folder(tmp_path / "b", "done") as folder:
        stop(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    left = tmp_path / ".b.partial"
    (left / "sub").mkdir(parents=True)
    (left / "junk").write_bytes(b"x")
    make_folder(tmp_path / "b")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["done"]


def test_two_processes_cannot_make_the_same_folder(tmp_path):
    code = ("import sys, numpy; from data_tools.files import partial_folder\n"
            "with partial_folder(sys.argv[1], 'done'): pass")
    with files.partial_folder(tmp_path / "b", "done") as folder:
        (folder / "done").write_bytes(b"mine")
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], stderr=subprocess.PIPE, check=False,
                               env={**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])})
        assert b"another process is writing there" in other.stderr
    assert (tmp_path / "b" / "done").read_bytes() == b"mine"

"""Small files that ask for much memory or time: one line within seconds, below 2 GB."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from torchcaffe.proto import caffe_pb2 as pb

from . import hostile, limited

ROOT = Path(__file__).resolve().parents[2]
READ_ANY = ("import sys, pathlib, pycam.__main__; from pycam.two_stages import read_any\n"
            "from data_tools.errors import DataError\ntry: read_any(pathlib.Path(sys.argv[1]))\n"
            "except DataError as error: sys.exit(f'error: {error}')")
READ_MASK = READ_ANY.replace("pycam.two_stages import read_any", "pycam.studies.localization import read_mask").replace(
    "read_any(pathlib.Path(sys.argv[1]))", "read_mask(pathlib.Path(sys.argv[1]), (9, 9))")
DECODE = ("import sys, torchcaffe as caffe; from torchcaffe.records import decode, read_picture\n"
          "try: read_picture(sys.argv[1], 0, 0, True)\nexcept caffe.CaffeError as error: sys.exit(f'error: {error}')")


def hidden_frame():
    """Return a JPEG file of 25000 x 25000 whose frame a walk overlooks that gives every marker a length."""
    huge = b"\xff\xd8\xff\x01" + b"\xff\xfe\0\4xx" + hostile.jpeg_with_size(25000, 25000)[2:]
    return huge[:-2].ljust(65534 + 4, b"\0") + hostile.encode(".jpg")[2:]


def many_scans():
    """Return a JPEG file of the largest size with thousands of scans over all of it."""
    content = bytearray(hostile.encode(".jpg", hostile.COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    at = content.index(b"\xff\xc2") + 5
    content[at:at + 4] = struct.pack(">HH", 5000, 8000)
    scan = content.rindex(b"\xff\xda")
    return bytes(content[:scan] + content[scan:-2] * 3000 + b"\xff\xd9")


def tiff(folder):
    Image.new("1", (30000, 30000)).save(folder / "p.tif", compression="group4")
    return (folder / "p.tif").read_bytes()


def webp():
    content = bytearray(hostile.encode(".webp", hostile.COLOUR, cv2.IMWRITE_WEBP_QUALITY, 101))
    at = content.index(b"VP8L") + 9
    content[at:at + 4] = struct.pack("<I", 16382 | 16382 << 14 | struct.unpack("<I", content[at:at + 4])[0] & 0xf << 28)
    return bytes(content)


PICTURES = {
    "hidden frame.jpg": lambda _: hidden_frame(), "many scans.jpg": lambda _: many_scans(), "p.tif": tiff,
    "p.webp": lambda _: webp(),
    "p.png": lambda _: hostile.png(30000, 30000, 1, 0, bytes(3751 * 3000)),
    "p.bmp": lambda _: b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0),
    "p.ppm": lambda _: b"P6\n60000 60000\n255\n" + bytes(1000), "sparse.png": lambda _: None, "sparse.tif": lambda _: None,
}
READERS = {"read_any": READ_ANY, "read_mask": READ_MASK, "read_picture": DECODE}
CASES = [*((name, "read_any") for name in PICTURES), ("hidden frame.jpg", "read_picture"), ("p.png", "read_mask")]


def check(code, lines, peak, words):
    lines = [line for line in lines if not line.startswith("note: ")]
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert peak < 1e9


@pytest.mark.parametrize(("name", "reader"), CASES)
def test_pictures(tmp_path, name, reader):
    content, path = PICTURES[name](tmp_path), tmp_path / name
    with open(path, "wb") as file:
        if content is None:
            file.truncate(4 << 30)
        else:
            file.write(content)
    words = "bytes, expected" if content is None else "scans" if "scans" in name else "million"
    check(*limited.run(["-c", READERS[reader], path], tmp_path), words)


def test_a_chunk_that_is_larger_than_any_file(tmp_path):
    content = bytearray(hostile.encode(".png"))
    at = content.index(b"IDAT") - 4
    content[at:at] = b"\x7f\0\0\0fcTL"  # OpenCV takes 2 GB for it
    (tmp_path / "p.png").write_bytes(content)
    check(*limited.run(["-c", DECODE, tmp_path / "p.png"], tmp_path), "a chunk of more than")


def test_a_step(tmp_path):
    (tmp_path / "p.jpg").write_bytes(hidden_frame())
    (tmp_path / "groundtruth.csv").write_text("image_id,melanoma,seborrheic_keratosis\np,1,0\n")
    for words in (["lmdb", "--augment", "none"], ["clean"]):
        command = ["-m", "data_tools", *words, "--images", tmp_path, "--out", tmp_path / "out", "--jobs", "1"]
        check(*limited.run(command, tmp_path), "25000 x 25000 pixels")


def test_float_pictures_are_refused_without_lines_of_opencv(tmp_path):
    (tmp_path / "p.tif").write_bytes(hostile.encode(".tif", np.zeros((9, 9, 2), np.float32)[..., 0]))
    check(*limited.run(["-c", READ_ANY, tmp_path / "p.tif"], tmp_path), "cannot decode")


def test_datums_are_bounded_like_files():
    from torchcaffe.errors import CaffeError
    from torchcaffe.records import decode
    with pytest.raises(CaffeError, match="25000 x 25000 pixels"):
        decode(pb.Datum(encoded=True, data=hidden_frame()), pb.TransformationParameter())


# ---------------------------------------------------------------- weights
def sparse(path, size, head=b""):
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def varint(value):
    more = []
    while value > 127:
        more.append(value & 127 | 128)
        value >>= 7
    return bytes([*more, value])


def field(number, length):
    return varint(number << 3 | 2) + varint(length)


def as_layer(size):
    """Return the start of a weights file whose one layer, `conv1_1`, has one blob of zeros that goes on to `size`."""
    shape = pb.BlobShape(dim=[(size - 100) // 4]).SerializeToString()
    blob = field(7, len(shape)) + shape + field(5, (size - 100) // 4 * 4)
    layer = b"\x0a\x07conv1_1" + field(7, len(blob) + (size - 100) // 4 * 4) + blob
    return field(100, len(layer) + (size - 100) // 4 * 4) + layer


@pytest.mark.slow
def test_weights(tmp_path):
    net, size = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt", 2_000_000_000
    head = as_layer(size)
    whole = len(head) + (size - 100) // 4 * 4
    load = ("import sys, torchcaffe as caffe\ntry: caffe.Net(sys.argv[1], caffe.TEST, weights=sys.argv[2])\n"
            "except caffe.CaffeError as error: sys.exit(f'error: {error}')")
    cases = [(b"", 4 << 30, "bytes, expected"), (b"", size, "no NetParameter"), (head, whole, "holds 1 blobs")]
    for content, length, words in cases:
        path = sparse(tmp_path / "w.caffemodel", length, content)
        check(*limited.run(["-c", load, net, path], tmp_path), words)
        command = ["-m", "pycam", "weights", "--net", net, "--weights", path, "--engine", "torch"]
        code, lines, peak = limited.run(command, tmp_path)
        assert code == (0 if content else 1), lines  # what is found in a whole file is told in a table
        assert peak < 1e9


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/dev/zero", "sparse"])
def test_solvers_nets_and_states(tmp_path, path):
    (tmp_path / "net.prototxt").write_text('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 1 lr_policy: "fixed"')
    sparse(tmp_path / "sparse", 3 << 30)
    training = ["train", "-solver", "solver.prototxt"]
    for words in (["train", "-solver", path], ["test", "-model", path, "-weights", path], [*training, "-snapshot", path],
                  [*training, "-weights", path]):
        code, lines, peak = limited.run(["-m", "torchcaffe", *words], tmp_path)
        assert code == 1, (words, lines)
        assert "not a regular file" in lines[-1] or "bytes, expected" in lines[-1]
        assert peak < 1e9

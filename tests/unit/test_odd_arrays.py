"""Files of arrays that are not what they should be: `weights import` says in one line what is wrong with them."""

import struct
import zipfile

import h5py
import numpy as np
import pytest

from data_tools.commands import sentence
from pycam import weight_arrays
from pycam.errors import CamError

KERNEL, BIAS = "block1_conv1/kernel", "block1_conv1/bias"


def external(file):
    del file[KERNEL]
    file["block1_conv1"].create_dataset("kernel", (3, 3, 3, 8), np.float32, external=[("/etc/passwd", 0, 864)])


def cycle(file):
    file["block1_conv1/again"] = file["block1_conv1"]


def put(name, value):
    def change(file):
        del file[name]
        file[name] = value
    return change


KERAS = {
    "text": (put(KERNEL, "abc"), "expected numbers"), "complex": (put(KERNEL, np.zeros(3, complex)), "expected numbers"),
    "compound": (put(KERNEL, np.zeros(6, [("a", "f4")])), "expected numbers"),
    "empty": (put(KERNEL, h5py.Empty("f4")), "no array"),
    "soft link": (put(KERNEL, h5py.SoftLink(f"/{BIAS}")), "is a link"),
    "external link": (put("block1_conv1", h5py.ExternalLink("/tmp/other.h5", "/x")), "is a link"),
    "dataset for a group": (put("block1_conv1", np.zeros(3)), "is no group"),
    "external storage": (external, "lies in other files"), "cycle": (cycle, "objects, or groups in more than"),
    "type": (lambda file: file["block1_conv1"].__setitem__("t", np.dtype("f4")), "is no array"),
    "bytes for a name": (lambda file: h5py.h5g.create(file["block1_conv1"].id, b"a\xff"), "not Keras"),
    "not finite": (put(BIAS, np.full(8, np.inf, np.float32)), "not finite"), "nothing": (lambda file: file.clear(), "no arrays")}


@pytest.mark.parametrize("case", KERAS)
def test_keras(tmp_path, case, capfd):
    change, words = KERAS[case]
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file[KERNEL], file[BIAS] = np.zeros((3, 3, 3, 8), np.float32), np.zeros(8, np.float32)
        change(file)
    refused(tmp_path / "w.h5", words)
    assert capfd.readouterr().err == ""


def npy(shape, descr="'<f4'", data=bytes(32)):
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


ARRAYS = {
    "objects": (npy("(8,)", "'|O'"), "holds object"), "negative": (npy("(-8,)"), "shape"), "half": (npy("(8.0,)"), "shape"),
    "huge": (npy("(99999999999999999999,)"), "a blob of shape"), "open brackets": (npy("(" * 9000), "neither"),
    "code": (npy("(exit(),)"), "neither"), "short": (npy("(80,)"), "neither"), "no header": (b"", "neither"),
    "long header": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(99), "neither"),
    "another version": (npy("(8,)").replace(b"\1\0", b"\x09\0", 1), "neither")}


@pytest.mark.parametrize("case", ARRAYS)
def test_npz(tmp_path, case):
    content, words = ARRAYS[case]
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("conv1_1_w.npy", content)
    refused(tmp_path / "w.npz", words)


def test_an_encrypted_archive(tmp_path):
    np.savez(tmp_path / "w.npz", conv1_1_w=np.zeros(8))
    content = bytearray((tmp_path / "w.npz").read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "w.npz").write_bytes(content)
    refused(tmp_path / "w.npz", "encrypted")


def refused(path, words):
    with pytest.raises(CamError, match=words) as caught:
        weight_arrays.read(path)
    assert sentence(caught.value).isprintable()

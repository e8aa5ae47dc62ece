"""The failures of docs/faq.md, in the order of its lines: each spoils the small repository and names a command."""

import os
import re
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

from data_tools import estimate
from pycam import checks
from tests.docs import markdown
from torchcaffe.proto import caffe_pb2

NET = Path("prototxt/vgg_gap_train_val.prototxt")
SOLVER = Path("solvers/stage1.prototxt")
DATABASE = Path("build/lmdb/stage1_train")
TRAIN = f"pycam train --engine torch --stage stage1 --solver {SOLVER}"
AGAIN = f"{TRAIN} --into again"  # not up to date
VALIDATION = "--net prototxt/vgg_gap_deploy.prototxt --weights build/stage1 --images build/clean/val"
LMDB = "data_tools lmdb --images build/clean/train --out build/lmdb --augment none --jobs 1"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def set_solver(**fields):
    for name, value in fields.items():
        text, count = re.subn(rf"(?m)^{name}: .*", f"{name}: {value}", SOLVER.read_text())
        assert count == 1
        SOLVER.write_text(text)


def no_caffe(patch):
    patch.setitem(sys.modules, "caffe", None)  # which no Python can import
    return f"pycam predict {VALIDATION} --out build/p.csv --engine caffe"


def sizes(patch):
    shutil.rmtree("build/lmdb")
    return LMDB


def full_disk(patch):
    shutil.rmtree("build/lmdb")
    patch.setattr(estimate.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    return LMDB


def no_database(patch):
    shutil.rmtree(DATABASE)
    return TRAIN


def half_a_database(patch):
    data = DATABASE / "data.mdb"
    data.write_bytes(data.read_bytes()[:5000])
    return f"data_tools verify {DATABASE}"


def half_a_picture(patch):
    picture = sorted(Path("build/clean/train").glob("*.jpg"))[0]
    picture.write_bytes(picture.read_bytes()[:2000])
    shutil.rmtree("build/lmdb")
    return LMDB


def too_many_pixels(patch):
    parts = [b"IHDR" + struct.pack(">IIBBBBB", 25000, 25000, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND"]
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    Path("large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return "data_tools hair-preview large.png --out large.jpg"


def no_regular_file(patch):
    os.mkfifo("pipe.csv")
    return "data_tools lmdb --images build/clean/train --truth pipe.csv --out build/lmdb/piped"


def red_first(patch):
    edit(DATABASE / "manifest.json", '"BGR"', '"RGB"')
    return AGAIN


def other_mean(patch):
    edit(NET, "mean_value: 103.939", "mean_value: 104")
    return TRAIN


def copies(patch):
    root = Path("data/isic2017")
    first, other = (sorted((root / split).glob("*.jpg"))[0] for split in ("train", "val"))
    shutil.copy(other, first)
    return f"data_tools clean --isic {root} --split train --out build/again --hair none --jobs 1"


def unknown_label(patch):
    truth = Path("mine/train/groundtruth.csv")
    lines = truth.read_text().splitlines()
    lines[1] = lines[1].split(",")[0] + ",2,0"
    truth.write_text("\n".join(lines))
    return "data_tools lmdb --images mine/train --out build/x"


def two_outputs(patch):
    edit(NET, "num_output: 3", "num_output: 2")
    return TRAIN


def no_weights(patch):
    shutil.copy(markdown.ROOT / NET, NET)
    shutil.rmtree("build/stage1")
    return TRAIN


def not_finite(patch):
    set_solver(base_lr="1e30", display=1)
    return f"{TRAIN} --fresh"


def wrong_weights(change):
    net = caffe_pb2.NetParameter.FromString(Path("build/stage1/final.caffemodel").read_bytes())
    for layer in net.layer:
        change(layer)
    Path("wrong.caffemodel").write_bytes(net.SerializeToString())
    return f"{TRAIN} --fresh --weights wrong.caffemodel"


def other_shape(patch):
    def change(layer):
        if layer.name == "CAM_fc3":
            layer.blobs[0].CopyFrom(caffe_pb2.BlobProto(data=np.zeros(1000 * 128)))
            layer.blobs[0].shape.dim.extend([1000, 128])
    return wrong_weights(change)


def other_names(patch):
    def change(layer):
        layer.name = f"my_{layer.name}"
    return wrong_weights(change)


def weights_for_state(patch):
    return f"torchcaffe train -solver {SOLVER} -snapshot build/stage1/final.caffemodel"


def other_solver(patch):
    set_solver(base_lr="0.5")
    return f"{TRAIN} --weights data/weights/vgg16CAM_train_iter_90000.caffemodel"


def no_folder(patch):
    set_solver(snapshot_prefix='"nowhere/vgg_gap"')
    return f"torchcaffe train -solver {SOLVER}"


def no_memory(patch):
    Path("meminfo").write_text("MemAvailable: 1000 kB\n")
    patch.setattr(checks, "MEMORY", Path("meminfo"))
    return AGAIN


def short_test(patch):
    return AGAIN


def true_class(patch):
    return f"pycam crops {VALIDATION} --out build/x --class true"


FAILURES = [no_caffe, sizes, full_disk, no_database, half_a_database, half_a_picture, too_many_pixels, no_regular_file, red_first,
            other_mean, copies, unknown_label, two_outputs, no_weights, not_finite, other_shape, other_names, weights_for_state,
            other_solver, no_folder, no_memory, short_test, true_class]

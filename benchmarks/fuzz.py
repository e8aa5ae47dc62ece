"""Give damaged files to everything that reads one: each must be read or refused in one line, within seconds, below 2 GB.

example: python benchmarks/fuzz.py --cases 1000000 --jobs 2 --out docs/results/fuzz.json

A case is made of the seed and its number alone, so that one can be repeated: --first 4711 --cases 1.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from torchcaffe.limits import guard_decoder

guard_decoder()  # before the modules below load OpenCV

import cv2
import h5py
import numpy as np
from google.protobuf import message

from data_tools import isic
from data_tools.errors import DataError
from data_tools.files import read_image
from data_tools.lmdb_io import decode_datum
from pycam import predictions, trainlog, weight_arrays
from pycam.errors import CamError
from torchcaffe import io as caffe_io
from torchcaffe import netparam, records, snapshot
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2 as pb

ROOT = Path(__file__).resolve().parents[1]
SECONDS, MEMORY, PART = 10, 2e9, 5000  # of a case, of a process; cases that a process takes
ROOM = {"fc": 20}
LOG = b"".join(b"I1127 08:00:00.000000  7 solver.cpp:1] %s\n" % line for line in (
    b"Iteration 0, Testing net (#0)", b"    Test net output #0: accuracy = 0.5",
    b"    Test net output #1: loss = 1.1 (* 1 = 1.1 loss)",
    b"Iteration 0 (5 iter/s, 2s/10 iters), loss = 1.25", b"Iteration 0, lr = 0.01", b"Iteration 10, loss = 0.5"))
NUMBERS = (b"0", b"-1", b"2147483648", b"1e400", b"nan", b"-0", b"9" * 40, b"0.5.", b"\xd9\xa1", b"1_0", b"true", b"null", b"[]")
PIECES = (b"\0", b"\xff", b"\xed\xb3\xbf", b"\xef\xbb\xbf", b'"', b",", b"\n", b"\r", b"{", b"}", b"[", b":", b"../", b"$",
          b"\xff\x01", b"\xff\xc0", b"\xff\xd8", b"\xff\xd9", b"\xff\xff\xff\x7f", b"\x80" * 11)
SHAPES = [(4, 4), (4,)]
REFUSED = (CaffeError, CamError, DataError)
Reader = Callable[[str], Any]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Change bytes in a few places: flip, cut, repeat, put in a number or a piece that has a meaning somewhere."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4, 10])):
        at = chance.randrange(len(changed) + 1)
        end, kind = at + chance.choice([1, 1, 2, 4, 30]), chance.randrange(7)
        if kind == 0:
            changed[at:at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del changed[at:end]
        elif kind == 2:
            changed[at:at] = changed[at:end] * chance.choice([1, 1, 50])
        elif kind == 3:
            changed[at:end] = chance.choice(NUMBERS)
        elif kind == 4:
            changed[at:at] = chance.choice(PIECES)
        elif kind == 5:
            changed[at:end] = bytes(chance.randrange(256) for _ in range(end - at))
        else:
            del changed[at if chance.random() < 0.1 else len(changed):]
    return bytes(changed)


# ---------------------------------------------------------------- whole files
def pictures() -> Dict[str, bytes]:
    """Return a picture as JPEG (both kinds), PNG, TIFF, WebP and BMP."""
    image = cv2.resize(np.random.RandomState(0).randint(0, 256, (6, 8, 3)).astype(np.uint8), (48, 32))
    kinds = {"jpeg": (".jpg", []), "progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), "png": (".png", []),
             "tiff": (".tif", []), "webp": (".webp", []), "bmp": (".bmp", [])}
    return {name: cv2.imencode(end, image, options)[1].tobytes() for name, (end, options) in kinds.items()}


def in_hdf5(content: Dict[str, Any]) -> bytes:
    """Return an HDF5 file of datasets."""
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        for name, value in content.items():
            made[name] = value
    return file.getvalue()


def in_npz(**arrays: np.ndarray) -> bytes:
    """Return an .npz file."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def add_blobs(message: Any) -> None:
    """Add the two blobs of the layer `fc` to a repeated field."""
    for shape in SHAPES:
        message.add(data=[0.5] * int(np.prod(shape))).shape.dim.extend(shape)


# ---------------------------------------------------------------- readers
def net(path: str) -> None:
    """Read a net as an engine does before its layers are made."""
    netparam.insert_splits(netparam.filter_net(netparam.read_net(path)))


def datums(path: str) -> None:
    """Read a record by both packages."""
    value = Path(path).read_bytes()
    for read in (lambda: decode_datum(value, path), lambda: records.decode(parsed(value), pb.TransformationParameter())):
        with contextlib.suppress(*REFUSED):
            read()


def parsed(value: bytes) -> Any:
    """Parse a Datum; what is none is refused by the reader of an LMDB."""
    try:
        return pb.Datum.FromString(value)
    except message.DecodeError as error:
        raise CaffeError(str(error)) from None


def arrays(path: str) -> None:
    """Read the layers that fit a net, as an import does."""
    shapes = weight_arrays.shapes(Path(path))
    weight_arrays.read(Path(path), [layer for layer, found in shapes.items() if found == SHAPES])


def position(path: str) -> None:
    """Read the position of the data beside a state."""
    beside = Path(path).with_suffix(".datastate")
    Path(path).replace(beside)
    snapshot.read_position(str(beside.with_suffix(".solverstate")), 2)


def targets() -> Dict[str, Tuple[bytes, List[Reader]]]:
    """Return by name a whole file and what reads it."""
    model, old = pb.NetParameter(name="n"), pb.NetParameter()
    add_blobs(model.layer.add(name="fc", type="InnerProduct").blobs)
    old.layers.add(name="fc", type=14).blobs.add(num=1, channels=1, height=4, width=4, data=[0.5] * 16)
    state = pb.SolverState(iter=3, learned_net="a.caffemodel", current_step=1)
    add_blobs(state.history)
    datum = pb.Datum(channels=3, height=4, width=4, data=bytes(48), label=1)
    encoded = pb.Datum(encoded=True, data=pictures()["jpeg"], label=1)
    square, line = np.zeros((4, 4), np.float32), np.zeros(4, np.float32)
    labels = b"image_id,melanoma,seborrheic_keratosis\nISIC_0000001,1,0\nISIC_0000002,0.0,1.0\nISIC_0000003,0,0\n"
    probs = b"image_id,melanoma,seborrheic_keratosis,nevus\nISIC_0000001,0.1,0.2,0.7\nISIC_0000002,1e-3,0.5,0.499\n"
    image = [read_image, lambda path: records.read_picture(path, 9, 9, True), caffe_io.load_image]
    return {
        "net": ((ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt").read_bytes(), [net]),
        "solver": ((ROOT / "solvers" / "stage1.prototxt").read_bytes(), [netparam.read_solver]),
        "caffemodel": (model.SerializeToString(), [lambda path: snapshot.read_weights(path, ROOM), snapshot.read_shapes]),
        "old caffemodel": (old.SerializeToString(), [lambda path: snapshot.read_weights(path, ROOM), snapshot.read_shapes]),
        "state": (state.SerializeToString(), [lambda path: snapshot.read_state(path, 20)]),
        "hdf5 weights": (in_hdf5({"data/fc/0": square, "data/fc/1": line}), [lambda path: snapshot.read_weights(path, ROOM)]),
        "hdf5 state": (in_hdf5({"iter": 3, "current_step": 1, "learned_net": np.bytes_(b"a"), "history/0": square,
                                "history/1": line}), [lambda path: snapshot.read_state(path, 20)]),
        "npz": (in_npz(fc_w=square, fc_b=line), [arrays]),
        "datum": (datum.SerializeToString(), [datums]), "encoded datum": (encoded.SerializeToString(), [datums]),
        "labels": (labels, [lambda path: isic.read_groundtruth(Path(path))]),
        "predictions": (probs, [lambda path: predictions.read(Path(path))]),
        "log": (LOG, [lambda path: trainlog.read(Path(path))]),
        "position": (b'[{"data": 5}, {"data": 7}]', [position]),
        **{name: (content, image) for name, content in pictures().items()},
    }


# ---------------------------------------------------------------- cases
def attempt(read: Reader, path: str) -> str:
    """Return what became of a file: read, refused, or what else happened."""
    before = peak()
    signal.alarm(SECONDS)
    try:
        read(path)
        said = "read"
    except REFUSED:  # command lines join what stands in several lines
        said = "refused"
    except BaseException as error:
        said = f"{error!r}\n{traceback.format_exc(limit=-4)}"
    finally:
        signal.alarm(0)
    return f"{said}, with {peak() / 1e9:.1f} GB" if peak() > MEMORY > before else said


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def too_long(*_: Any) -> None:
    """Answer the alarm."""
    raise TimeoutError(f"more than {SECONDS} s")


def part(seed: int, first: int, count: int) -> None:
    """Give some cases to their readers in this process; print the counts as JSON. A file `last` has the case at work."""
    signal.signal(signal.SIGALRM, too_long)
    known, counts, wrong = targets(), collections.Counter(), []
    names = list(known)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            chance = random.Random(f"{seed} {number}")
            name = names[number % len(names)]
            whole, readers = known[name]
            content, path = mutate(whole, chance), os.path.join(folder, "case")
            for read in readers:
                Path(path).write_bytes(content)
                said = attempt(read, path)
                counts[name, said if said in ("read", "refused") else "wrong"] += 1
                if said not in ("read", "refused"):
                    wrong.append({"case": number, "kind": name, "fault": said[-1500:], "content": repr(content)[:500]})
    print(json.dumps({"counts": [[*key, value] for key, value in counts.items()], "wrong": wrong,
                      "peak": peak()}))


def run_part(seed: int, first: int, count: int) -> Dict[str, Any]:
    """Run some cases in a process of their own, which a fault in a library would end."""
    words = [sys.executable, __file__, "--seed", str(seed), "--first", str(first), "--cases", str(count), "--here"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOG_minloglevel": "3"}
    try:
        done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
                              timeout=SECONDS * 2 + count / 20)
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        fault = f"the process ended with {done.returncode}"
    except subprocess.TimeoutExpired:  # a library that does not come back is deaf to the alarm
        fault = f"more than {SECONDS * 2} s"
    if count > 1:  # which one was it?
        return joined([run_part(seed, first, count // 2), run_part(seed, first + count // 2, count - count // 2)])
    return {"counts": [], "wrong": [{"case": first, "fault": fault}], "peak": 0}


def joined(parts: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Add the counts of some parts."""
    counts: collections.Counter[Tuple[str, str]] = collections.Counter()
    for one in parts:
        counts.update({(name, said): count for name, said, count in one["counts"]})
    return {"counts": [[*key, value] for key, value in sorted(counts.items())],
            "wrong": [fault for one in parts for fault in one["wrong"]], "peak": max(one["peak"] for one in parts)}


def main() -> int:
    """Run the cases; return 1 where one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("cases", 10_000), ("seed", 1), ("first", 0), ("jobs", os.cpu_count() or 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--here", action="store_true", help="in this process, and print all that was counted")
    parser.add_argument("--out", type=Path, help="store the counts there")
    args = parser.parse_args()
    if args.here:
        part(args.seed, args.first, args.cases)
        return 0
    start, end = time.perf_counter(), args.first + args.cases
    with ThreadPoolExecutor(args.jobs) as pool:
        found = joined(list(pool.map(lambda at: run_part(args.seed, at, min(PART, end - at)), range(args.first, end, PART))))
    result = {"cases": args.cases, "seed": args.seed, "first": args.first, "seconds": round(time.perf_counter() - start),
              "python": platform.python_version(), "opencv": cv2.__version__, "h5py": h5py.__version__, **found}
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text if len(text) < 20_000 else text[:20_000])
    return int(bool(found["wrong"]) or found["peak"] > MEMORY)


if __name__ == "__main__":
    sys.exit(main())

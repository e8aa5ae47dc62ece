"""Time clean and lmdb with one and two processes, and LMDB writing beside real Caffe's convert_imageset for the same records.

convert_imageset cannot augment, so it is given every record as a file, made beforehand and not timed; ours starts from the
pictures. Both flush to the disk. Wall-clock seconds need a quiet machine; processor seconds, of all processes of a command,
hardly depend on it. Prints the seconds, and with --json stores them.

example: python benchmarks/data.py --images data/isic2017/train --json docs/results/data.json
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from data_tools.isic import load_samples, write_groundtruth
from data_tools.lmdb_io import decode_datum, read_records
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[1]
CHECKED = 200  # every so manieth record of both LMDBs is decoded and compared
Times = Dict[str, float]


def timed(words: List[str]) -> Times:
    """Run a command that must succeed; return its wall-clock and processor seconds."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"error: {' '.join(words)}: {done.stderr[-500:]}")
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def data_tools(*words: object) -> Times:
    return timed([sys.executable, "-m", "data_tools", *map(str, words)])


def choose(images: Path, truth: Path, count: int, folder: Path) -> Path:
    """Link the first pictures of a split into a source folder."""
    folder.mkdir()
    samples = load_samples(images, truth)[:count]
    for sample in samples:
        (folder / sample.path.name).symlink_to(sample.path.resolve())
    write_groundtruth(folder / "groundtruth.csv", {sample.image_id: sample.label for sample in samples})
    return folder


def write_files(database: Path, folder: Path) -> Path:
    """Write every JPEG record of an LMDB as a file, and the list that convert_imageset reads; return the list."""
    folder.mkdir()
    with open(f"{folder}.txt", "w", encoding="utf-8") as table:
        for key, value in read_records(database):
            datum = caffe_pb2.Datum.FromString(value)
            (folder / f"{key.decode()}.jpg").write_bytes(datum.data)
            table.write(f"{key.decode()}.jpg {datum.label}\n")
    return Path(f"{folder}.txt")


def check_same(ours: Path, theirs: Path) -> int:
    """See that two LMDBs hold the same pictures and labels in the same order; return the number of records."""
    count = 0
    for count, ((_, mine), (_, other)) in enumerate(zip(read_records(ours), read_records(theirs)), start=1):
        if count % CHECKED == 0:
            (image, label), (expected, its_label) = decode_datum(mine, "ours"), decode_datum(other, "Caffe's")
            if label != its_label or not np.array_equal(image, expected):
                sys.exit(f"error: record {count} of {ours} and {theirs} differ")
    return count


def beside_caffe(clean: Path, folder: Path, caffe: Path, encoding: str) -> Tuple[int, Dict[str, Times]]:
    """Write the same records with convert_imageset, and with one and two processes of ours."""
    times = {f"ours, {jobs} jobs": data_tools("lmdb", "--images", clean, "--out", folder / encoding, "--encoding", encoding,
                                             "--jobs", jobs) for jobs in (1, 2)}
    files = folder / "files"
    if not files.exists():
        write_files(folder / encoding, files)
    flags = ["--encoded", "--encode_type=jpg"] if encoding == "jpg" else []
    times["convert_imageset"] = timed([str(caffe / "convert_imageset"), *flags, f"{files}/", f"{files}.txt", f"{folder}/caffe"])
    if encoding == "jpg":  # a raw record of ours comes from the picture, one of Caffe's from a JPEG of it
        check_same(folder / encoding, folder / "caffe")
    subprocess.run(["rm", "-rf", str(folder / "caffe")], check=True)
    return sum(1 for _ in open(f"{files}.txt", encoding="utf-8")), times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--truth", type=Path, help="their labels; groundtruth.csv of the folder by default")
    parser.add_argument("--count", type=int, default=2000, help="pictures of it")
    parser.add_argument("--caffe", type=Path, default=ROOT / ".caffe" / "bin")
    parser.add_argument("--encodings", nargs="+", default=["jpg", "raw"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result: Dict[str, object] = {"pictures": args.count, "processors": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = choose(args.images, args.truth or args.images / "groundtruth.csv", args.count, folder / "source")
        result["clean"] = {f"ours, {jobs} jobs": data_tools("clean", "--images", source, "--out", folder / f"clean{jobs}",
                                                           "--jobs", jobs) for jobs in (1, 2)}
        for encoding in args.encodings:
            result["records"], result[encoding] = beside_caffe(folder / "clean1", folder, args.caffe, encoding)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Time clean and lmdb with one and two processes, and LMDB writing beside real Caffe's convert_imageset for the same records.

convert_imageset cannot augment, so it is given every record as a file, made beforehand and not timed; ours starts from the
pictures. Both flush to the disk. Two programs that share nothing, with half the pictures each, show what two processors of
this machine have to give. Medians of interleaved rounds; wall-clock seconds need a quiet machine, processor seconds, of all
processes of a command, hardly depend on it. Prints the seconds, and with --json stores them.

example: python benchmarks/data.py --images data/isic2017/train --json docs/results/data.json
"""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from data_tools import manifest
from data_tools.isic import load_samples, write_groundtruth
from data_tools.lmdb_io import decode_datum, read_records
from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[1]
CHECKED = 200  # every so manieth record of both LMDBs is decoded and compared
Times = Dict[str, float]


def timed(*commands: List[str]) -> Times:
    """Run commands at once, which must succeed; return their wall-clock and processor seconds together."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
               for words in commands]
    errors = [program.communicate()[1] for program in running]
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    for words, program, error in zip(commands, running, errors):
        if program.returncode:
            sys.exit(f"error: {' '.join(words)}: {error[-500:]}")
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def ours(command: str, sources: List[Path], out: Path, jobs: int, *options: str) -> Times:
    """Run one of our commands anew, at once for each source; what it makes of the first is left in `out`."""
    outs = [out, *(out.with_name(f"{out.name}_{number}") for number in range(1, len(sources)))]
    for folder in outs:
        shutil.rmtree(folder, ignore_errors=True)
    start = [sys.executable, "-m", "data_tools", command, "--jobs", str(jobs), *options]
    return timed(*([*start, "--images", str(source), "--out", str(made)] for source, made in zip(sources, outs)))


def in_turn(whole: Path, halves: List[Path], command: str, out: Path, *options: str) -> Dict[str, Times]:
    """Time a command with one and two jobs, and as two programs; the result of two jobs is left in `out`."""
    return {"ours, 1 jobs": ours(command, [whole], out, 1, *options),
            "two programs, half each": ours(command, halves, out.with_name(f"{out.name}_half"), 1, *options),
            "ours, 2 jobs": ours(command, [whole], out, 2, *options)}


def medians(rounds: List[Dict[str, Times]]) -> Dict[str, Times]:
    return {name: {kind: statistics.median(one[name][kind] for one in rounds) for kind in ("wall", "cpu")} for name in rounds[0]}


def choose(images: Path, truth: Path, part: slice, folder: Path) -> Path:
    """Link some pictures of a split into a source folder."""
    folder.mkdir()
    samples = load_samples(images, truth)[part]
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


def beside_caffe(made: Path, folder: Path, caffe: Path, encoding: str) -> Times:
    """Write the records of an LMDB of ours with convert_imageset, and see that they are the same."""
    files, out = folder / "files", folder / "caffe"
    if not files.exists():
        write_files(made, files)
    flags = ["--encoded", "--encode_type=jpg"] if encoding == "jpg" else []
    times = timed([str(caffe / "convert_imageset"), *flags, f"{files}/", f"{files}.txt", str(out)])
    if encoding == "jpg":  # a raw record of ours comes from the picture, one of Caffe's from a JPEG of it
        check_same(made, out)
    shutil.rmtree(out)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--truth", type=Path, help="their labels; groundtruth.csv of the folder by default")
    parser.add_argument("--count", type=int, default=2000, help="pictures of it")
    parser.add_argument("--caffe", type=Path, default=ROOT / ".caffe" / "bin")
    parser.add_argument("--encodings", nargs="+", default=["jpg", "raw"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    truth = args.truth or args.images / "groundtruth.csv"
    result: Dict[str, Any] = {"pictures": args.count, "processors": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = choose(args.images, truth, slice(args.count), folder / "whole")
        halves = [choose(args.images, truth, slice(half, args.count, 2), folder / f"half{half}") for half in (0, 1)]
        result["clean"] = medians([in_turn(whole, halves, "clean", folder / "clean") for _ in range(args.rounds)])
        for encoding in args.encodings:
            made = folder / encoding
            result[encoding] = medians([
                {**in_turn(whole, halves, "lmdb", made, "--encoding", encoding),
                 "convert_imageset": beside_caffe(made, folder, args.caffe, encoding)} for _ in range(args.rounds)])
            result["records"] = manifest.read(made).records
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Make an LMDB of a source folder: resize (D03), rotate (D01), flip and cut patches (D02), shuffle, write."""
from __future__ import annotations

import contextlib
import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from data_tools import manifest, steps
from data_tools.augment import PATCH_SIZE, SIZE, Variant, apply, resize_square
from data_tools.errors import DataError
from data_tools.estimate import check_disk, estimate_sizes
from data_tools.files import JPEG_QUALITY, at_a_time, flush, partial_folder, read_image, sha256_file
from data_tools.isic import Sample, count_classes, picture_inputs, refuse_unreadable
from data_tools.lmdb_io import DATA_FILE, Record, encode_datum, write_records
from data_tools.parallel import Jobs, Workers, result, submit, workers
from data_tools.plan import Plan, Task, make_plan

DECISIONS = ["D01", "D02", "D03", "D15"]
CHUNK_BYTES = 3 << 20                       # of records that are made at a time
SQUARES = "squares.uint8"                   # the resized pictures, one array in a file, while the LMDB is made


RECORD = ".lmdb.json"
CODE = ("data_tools.augment", "data_tools.plan", "data_tools.lmdb_io", "data_tools.build")


class Stored(NamedTuple):
    """What became of one picture: the hash of its file, or the reason why it cannot be read."""

    sha256: str
    problem: str


def step(samples: Sequence[Sample], out: Path, variants: Sequence[Variant], jobs: Jobs = 1, **options: Any) -> steps.Step:
    """Return the step that builds an LMDB; `options` are those of `build`."""
    def work() -> List[Path]:
        made = build(samples, out, variants, jobs=jobs, **options)
        print(manifest.summary(out, made))
        return [out / name for name in (DATA_FILE, manifest.NAME, manifest.PICTURES)]

    source = steps.find_record(samples[0].path.parent)
    parameters = {"variants": [variant.name for variant in variants], **options, "code": steps.code(*CODE),
                  "pictures": source.pictures if source else {}}
    return steps.Step(f"lmdb/{out.name}", out, out / RECORD, parameters, picture_inputs(samples), work)


def build(samples: Sequence[Sample], out: Path, variants: Sequence[Variant], *, size: int = SIZE,
          patch_size: int = PATCH_SIZE, encoding: str = "jpg", quality: int = JPEG_QUALITY, seed: int = 1,
          balance: str = "none", jobs: Jobs = 1) -> manifest.Manifest:
    """Write an LMDB with one record for each picture and variant, shuffled, and its manifest.

    The file is the same, byte for byte, for every number of processes and on a cluster. Pictures are read once; memory
    holds some chunks of records at a time.

    Parameters
    ----------
    samples, variants, seed, balance
        See `plan.make_plan`.
    out : Path
        Folder to make; an LMDB made here earlier is replaced at the end.
    size, patch_size : int
        Side of the square that a picture is resized to, and of the patches cut out of it.
    encoding, quality : str, int
        See `lmdb_io.encode_datum`.
    jobs : int or str
        Where the work is done; see `parallel.workers`.
    """
    if patch_size > size:
        raise DataError(f"patch size {patch_size} is larger than the resized picture, {size} x {size}")
    plan = make_plan(samples, variants, seed, balance)
    shape = (len(samples), size, size, 3)
    parameters = {"variants": [variant.name for variant in variants], "size": size, "patch_size": patch_size,
                  "encoding": encoding, "quality": quality, "balance": balance}
    with partial_folder(out, manifest.NAME) as folder, ThreadPoolExecutor(1) as disk:
        with workers(jobs) as pool:
            sizes = estimate_sizes(plan, size, patch_size, quality)
            map_size = check_disk(plan, sizes, encoding, int(np.prod(shape)), folder)
            store_squares(samples, folder, size, pool)
            work = functools.partial(_make_chunk, squares=folder / SQUARES, shape=shape, patch_size=patch_size,
                                     encoding=encoding, quality=quality)
            order, together = hashlib.sha256(), CHUNK_BYTES * len(plan) // sizes[encoding]
            with contextlib.closing(pool.map(work, _hashed(plan, order), len(plan), together)) as records:
                write_records(folder, tqdm(records, "lmdb", len(plan), unit="record", disable=None), map_size)
            flushed = submit(disk, _finish, folder)  # the disk writes while the hash is computed
            data_sha256 = manifest.sha256_data(folder, pool)
        result(flushed)
        made = _describe(plan, order.hexdigest(), data_sha256, folder, seed, parameters)
        manifest.write(folder, made)
    return made


def store_squares(samples: Sequence[Sample], folder: Path, size: int, pool: Workers) -> None:
    """Read and resize all pictures into one array in a file, N x size x size x 3, and list their hashes."""
    problems: Dict[str, str] = {}
    (folder / SQUARES).touch()
    work, paths = functools.partial(_store, squares=folder / SQUARES, size=size), [sample.path for sample in samples]
    with contextlib.closing(pool.map(work, enumerate(paths), len(paths), at_a_time(paths))) as results, \
            open(folder / manifest.PICTURES, "w", encoding="utf-8") as table:
        for sample, one in zip(samples, tqdm(results, "read", len(samples), unit="picture", disable=None)):
            if one.problem:
                problems[sample.image_id] = one.problem
            else:
                table.write(f"{manifest.picture_line(sample.image_id, sample.label, one.sha256)}\n")
    refuse_unreadable(problems, len(samples))


def _store(pictures: List[Tuple[int, Path]], squares: Path, size: int) -> List[Stored]:
    """Write pictures into their rows."""
    with open(squares, "r+b") as file:
        return [_store_one(row, path, file, size) for row, path in pictures]


def _store_one(row: int, path: Path, squares: BinaryIO, size: int) -> Stored:
    try:
        square = resize_square(read_image(path), size)
        squares.seek(row * square.nbytes)
        squares.write(square.data)
        return Stored(sha256_file(path), "")
    except DataError as error:
        return Stored("", str(error))


def _hashed(plan: Plan, order: hashlib._Hash) -> Iterator[Task]:
    """Add the records to the hash of their order when their turn comes; to go through all of them twice takes longer."""
    for task in map(plan.task, range(len(plan))):
        manifest.add_lines(order, [manifest.order_line(task.key.encode(), task.label)])
        yield task


def _make_chunk(tasks: Sequence[Task], squares: Path, shape: Tuple[int, int, int, int], patch_size: int, encoding: str,
                quality: int) -> List[Record]:
    array = np.asarray(np.memmap(squares, np.uint8, "r", shape=shape))  # plain: parts of a memmap take longer to make
    images = (apply(array[task.row], task.variant, patch_size) for task in tasks)
    return [(task.key.encode(), encode_datum(image, task.label, encoding, quality))
            for task, image in zip(tasks, images)]


def _finish(folder: Path) -> None:
    """Delete what was only needed on the way, and see the rest to the disk."""
    (folder / SQUARES).unlink()
    flush(folder)


def _describe(plan: Plan, order_sha256: str, data_sha256: str, folder: Path, seed: int,
              parameters: Dict[str, Any]) -> manifest.Manifest:
    side = parameters["size"] if plan.variants[0].patch == "whole" else parameters["patch_size"]
    return manifest.Manifest(
        version=manifest.VERSION, records=len(plan), per_class=plan.per_class(),
        pictures=len(plan.samples), pictures_per_class=count_classes(sample.label for sample in plan.samples),
        shape=[side, side], channel_order="BGR", seed=seed, parameters=parameters, decisions=DECISIONS,
        source_ids_sha256=manifest.sha256_lines(sorted(sample.image_id for sample in plan.samples)),
        order_sha256=order_sha256,
        data_bytes=(folder / DATA_FILE).stat().st_size, data_sha256=data_sha256,
        pictures_sha256=sha256_file(folder / manifest.PICTURES))

"""Make an LMDB of a source folder: resize (D03), rotate (D01), flip and cut patches (D02), shuffle, write."""
from __future__ import annotations

import contextlib
import functools
import hashlib
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Tuple, Union

import numpy as np
from tqdm import tqdm

from data_tools import manifest
from data_tools.augment import PATCH_SIZE, SIZE, Variant, apply, resize_square
from data_tools.errors import DataError
from data_tools.estimate import check_disk, estimate_sizes
from data_tools.files import JPEG_QUALITY, partial_folder, read_image, sha256_file
from data_tools.isic import Sample, count_classes, refuse_unreadable
from data_tools.lmdb_io import DATA_FILE, Record, encode_datum, write_records
from data_tools.parallel import Jobs, ordered_map
from data_tools.plan import Plan, Task, make_plan

DECISIONS = ["D01", "D02", "D03", "D15"]
CHUNK = 64                                  # records that are made at a time
SQUARES = "squares.uint8"                   # the resized pictures, one array in a file, while the LMDB is made


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
        Where the work is done; see `parallel.ordered_map`.
    """
    if patch_size > size:
        raise DataError(f"patch size {patch_size} is larger than the resized picture, {size} x {size}")
    plan = make_plan(samples, variants, seed, balance)
    shape = (len(samples), size, size, 3)
    parameters = {"variants": [variant.name for variant in variants], "size": size, "patch_size": patch_size,
                  "encoding": encoding, "quality": quality, "balance": balance}
    with partial_folder(out, manifest.NAME) as folder:
        map_size = check_disk(plan, estimate_sizes(plan, size, patch_size, quality), encoding, int(np.prod(shape)), folder)
        store_squares(samples, folder, size, jobs)
        work = functools.partial(_make_chunk, squares=folder / SQUARES, shape=shape, patch_size=patch_size,
                                 encoding=encoding, quality=quality)
        order = hashlib.sha256()
        tasks = _hashed(plan.chunks(CHUNK), order)
        with contextlib.closing(ordered_map(work, tasks, jobs, threads=True)) as chunks:
            records = (record for chunk in chunks for record in chunk)
            write_records(folder, tqdm(records, "lmdb", len(plan), unit="record", disable=None), map_size)
        (folder / SQUARES).unlink()
        made = _describe(plan, order.hexdigest(), folder, seed, parameters)
        manifest.write(folder, made)
    return made


def store_squares(samples: Sequence[Sample], folder: Path, size: int, jobs: Jobs) -> None:
    """Read and resize all pictures into one array in a file, N x size x size x 3, and list their hashes."""
    problems: Dict[str, str] = {}
    work, paths = functools.partial(_read_square, size=size), [sample.path for sample in samples]
    with contextlib.closing(ordered_map(work, paths, jobs, threads=True)) as results, \
            open(folder / SQUARES, "wb") as squares, open(folder / manifest.PICTURES, "w", encoding="utf-8") as table:
        for sample, result in zip(samples, tqdm(results, "read", len(samples), unit="picture", disable=None)):
            if isinstance(result, str):
                problems[sample.image_id] = result
            else:
                square, digest = result
                squares.write(square.tobytes())
                table.write(f"{manifest.picture_line(sample.image_id, sample.label, digest)}\n")
    refuse_unreadable(problems, len(samples))


def _read_square(path: Path, size: int) -> Union[Tuple[np.ndarray, str], str]:
    """Return a picture's square and the hash of its file, or the reason why it cannot be read."""
    try:
        return resize_square(read_image(path), size), sha256_file(path)
    except DataError as error:
        return str(error)


def _hashed(chunks: Iterable[List[Task]], order: hashlib._Hash) -> Iterator[List[Task]]:
    """Add the records to the hash of their order when their turn comes; to go through all of them twice takes longer."""
    for tasks in chunks:
        manifest.add_lines(order, (manifest.order_line(task.key.encode(), task.label) for task in tasks))
        yield tasks


def _make_chunk(tasks: Sequence[Task], squares: Path, shape: Tuple[int, int, int, int], patch_size: int, encoding: str,
                quality: int) -> List[Record]:
    array = np.asarray(np.memmap(squares, np.uint8, "r", shape=shape))  # plain: parts of a memmap take longer to make
    images = (apply(array[task.row], task.variant, patch_size) for task in tasks)
    return [(task.key.encode(), encode_datum(image, task.label, encoding, quality)) for task, image in zip(tasks, images)]


def _describe(plan: Plan, order_sha256: str, folder: Path, seed: int, parameters: Dict[str, Any]) -> manifest.Manifest:
    data = folder / DATA_FILE
    side = parameters["size"] if plan.variants[0].patch == "whole" else parameters["patch_size"]
    return manifest.Manifest(
        version=manifest.VERSION, records=len(plan), per_class=plan.per_class(),
        pictures=len(plan.samples), pictures_per_class=count_classes(sample.label for sample in plan.samples),
        shape=[side, side], channel_order="BGR", seed=seed, parameters=parameters, decisions=DECISIONS,
        source_ids_sha256=manifest.sha256_lines(sorted(sample.image_id for sample in plan.samples)),
        order_sha256=order_sha256,
        data_bytes=data.stat().st_size, data_sha256=sha256_file(data),
        pictures_sha256=sha256_file(folder / manifest.PICTURES))

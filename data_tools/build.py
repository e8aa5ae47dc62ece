"""Make an LMDB of a source folder: resize (D03), rotate (D01), flip and cut patches (D02), shuffle, write."""
from __future__ import annotations

import contextlib
import functools
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple, Union

import numpy as np
from tqdm import tqdm

from data_tools import manifest
from data_tools.augment import PATCH_SIZE, SIZE, Variant, apply, resize_square
from data_tools.errors import DataError
from data_tools.files import JPEG_QUALITY, partial_folder, read_image, sha256_file
from data_tools.isic import Sample, count_classes, refuse_unreadable
from data_tools.lmdb_io import DATA_FILE, PAGE, Record, encode_datum, stored_size, write_records
from data_tools.parallel import ordered_map

BALANCES = ("none", "oversample")           # D15
DECISIONS = ["D01", "D02", "D03", "D15"]
CHUNK = 32                                  # records that a process makes at a time
TRIALS = 8                                  # records made to estimate the size of all
MARGIN = 1.15                               # by which the estimate may be wrong
SPARE_PAGES = 256                           # that it has at least
SQUARES = "squares.uint8"                   # the resized pictures, one array in a file, while the LMDB is made


class Task(NamedTuple):
    """One record to make: its key, the row of its picture among the resized ones, its variant, its label."""

    key: str
    row: int
    variant: Variant
    label: int


def build(samples: Sequence[Sample], out: Path, variants: Sequence[Variant], *, size: int = SIZE,
          patch_size: int = PATCH_SIZE, encoding: str = "jpg", quality: int = JPEG_QUALITY, seed: int = 1,
          balance: str = "none", jobs: int = 1) -> manifest.Manifest:
    """Write an LMDB with one record for each picture and variant, shuffled, and its manifest.

    The records are the same, byte for byte, for every number of processes. Pictures are read once; memory holds some
    chunks of records at a time.

    Parameters
    ----------
    samples : sequence of Sample
        The pictures.
    out : Path
        Folder to make; an LMDB made here earlier is replaced at the end.
    variants : sequence of Variant
        The records of a picture; see `augment.variants`.
    size, patch_size : int
        Side of the square that a picture is resized to, and of the patches cut out of it.
    encoding, quality : str, int
        See `lmdb_io.encode_datum`.
    seed : int
        Of the record order, and of the choice of the pictures that are repeated.
    balance : str
        ``oversample`` repeats pictures of the smaller classes until all classes have as many records (D15).
    jobs : int
        Number of processes.
    """
    if patch_size > size:
        raise DataError(f"patch size {patch_size} is larger than the resized picture, {size} x {size}")
    tasks = plan(samples, variants, seed, balance)
    make = functools.partial(encode_datum, encoding=encoding, quality=quality)
    with partial_folder(out, manifest.NAME) as folder:
        map_size = _check_disk(samples, tasks, size, patch_size, make, folder)
        shape = store_squares(samples, folder / SQUARES, size, jobs)
        work = functools.partial(_make_chunk, squares=folder / SQUARES, shape=shape, patch_size=patch_size, make=make)
        with contextlib.closing(ordered_map(work, _chunks(tasks), jobs)) as chunks:
            records = (record for chunk in chunks for record in chunk)
            write_records(folder, tqdm(records, "lmdb", len(tasks), unit="record", disable=None), map_size)
        (folder / SQUARES).unlink()
        side = size if variants[0].patch == "whole" else patch_size
        parameters = {"variants": [variant.name for variant in variants], "size": size, "patch_size": patch_size,
                      "encoding": encoding, "quality": quality, "balance": balance}
        made = _describe(samples, tasks, folder, side, seed, parameters)
        manifest.write(folder, made)
    return made


def plan(samples: Sequence[Sample], variants: Sequence[Variant], seed: int, balance: str) -> List[Task]:
    """List the records in their shuffled order; keys count up, so that Caffe reads them in this order."""
    random = np.random.RandomState(seed)
    rows = np.arange(len(samples))
    if balance == "oversample":
        rows = np.concatenate([rows, _repeats(np.array([sample.label for sample in samples]), random)])
    tasks = []
    for number, place in enumerate(random.permutation(len(rows) * len(variants))):
        row, variant = int(rows[place // len(variants)]), variants[place % len(variants)]
        sample = samples[row]
        tasks.append(Task(f"{number:08d}_{sample.image_id}_{variant.name}", row, variant, sample.label))
    return tasks


def _repeats(labels: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Choose the rows to repeat so that every class that is there has as many as the largest."""
    counts = np.bincount(labels)
    extra = [np.resize(random.permutation(np.flatnonzero(labels == label)), counts.max() - counts[label])
             for label in np.flatnonzero(counts)]
    return np.concatenate(extra)


def store_squares(samples: Sequence[Sample], path: Path, size: int, jobs: int) -> Tuple[int, int, int, int]:
    """Read and resize all pictures into one array in a file; return its shape, N x size x size x 3."""
    shape = (len(samples), size, size, 3)
    problems: Dict[str, str] = {}
    work, paths = functools.partial(_read_square, size=size), [sample.path for sample in samples]
    with open(path, "wb") as file, contextlib.closing(ordered_map(work, paths, jobs)) as results:
        for sample, result in zip(samples, tqdm(results, "read", len(samples), unit="picture", disable=None)):
            if isinstance(result, str):
                problems[sample.image_id] = result
            else:
                file.write(result.tobytes())
    refuse_unreadable(problems, len(samples))
    return shape


def _read_square(path: Path, size: int) -> Union[np.ndarray, str]:
    try:
        return resize_square(read_image(path), size)
    except DataError as error:
        return str(error)


def _chunks(tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
    for start in range(0, len(tasks), CHUNK):
        yield tasks[start:start + CHUNK]


def _make_chunk(tasks: Sequence[Task], squares: Path, shape: Tuple[int, int, int, int], patch_size: int,
                make: Callable[[np.ndarray, int], bytes]) -> List[Record]:
    array = np.memmap(squares, np.uint8, "r", shape=shape)
    return [(task.key.encode(), make(apply(np.asarray(array[task.row]), task.variant, patch_size), task.label))
            for task in tasks]


def _check_disk(samples: Sequence[Sample], tasks: Sequence[Task], size: int, patch_size: int,
                make: Callable[[np.ndarray, int], bytes], folder: Path) -> int:
    """Make some records to estimate the LMDB's size in bytes, and refuse to start when the disk is too small."""
    trials = [tasks[place] for place in np.linspace(0, len(tasks) - 1, TRIALS).astype(int)]
    sizes = []
    for task in trials:
        square = _read_square(samples[task.row].path, size)
        if not isinstance(square, str):  # unreadable pictures are reported together, later
            sizes.append(stored_size(make(apply(square, task.variant, patch_size), task.label)))
    estimate = (int(MARGIN * np.mean(sizes or [0]) * len(tasks)) // PAGE + SPARE_PAGES) * PAGE
    needed, free = estimate + len(samples) * size * size * 3, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder.parent}: {free / 1e9:.1f} GB are free, about {needed / 1e9:.1f} GB are needed for "
                        f"{len(tasks)} records; make room, choose another disk, or use --encoding jpg")
    return estimate


def _describe(samples: Sequence[Sample], tasks: Sequence[Task], folder: Path, side: int, seed: int,
              parameters: Dict[str, Any]) -> manifest.Manifest:
    data = folder / DATA_FILE
    return manifest.Manifest(
        version=manifest.VERSION, records=len(tasks), per_class=count_classes(task.label for task in tasks),
        pictures=len(samples), pictures_per_class=count_classes(sample.label for sample in samples),
        shape=[side, side], channel_order="BGR", seed=seed, parameters=parameters, decisions=DECISIONS,
        source_ids_sha256=manifest.sha256_lines(sorted(sample.image_id for sample in samples)),
        order_sha256=manifest.sha256_lines(manifest.order_line(task.key.encode(), task.label) for task in tasks),
        data_bytes=data.stat().st_size, data_sha256=sha256_file(data))

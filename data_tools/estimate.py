"""The size of an LMDB, estimated before it is made, and whether the disk has room for it."""
from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Dict

import numpy as np

from data_tools.augment import apply, resize_square
from data_tools.errors import DataError
from data_tools.files import read_image
from data_tools.lmdb_io import ENCODINGS, PAGE, encode_datum, stored_size
from data_tools.plan import Plan, Task

TRIALS = 32        # records made to estimate the size of all
MARGIN = 1.15      # by which the estimate may be wrong
SPARE_PAGES = 256  # that it has at least


def estimate_sizes(plan: Plan, size: int, patch_size: int, quality: int) -> Dict[str, int]:
    """Return the bytes that the plan's records will take, for every encoding, from some that are made on trial."""
    sizes = [_trial(plan, task, size, patch_size, quality)
             for task in map(plan.task, np.unique(np.linspace(0, len(plan) - 1, TRIALS).astype(int)))]
    readable = [one for one in sizes if one] or [dict.fromkeys(ENCODINGS, 0)]
    return {encoding: int(np.mean([one[encoding] for one in readable]) * len(plan)) // PAGE * PAGE
            for encoding in ENCODINGS}


def _trial(plan: Plan, task: Task, size: int, patch_size: int, quality: int) -> Dict[str, int]:
    """Make a record in every encoding; nothing of an unreadable picture, which is reported later with the others."""
    try:
        image = apply(resize_square(read_image(plan.samples[task.row].path), size), task.variant, patch_size)
    except DataError:
        return {}
    return {encoding: stored_size(encode_datum(image, task.label, encoding, quality)) for encoding in ENCODINGS}


def check_disk(plan: Plan, sizes: Dict[str, int], encoding: str, scratch: int, folder: Path) -> int:
    """Say how large the LMDB will be in each encoding, and refuse to start when the disk is too small.

    Parameters
    ----------
    plan, sizes, encoding
        What is made; see `estimate_sizes`.
    scratch : int
        Bytes of the resized pictures, kept while the LMDB is made.
    folder : Path
        Where it is made.

    Returns
    -------
    int
        Bytes to give to the LMDB's map at first.
    """
    each = ", ".join(f"{sizes[name] / 1e9:.3f} GB as {name}" for name in ENCODINGS)
    free = shutil.disk_usage(folder).free
    print(f"note: {len(plan)} records take about {each}, and {scratch / 1e9:.3f} GB more while they are made; "
          f"{encoding} it is, {free / 1e9:.1f} GB are free", file=sys.stderr)
    map_size = int(MARGIN * sizes[encoding]) // PAGE * PAGE + SPARE_PAGES * PAGE
    if map_size + scratch > free:
        raise DataError(f"{folder.parent}: {free / 1e9:.1f} GB are free, about {(map_size + scratch) / 1e9:.1f} GB are needed "
                        f"for {len(plan)} records; make room, choose another disk, or use --encoding jpg")
    return map_size

"""A made-up data set in the challenge's form, for machines without the real one.

Each picture is skin under uneven light with a lesion that covers a small part of it, hair over everything, and in some a ruler
or the dark corners of a dermatoscope. Lesions of all classes are dark brown, tan or pink, with a ragged border, grain and
globules. The classes differ in the *fine* texture: dark dots (melanoma), none (seborrheic keratosis), a net of pigment (nevus).
In a small view of the whole picture only a trace of it is left, which grain hides from a short training; it is there in a crop
of the lesion. The main tone is mostly but not always that of the class (dark brown, tan, pink): so the first stage learns
something, and only by looking at the lesion.
"""
from __future__ import annotations

import contextlib
import functools
import json
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
from tqdm import tqdm

from data_tools import steps
from data_tools.errors import DataError
from data_tools.files import encode_image, partial_folder, write_atomic
from data_tools.isic import GROUNDTRUTH, MADE_UP_PREFIX, SPLITS, write_groundtruth
from data_tools.parallel import Jobs, Workers, workers
from data_tools.synthetic_picture import HEIGHT, WIDTH, make_picture

NAME = "synthetic.json"
RECORD = ".made.json"
TOGETHER = 16                             # pictures that a process draws at a time
LEAST, MOST, LONGEST = 8, 999_999, 6      # side of a picture; pictures of a split; a long side in short ones
SHARES = (1 / 3, 1 / 3, 1 / 3)            # of the classes: equal, so that the background need not speak for one


def step(out: Path, counts: Dict[str, int], jobs: Jobs = 1, **options: int) -> steps.Step:
    """Return the step that makes a data set; `options` are those of `make_root` that its pictures depend on."""
    long, short = max(options["height"], options["width"]), min(options["height"], options["width"])
    if long > LONGEST * short:
        raise DataError(f"pictures of {options['height']} x {options['width']}: a lesion does not fit; expected a long side of "
                        f"{LONGEST} short ones at most")

    def work() -> List[Path]:
        make_root(out, counts, jobs=jobs, **options)
        print(f"{out}: {', '.join(f'{split} {count}' for split, count in counts.items())} pictures")
        return sorted(path for path in out.rglob("*") if path.is_file() and path.name != RECORD)

    parameters = {"counts": counts, **options, "code": steps.code("data_tools.synthetic", "data_tools.synthetic_picture")}
    return steps.Step("pictures", out, out / RECORD, parameters, {}, work)


def make_root(out: Path, counts: Dict[str, int], *, seed: int = 1, height: int = HEIGHT, width: int = WIDTH,
              jobs: Jobs = 1) -> None:
    """Write a data set that `isic.find_split` recognises.

    Folders ``train``, ``val``, ... hold JPEGs and ``groundtruth.csv``; ``masks`` holds ``<id>_segmentation.png``,
    0/255. A picture depends on the seed, its split, its place in it and its label alone.

    Parameters
    ----------
    out : Path
        Folder to make; one made here earlier is replaced at the end.
    counts : dict
        Number of pictures by split; splits with 0 are left out.
    seed, height, width : int
        Of the pictures.
    jobs : int or str
        Where they are drawn, see `parallel.workers`; they are the same wherever it is.
    """
    with partial_folder(out, NAME) as root, workers(jobs) as pool:
        (root / "masks").mkdir()
        for split, count in counts.items():
            if count:
                _make_split(root, split, count, seed, (height, width), pool)
        about = {"seed": seed, "height": height, "width": width, "counts": counts}
        write_atomic(root / NAME, (json.dumps(about, indent=2) + "\n").encode())


def _make_split(root: Path, split: str, count: int, seed: int, size: Tuple[int, int], pool: Workers) -> None:
    (root / split).mkdir()
    work = functools.partial(_write_some, root=root, split=split, seed=seed, size=size)
    labels = _labels(count, seed, SPLITS.index(split))
    with contextlib.closing(pool.map(work, enumerate(labels), count, TOGETHER)) as ids:
        named = dict(zip(tqdm(ids, split, count, unit="picture", disable=None), labels))
    write_groundtruth(root / split / GROUNDTRUTH, named)


def _write_some(places: List[Tuple[int, int]], root: Path, split: str, seed: int, size: Tuple[int, int]) -> List[str]:
    """Draw and write pictures of some places and labels; return their ids."""
    number, ids = SPLITS.index(split), []
    for place, label in places:
        picture = make_picture(np.random.default_rng([seed, number, place]), label, *size)
        ids.append(f"{MADE_UP_PREFIX}{number}{place:06d}")
        (root / split / f"{ids[-1]}.jpg").write_bytes(encode_image(picture.image, ".jpg"))
        mask = picture.mask.astype(np.uint8) * 255
        (root / "masks" / f"{ids[-1]}_segmentation.png").write_bytes(encode_image(mask, ".png"))
    return ids


def _labels(count: int, seed: int, number: int) -> List[int]:
    """Return labels with the wanted shares, shuffled."""
    bounds = np.rint(np.cumsum(SHARES) * count)
    labels = np.searchsorted(bounds, np.arange(count), side="right")
    return [int(label) for label in np.random.default_rng([seed, number]).permutation(labels)]

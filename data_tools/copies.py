"""Find pictures that are in two folders under two ids, byte for byte: the network would be scored on what it learned (D20)."""
from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Sequence

from data_tools import manifest
from data_tools.errors import DataError
from data_tools.files import listing, sha256_file
from data_tools.isic import SPLITS, Sample, find_pictures, find_split


def find_copies(samples: Sequence[Sample], folder: Path) -> Dict[str, str]:
    """Find the samples whose file is also in another folder, under whatever name.

    Only files of equal size are read, so a folder of any size costs little.

    Returns
    -------
    dict
        Id of the picture in `folder` by image id of the sample.
    """
    if any(os.path.realpath(sample.path.parent) == os.path.realpath(folder) for sample in samples):
        raise DataError(f"{folder}: is the pictures' own folder; expected that of another split")
    sizes: Dict[int, List[Path]] = defaultdict(list)
    for path in find_pictures(folder).values():
        sizes[path.stat().st_size].append(path)
    copies = {}
    for sample in samples:
        candidates = sizes.get(sample.path.stat().st_size, [])
        digest = sha256_file(sample.path) if candidates else ""
        for path in candidates:
            if sha256_file(path) == digest:
                copies[sample.image_id] = path.stem
    return copies


def other_splits(root: Path, split: str) -> List[Path]:
    """List the picture folders of a data set's other splits, as far as they are there."""
    folders = []
    for other in SPLITS:
        try:
            folders += [find_split(root, other)[0]] if other != split else []
        except DataError:
            continue
    return folders


def describe(copies: Dict[str, str], folder: Path) -> str:
    """Say which pictures are copies, ten at most."""
    pairs = listing([f"{image_id} = {other}" for image_id, other in copies.items()])
    return f"{len(copies)} pictures are byte for byte pictures of {folder}: {pairs}"


def exclude(samples: Sequence[Sample], image_ids: Sequence[str]) -> List[Sample]:
    """Leave out the samples of some ids, which must be there."""
    known = {sample.image_id for sample in samples}
    unknown = [image_id for image_id in image_ids if image_id not in known]
    if unknown:
        raise DataError(f"--exclude: {len(unknown)} ids are no pictures of this split: {listing(unknown)}")
    kept = [sample for sample in samples if sample.image_id not in set(image_ids)]
    if not kept:
        raise DataError("every picture would be left out; is --exclude-copies-of the right folder?")
    return kept


def compare_databases(first: Path, second: Path) -> Dict[str, str]:
    """Refuse two LMDBs, of training and validation, that share an image id; find pictures that are the same file.

    Returns
    -------
    dict
        Image id in the second LMDB by image id in the first.
    """
    ours, theirs = manifest.read_pictures(first), manifest.read_pictures(second)
    common = [image_id for image_id in ours if image_id in theirs]
    if common:
        raise DataError(f"{len(common)} pictures are in {first} and in {second}: {listing(common)}; "
                        "train on one and score on the other only after making them of different splits")
    names = {digest: image_id for image_id, digest in theirs.items()}
    return {image_id: names[digest] for image_id, digest in ours.items() if digest in names}

"""Get ISIC-2017 from its source: fetch, unpack, check, and keep SHA-256 sums of what was found good.

The challenge publishes no checksums. So the pictures are checked by their number, classes and ids and by decoding each, and
``SHA256SUMS``, written then, tells later whether anything changed (``sha256sum -c SHA256SUMS`` reads it too).
"""
from __future__ import annotations

import contextlib
import functools
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple

from tqdm import tqdm

from data_tools.errors import DataError
from data_tools.files import at_a_time, listing, read_image, sha256_file, write_atomic
from data_tools.isic import CLASSES, OFFICIAL_NAMES, count_classes, find_pictures, read_groundtruth
from data_tools.parallel import workers
from data_tools.transfer import fetch

BASE = "https://isic-challenge-data.s3.amazonaws.com/2017/"
COUNTS = {"train": (374, 254, 1372), "val": (30, 42, 78), "test": (117, 90, 393)}  # pictures of each class
SUMS = "SHA256SUMS"
LARGEST = 1 << 28  # bytes of one unpacked picture


class Part(NamedTuple):
    """One archive of a split: its name without .zip, which is its folder's too, and the end of its files' names."""

    name: str
    ending: str


def pictures(split: str) -> Part:
    """Return the archive with a split's pictures."""
    return Part(f"ISIC-2017_{OFFICIAL_NAMES[split]}_Data", ".jpg")


def masks(split: str) -> Part:
    """Return the archive with the lesion masks of a split (part 1 of the challenge), which no training needs."""
    return Part(f"ISIC-2017_{OFFICIAL_NAMES[split]}_Part1_GroundTruth", "_segmentation.png")


def labels_name(split: str) -> str:
    """Return the name of a split's label file."""
    return f"ISIC-2017_{OFFICIAL_NAMES[split]}_Part3_GroundTruth.csv"


def download(root: Path, splits: Sequence[str], base: str = BASE) -> None:
    """Fetch and unpack whatever a data set's folder lacks; archives and label files put there by hand are taken.

    Raises
    ------
    DataError
        In one line, with what to put where when the source cannot be reached.
    """
    labels = {}
    for split in splits:
        table = root / labels_name(split)
        if not table.is_file():
            fetch(base + table.name, table, functools.partial(_check_labels, split=split))
        labels[split] = _check_labels(table, split)
    for kind in (pictures, masks):
        for split in splits:
            _fetch_and_unpack(root, kind(split), labels[split], base)


def _fetch_and_unpack(root: Path, part: Part, labels: Dict[str, int], base: str) -> None:
    wanted = {f"{image_id}{part.ending}" for image_id in labels}
    archive = root / f"{part.name}.zip"
    if wanted <= _names(root / part.name):
        return
    if not archive.is_file():
        fetch(base + archive.name, archive, _check_archive, copies=2)
    unpack(archive, root / part.name, wanted)


def check_counts(labels: Dict[str, int], split: str, where: Path) -> None:
    """Raise unless the labels are as many of each class as the challenge's split has."""
    difference = describe_subset(labels, split)
    if difference:
        raise DataError(f"{where}: {difference}; to have them all, move the file away and get it again")


def describe_subset(labels: Dict[str, int], split: str) -> str:
    """Say how labels differ in number from the challenge's split, which a training may; an empty text when they do not."""
    found = tuple(count_classes(labels.values()).values())
    if found == COUNTS[split]:
        return ""
    return (f"{len(labels)} rows, {counted(found)}; the {split} split of ISIC-2017 has {sum(COUNTS[split])}, "
            f"{counted(COUNTS[split])}")


def _check_labels(table: Path, split: str) -> Dict[str, int]:
    labels = read_groundtruth(table)
    check_counts(labels, split, table)
    return labels


def counted(counts: Sequence[int]) -> str:
    """Return the counts of the classes as text."""
    return ", ".join(f"{name} {count}" for name, count in zip(CLASSES, counts))


def _names(folder: Path) -> Set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


# ---------------------------------------------------------------- archives
def unpack(archive: Path, folder: Path, wanted: Set[str]) -> None:
    """Unpack the wanted files of an archive that are not in the folder yet, each whole or not at all.

    Folders in the archive are not kept, so nothing is written outside `folder`; superpixels and other files are left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(archive) as file:
        members = _members(file, archive, wanted)
        absent = sorted(wanted - set(members))
        if absent:
            raise DataError(f"{archive}: lacks {len(absent)} of {len(wanted)} files: {listing(absent)}; get it again")
        todo = [members[name] for name in sorted(wanted - _names(folder))]
        needed, free = sum(info.file_size for info in todo), shutil.disk_usage(folder).free
        if needed > free:
            raise DataError(f"{folder}: {free / 1e9:.1f} GB are free, {needed / 1e9:.1f} GB are needed to unpack "
                            f"{archive.name}; make room or choose another disk")
        for info in tqdm(todo, f"unpack {folder.name}", unit="file", disable=None):
            _place(folder / PurePosixPath(info.filename).name, file.read(info))


def _place(path: Path, content: bytes) -> None:
    """Write a file and rename it. The disk is not waited for, 2750 times: `verify` comes after and reads everything."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as file:
            yield file
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise DataError(f"{archive}: no sound zip archive ({error}); delete it and run this again") from error


def _check_archive(path: Path) -> None:
    """Read the table at its end; each file's checksum is held against it when it is unpacked."""
    with _opened(path):
        pass


def _members(file: zipfile.ZipFile, archive: Path, wanted: Set[str]) -> Dict[str, zipfile.ZipInfo]:
    """Return the wanted members by their bare name; refuse names and sizes that no picture of the challenge has."""
    found: Dict[str, zipfile.ZipInfo] = {}
    for info in file.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise DataError(f"{archive}: holds {info.filename[:80]!r}, a path that leads outside; not the challenge's")
        if path.name not in wanted or info.is_dir():
            continue
        if path.name in found or info.file_size > LARGEST:
            raise DataError(f"{archive}: holds {path.name} twice or larger than {LARGEST >> 20} MiB; not one of the challenge's")
        found[path.name] = info
    return found


# ---------------------------------------------------------------- checks
def verify(root: Path, splits: Sequence[str], jobs: int = 1) -> Dict[str, Tuple[int, ...]]:
    """Check what was downloaded: numbers and classes, ids, sums, and that each picture decodes; write the sums.

    A file whose sum is known and the same is not decoded again.

    Returns
    -------
    dict
        Number of pictures of each class, by split.
    """
    sums, seen = read_sums(root / SUMS), {}
    owner: Dict[str, str] = {}
    for split in splits:
        labels = _check_labels(root / labels_name(split), split)
        twice = [image_id for image_id in labels if owner.setdefault(image_id, split) != split]
        if twice:
            raise DataError(f"{root}: {len(twice)} ids of {split} are in another split too: {listing(twice)}")
        files = [root / labels_name(split)]
        for part in (pictures(split), masks(split)):
            if part == pictures(split) or (root / part.name).is_dir():
                files += _complete(root / part.name, part, labels)
            archive = root / f"{part.name}.zip"
            files += [archive] if archive.is_file() else []
        seen[split] = tuple(count_classes(labels.values()).values())
        sums.update(_check_files(root, files, sums, split, jobs))
        write_sums(root / SUMS, sums)
    return seen


def _complete(folder: Path, part: Part, labels: Dict[str, int]) -> List[Path]:
    """Return a folder's files in the order of the labels; refuse it unless its ids are those of the labels."""
    wanted, there = {f"{image_id}{part.ending}" for image_id in labels}, _names(folder)
    absent = sorted(wanted - there)
    if absent:
        raise DataError(f"{folder}: {len(absent)} of {len(wanted)} files are missing: {listing(absent)}; download them")
    extra = sorted(set(find_pictures(folder)) - set(labels))
    if extra:
        raise DataError(f"{folder}: {len(extra)} pictures are not in the label file: {listing(extra)}; move them away")
    return [folder / name for name in sorted(wanted)]


def _check_files(root: Path, files: List[Path], sums: Dict[str, str], split: str, jobs: int) -> Dict[str, str]:
    """Return the sums of files; raise one error for all that changed or do not decode."""
    names = [str(path.relative_to(root)) for path in files]
    work = [(path, sums.get(name, "")) for path, name in zip(files, names)]
    problems, found = {}, {}
    with workers(jobs) as pool, contextlib.closing(pool.map(_check_some, work, len(work), at_a_time(files))) as results:
        for name, (digest, problem) in zip(names, tqdm(results, f"check {split}", len(work), unit="file", disable=None)):
            found[name] = digest
            if problem:
                problems[name] = problem
    if problems:
        raise DataError(f"{len(problems)} of {len(files)} files of split {split} are not sound: {listing(list(problems))}; "
                        f"{next(iter(problems.values()))}")
    return found


def _check_some(tasks: List[Tuple[Path, str]]) -> List[Tuple[str, str]]:
    return [_check_file(path, known) for path, known in tasks]


def _check_file(path: Path, known: str) -> Tuple[str, str]:
    """Return a file's sum and what is wrong with it; an empty text when nothing is."""
    digest = sha256_file(path)
    if known and known != digest:
        return digest, (f"{path}: not the file that was first downloaded: SHA-256 {digest[:12]}..., {SUMS} has "
                        f"{known[:12]}...; delete it to get it again, or its line in {SUMS} to accept it")
    try:
        if not known and path.suffix in (".jpg", ".png"):
            read_image(path)
    except DataError as error:
        return digest, str(error)
    return digest, ""


def read_sums(path: Path) -> Dict[str, str]:
    """Read a file of ``sha256sum``: sums by name; empty when there is none."""
    if not path.is_file():
        return {}
    rows = [line.split("  ", 1) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    if any(len(row) != 2 or len(row[0]) != 64 for row in rows):
        raise DataError(f"{path}: damaged, expected lines `sum  name`; delete it, and the next check writes it anew")
    return {name: digest for digest, name in rows}


def write_sums(path: Path, sums: Dict[str, str]) -> None:
    """Write sums by name in the form of ``sha256sum``."""
    write_atomic(path, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode())

"""Make hair-free copies of a split (D06); a run that was stopped goes on where it was."""
from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from tqdm import tqdm

from data_tools.errors import DataError
from data_tools.files import JPEG_QUALITY, PARTIAL, at_a_time, encode_image, locked, read_image, sweep, write_atomic, write_together
from data_tools.hair import remove_hair
from data_tools.isic import GROUNDTRUTH, Sample, find_pictures, refuse_unreadable, write_groundtruth
from data_tools.parallel import Jobs, workers

STATE = ".clean.json"
LOSS = 0.25  # seconds of work that a killed process loses, with the picture that it is at
HAIR = ("along", "letter", "none")  # D18


class Made(NamedTuple):
    """What became of one picture: the share of its pixels found to be hair, or the reason why there is no copy."""

    hair: float
    problem: str


def clean(samples: List[Sample], out: Path, *, hair: str = "along", masks: Optional[Path] = None,
          suffix: str = ".jpg", jobs: Jobs = 1) -> List[float]:
    """Write a source folder with hair-free copies of `samples`.

    A picture in which no hair was found is copied byte for byte; a changed one is encoded anew. ``groundtruth.csv``
    is written last: where it is, the folder is complete. Copies of an earlier run are kept when they were made with
    the same parameters and code from files of the same size and time.

    Parameters
    ----------
    samples : list of Sample
        The pictures.
    out : Path
        Folder to write; must be empty, new, or written by an earlier run.
    hair : str
        Method of hair removal, one of `HAIR`.
    masks : Path, optional
        Folder for the hair masks, ``<image_id>_hair.png``, 0/255.
    suffix : str
        ``.jpg`` (quality 95) or ``.png`` (lossless) for changed pictures.
    jobs : int or str
        Where the work is done, see `parallel.workers`; the files are the same wherever it is.

    Returns
    -------
    list of float
        Share of hair pixels of each picture made in this run.
    """
    out = Path(out)
    parameters = {"hair": hair, "suffix": suffix, "quality": JPEG_QUALITY, "masks": str(masks and masks.absolute()),
                  "code": _hair_code()}
    _check_folder(samples, out)
    work = functools.partial(_clean_some, out=out, hair=hair, masks=masks, suffix=suffix)
    with contextlib.ExitStack() as locks:
        for folder in filter(None, (out, masks)):
            locks.enter_context(locked(folder))
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
        todo = _prepare(samples, out, parameters)
        made = _run(work, todo, jobs)
        write_groundtruth(out / GROUNDTRUTH, {sample.image_id: sample.label for sample in samples})
    return made


def _run(work: Callable[[List[Sample]], List[Made]], todo: List[Sample], jobs: Jobs) -> List[float]:
    together = at_a_time([sample.path for sample in todo])
    with workers(jobs) as pool, contextlib.closing(pool.map(work, todo, len(todo), together)) as results:
        made = list(tqdm(results, "clean", len(todo), unit="picture", disable=None))
    refuse_unreadable({sample.image_id: one.problem for sample, one in zip(todo, made) if one.problem}, len(todo))
    return [one.hair for one in made]


def _clean_some(samples: List[Sample], out: Path, hair: str, masks: Optional[Path], suffix: str) -> List[Made]:
    """Make some copies; quick ones are written together."""
    made: List[Made] = []
    files: Dict[Path, bytes] = {}
    begun = time.monotonic()
    for sample in samples:
        one, new = _clean_one(sample, out, hair, masks, suffix)
        made.append(one)
        files.update(new)
        if time.monotonic() - begun > LOSS or sample is samples[-1]:
            write_together(files)
            files, begun = {}, time.monotonic()
    return made


def _clean_one(sample: Sample, out: Path, hair: str, masks: Optional[Path], suffix: str) -> Tuple[Made, Dict[Path, bytes]]:
    """Return what became of a picture, and the files to write: its copy last, which says that all are there."""
    try:
        image = read_image(sample.path)
    except DataError as error:
        return Made(0.0, str(error)), {}
    cleaned, mask = _remove(image, hair)
    files = {masks / f"{sample.image_id}_hair.png": encode_image(mask.astype(np.uint8) * 255, ".png")} if masks else {}
    if mask.any():
        files[out / f"{sample.image_id}{suffix}"] = encode_image(cleaned, suffix)
    else:
        files[out / f"{sample.image_id}{sample.path.suffix.lower()}"] = sample.path.read_bytes()
    return Made(float(mask.mean()), ""), files


def _remove(image: np.ndarray, hair: str) -> Tuple[np.ndarray, np.ndarray]:
    return (image, np.zeros(image.shape[:2], bool)) if hair == "none" else remove_hair(image, method=hair)


def _hair_code() -> str:
    """Return a hash of the hair removal's code, so that copies made by other code are not kept."""
    files = sorted(Path(__file__).parent.glob("hair*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _prepare(samples: List[Sample], out: Path, parameters: Dict[str, Any]) -> List[Sample]:
    """Say which pictures are to be made; delete what an earlier run made otherwise, and note what comes."""
    old = _read_state(out)
    sources = {sample.image_id: _stamp(sample.path) for sample in samples}
    there = find_pictures(out)
    kept = {image_id for image_id, stamp in sources.items()
            if image_id in there and old["parameters"] == parameters and old["sources"].get(image_id) == stamp}
    todo = [sample for sample in samples if sample.image_id not in kept]
    if todo and (out / GROUNDTRUTH).exists():
        (out / GROUNDTRUTH).unlink()
    for image_id in old["sources"]:
        if image_id in there and image_id not in kept:
            there[image_id].unlink()
    write_atomic(out / STATE, json.dumps({"parameters": parameters, "sources": sources}).encode())
    return todo


def _stamp(path: Path) -> List[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _check_folder(samples: List[Sample], out: Path) -> None:
    """Refuse to write into a folder that holds anything that was not made here."""
    if any(sample.path.parent.resolve() == out.resolve() for sample in samples):
        raise DataError(f"{out}: holds the original pictures; choose another folder for the copies")
    if out.is_dir() and any(path.suffix != PARTIAL for path in out.iterdir()) and not (out / STATE).is_file():
        raise DataError(f"{out}: holds files that were not made here; choose an empty or new folder")


def _read_state(out: Path) -> Dict[str, Any]:
    """Return what an earlier run noted in the folder."""
    if not (out / STATE).is_file():
        return {"parameters": {}, "sources": {}}
    try:
        state = json.loads((out / STATE).read_text())
        return {"parameters": state["parameters"], "sources": dict(state["sources"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out / STATE}: is damaged ({error}); delete {out} and start again") from error

"""Make hair-free copies of a split (D06); an interrupted run continues where it stopped."""
from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from tqdm import tqdm

from data_tools import steps
from data_tools.errors import DataError
from data_tools.files import JPEG_QUALITY, at_a_time, encode_image, locked, read_image, sweep, write_together
from data_tools.hair import remove_hair
from data_tools.isic import GROUNDTRUTH, Sample, find_pictures, refuse_unreadable, write_groundtruth
from data_tools.parallel import Jobs, workers

RECORD = ".clean.json"
LOSS = 0.25  # seconds of work that a killed process loses, with the picture that it is at
HAIR = ("along", "letter", "none")  # D18
CODE = ("data_tools.hair", "data_tools.hair_branches", "data_tools.hair_fill")


class Made(NamedTuple):
    """What became of one picture: the share of its pixels found to be hair, or the reason why there is no copy."""

    hair: float
    problem: str


@dataclass
class Cleaning:
    """The step that writes a source folder with hair-free copies of pictures.

    A picture in which no hair was found is copied byte for byte; a changed one is encoded anew. ``groundtruth.csv`` is
    written last: where it is, the folder is complete. Copies of an earlier run are kept when they were made with the same
    parameters and code from the same pictures.

    Attributes
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
    todo, shares
        The pictures that are made now; the share of hair pixels of each, once it is made.
    """

    samples: List[Sample]
    out: Path
    hair: str = "along"
    masks: Optional[Path] = None
    suffix: str = ".jpg"
    jobs: Jobs = 1
    todo: List[Sample] = field(default_factory=list)
    shares: List[float] = field(default_factory=list)

    def step(self) -> steps.Step:
        """Return the step."""
        source = steps.find_record(self.samples[0].path.parent) if self.hair == "none" else None
        before = source.pictures if source else {}  # copies of pictures that were cleaned stay cleaned
        parameters = {"pictures": before or {"hair": self.hair}, "suffix": self.suffix, "quality": JPEG_QUALITY,
                      "masks": str(self.masks and self.masks.absolute()), "code": steps.code(*CODE),
                      "labels": [sample.label for sample in self.samples]}
        return steps.Step(f"clean/{self.out.name}", self.out, self.out / RECORD, parameters,
                          {sample.image_id: sample.path for sample in self.samples}, self._work, self._prepare, resumes=True)

    def _prepare(self, old: Optional[steps.Record]) -> None:
        """Find out which pictures are to be made; delete what an earlier run made otherwise."""
        if any(os.path.realpath(sample.path.parent) == os.path.realpath(self.out) for sample in self.samples):
            raise DataError(f"{self.out}: holds the original pictures; choose another folder for the copies")
        step = self.step()
        steps.take_over(step, old)
        keep, there = set(steps.kept(step, old, "labels")), find_pictures(self.out)
        self.todo = [sample for sample in self.samples if sample.image_id not in keep or sample.image_id not in there]
        if self.todo:
            (self.out / GROUNDTRUTH).unlink(missing_ok=True)
        for image_id in set(old.inputs if old else ()) - keep:
            if image_id in there:
                there[image_id].unlink()

    def _work(self) -> List[Path]:
        with contextlib.ExitStack() as locks:
            if self.masks:
                locks.enter_context(locked(self.masks))
                self.masks.mkdir(parents=True, exist_ok=True)
            folders = list(filter(None, (self.out, self.masks)))
            for folder in folders:
                sweep(folder)
            self.shares = self._make()
            for folder in folders:  # a worker of a cluster may have been killed, and others took its work over
                sweep(folder)
        labels = {sample.image_id: sample.label for sample in self.samples}
        write_groundtruth(self.out / GROUNDTRUTH, labels)
        copies = find_pictures(self.out)
        return [self.out / GROUNDTRUTH, *(copies[image_id] for image_id in labels),
                *(self.masks / mask_name(image_id) for image_id in labels if self.masks)]

    def _make(self) -> List[float]:
        work = functools.partial(_clean_some, out=self.out, hair=self.hair, masks=self.masks, suffix=self.suffix)
        together = at_a_time([sample.path for sample in self.todo])
        with workers(self.jobs) as pool, contextlib.closing(pool.map(work, self.todo, len(self.todo), together)) as results:
            made = list(tqdm(results, "clean", len(self.todo), unit="picture", disable=None))
        refuse_unreadable({sample.image_id: one.problem for sample, one in zip(self.todo, made) if one.problem}, len(self.todo))
        return [one.hair for one in made]


def clean(samples: List[Sample], out: Path, *, hair: str = "along", masks: Optional[Path] = None,
          suffix: str = ".jpg", jobs: Jobs = 1) -> List[float]:
    """Write hair-free copies as `Cleaning` says; return the share of hair pixels of each picture made now."""
    cleaning = Cleaning(samples, Path(out), hair, masks, suffix, jobs)
    steps.run(cleaning.step())
    return cleaning.shares


def mask_name(image_id: str) -> str:
    """Return the name of a hair mask's file."""
    return f"{image_id}_hair.png"


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
    files = {masks / mask_name(sample.image_id): encode_image(mask.astype(np.uint8) * 255, ".png")} if masks else {}
    if mask.any():
        files[out / f"{sample.image_id}{suffix}"] = encode_image(cleaned, suffix)
    else:
        files[out / f"{sample.image_id}{sample.path.suffix.lower()}"] = sample.path.read_bytes()
    return Made(float(mask.mean()), ""), files


def _remove(image: np.ndarray, hair: str) -> Tuple[np.ndarray, np.ndarray]:
    return (image, np.zeros(image.shape[:2], bool)) if hair == "none" else remove_hair(image, method=hair)

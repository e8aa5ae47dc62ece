"""Cut each picture's most active region out at full resolution for stage 2: the command ``crops``."""
import argparse
import contextlib
import csv
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import msgspec
import numpy as np

from data_tools import steps
from data_tools.commands import add, add_step
from data_tools.errors import DataError, unknown
from data_tools.files import JPEG_QUALITY, read_image, write_atomic, write_image
from data_tools.isic import CLASSES, GROUNDTRUTH, Sample, find_pictures, load_samples, picture_inputs, write_groundtruth
from data_tools.parallel import default_jobs, result, submit
from data_tools.records import Count, read_file, read_row, read_table

from . import engine, region_rule
from .cam import BLENDS
from .errors import CamError
from .forward import (
    BATCH,
    CODE,
    NET_INPUTS,
    Network,
    Views,
    add_net_arguments,
    ahead,
    check_finite,
    net_inputs,
    open_net,
    predict_with_maps,
)
from .preprocess import VIEWS
from .region_rule import RegionRule, locate
from .regions import Box
from .studies.controls import CONTROLS, elsewhere

FORMATS = ("jpg", "png")
BOXES = "boxes.csv"
JOURNAL = ".boxes.csv"  # one row for each finished picture; a restart continues from it
RECORD = "crops.json"
AGAIN = "make the crops again with `python -m pycam crops`"
MANY_WHOLE = 0.25  # share of crops that are the whole picture from which on a note is printed


class Row(msgspec.Struct, frozen=True, rename={"followed": "class"}):
    """A row of boxes.csv: a picture, its box, whose map that follows (see `cam.select`), why it is there, the picture's size."""

    image_id: str
    y0: Count
    x0: Count
    y1: Count
    x1: Count
    followed: str
    reason: str
    height: Count
    width: Count

    def __post_init__(self) -> None:
        """Refuse an unknown map, and a box that does not lie in its picture."""
        if self.followed not in CLASSES + BLENDS:
            raise ValueError(f"class: {unknown(self.followed, CLASSES + BLENDS)}")
        if not (self.y0 < self.y1 <= self.height and self.x0 < self.x1 <= self.width):
            raise ValueError(f"the box {tuple(self.box)} does not lie in a picture of {self.height} x {self.width}")

    @property
    def box(self) -> Box:
        """Return what is cut out."""
        return Box(self.y0, self.x0, self.y1, self.x1)

    @property
    def is_whole(self) -> bool:
        """Tell whether the box is the whole picture."""
        return self.box.covers((self.height, self.width))


COLUMNS = tuple(field.encode_name for field in msgspec.structs.fields(Row))


def add_parser(subparsers: Any) -> None:
    """Add the command ``crops``."""
    parser = add(
        subparsers, "crops", "cut the most active region out of every picture",
        "python -m pycam crops --net prototxt/vgg_gap_deploy.prototxt --weights build/stage1 --images build/clean/train "
        "--out build/crops/train",
        "Write a crop of every picture, cut from its original pixels where its class activation map is strongest. The result "
        "is a source folder, like the one it was made from; groundtruth.csv is written last, so its presence means complete. "
        "Run it again to go on after an interruption.")
    add_net_arguments(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="SRC",
                        help="source folder: pictures and groundtruth.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the crops")
    region_rule.add_arguments(parser)
    parser.add_argument("--control", choices=CONTROLS,
                        help="cut something else instead, to see what the regions contribute: the whole picture, or a box of "
                             "the region's size in the middle or at random")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="of the crops (default: jpg)")
    parser.add_argument("--force", action="store_true", help="allow --class true outside a folder named train")
    add_step(parser, step)


def read_rule(args: argparse.Namespace) -> RegionRule:
    """Return the rule that a command line names; refuse one that would leak the labels of pictures that are scored."""
    rule = RegionRule().changed(**region_rule.given(args))
    if rule.class_rule == "true" and os.path.basename(os.path.realpath(args.images)) != "train" and not args.force:
        raise CamError(f"--class true: {args.images} is not a folder named train, and the true class would leak the "
                       "labels into the crops that are scored; use --class predicted, or --force")
    return rule


def step(args: argparse.Namespace) -> steps.Step:
    """Return the step of the command ``crops``."""
    return Cropping(args.net, args.weights, args.images, args.out, read_rule(args), args.control, args.format,
                    engine.backend(args), args.batch).step()


@dataclass
class Cropping:
    """The step that cuts a region out of every picture of a source folder.

    Attributes
    ----------
    net, weights, images, out : Path
        Deploy prototxt, weights of stage 1, the source folder, the folder of the crops.
    rule : RegionRule
        Which region.
    control : str, optional
        What is cut instead, see `pycam.studies.controls`.
    format : str
        ``jpg`` (quality 95) or ``png``.
    backend : Backend
        Engine, device, arithmetic.
    batch : int
        Patches a pass.
    samples, done
        The pictures; the rows of boxes.csv that are there already, by image id.
    """

    net: Path
    weights: Path
    images: Path
    out: Path
    rule: RegionRule = field(default_factory=RegionRule)
    control: Optional[str] = None
    format: str = FORMATS[0]
    backend: engine.Backend = engine.DEFAULT
    batch: int = BATCH
    samples: List[Sample] = field(init=False)
    done: Dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """List the pictures."""
        if os.path.realpath(self.out) == os.path.realpath(self.images):
            raise CamError(f"--out {self.out} is the source folder itself; name another folder")
        self.samples = load_samples(self.images)

    def step(self) -> steps.Step:
        """Return the step."""
        source = steps.find_record(self.images)
        pictures = {**(source.pictures if source else {}), "region": region_rule.recorded(self.rule, self.control)}
        parameters = {"pictures": pictures, "format": self.format, "quality": JPEG_QUALITY, **self.backend.parameters(),
                      "code": steps.code(*CODE, *region_rule.CODE, "pycam.crops", "pycam.studies.controls")}
        return steps.Step(f"crops/{self.out.name}", self.out, self.out / RECORD, parameters,
                          {**net_inputs(self.net, self.weights), **picture_inputs(self.samples)}, self._work, self._prepare, True)

    def _prepare(self, old: Optional[steps.Record]) -> None:
        """Find out which crops are there already, and delete those that would be made otherwise now.

        groundtruth.csv is written last: a folder without it is incomplete.
        """
        step = self.step()
        steps.take_over(step, old)
        whole, same = (self.out / BOXES).is_file(), set(steps.kept(step, old))
        keep = {name.split()[0] for name in same} if same.issuperset(NET_INPUTS) else set()
        rows = read_boxes(self.out / BOXES) if keep and whole else read_journal(self.out / JOURNAL) if keep else {}
        there = find_pictures(self.out)
        self.done = {image_id: row for image_id, row in rows.items() if image_id in keep and image_id in there}
        for path in (self.out / GROUNDTRUTH, self.out / BOXES, self.out / JOURNAL,
                     *(path for image_id, path in there.items() if image_id not in self.done)):
            path.unlink(missing_ok=True)
        self._note(list(self.done.values()))

    def _note(self, rows: Sequence[Row]) -> None:
        with open(self.out / JOURNAL, "a", encoding="utf-8", newline="") as journal:
            csv.writer(journal, lineterminator="\n").writerows(map(msgspec.structs.astuple, rows))

    def _work(self) -> List[Path]:
        todo = [sample for sample in self.samples if sample.image_id not in self.done]
        if todo:
            network = open_net(self.net, self.weights, self.backend)

            def read(sample: Sample) -> Tuple[np.ndarray, Views]:
                image = read_image(sample.path)
                return image, network.views(image, self.rule.views)

            for part in ahead(read, todo, max(1, self.batch // VIEWS[self.rule.views])):
                rows = self._crop(network, part)
                self.done.update({row.image_id: row for row in rows})
                self._note(rows)
        self._finish([self.done[sample.image_id] for sample in self.samples])
        print(f"{self.out}: {len(self.samples)} crops, {len(todo)} made now, {describe(list(self.done.values()))}")
        crops = find_pictures(self.out)
        return [self.out / BOXES, self.out / GROUNDTRUTH, *(crops[sample.image_id] for sample in self.samples)]

    def _crop(self, network: Network, part: Sequence[Tuple[Sample, Tuple[np.ndarray, Views]]]) -> List[Row]:
        """Cut and write the crops of a few pictures, given with their pixels and views; return their rows of boxes.csv."""
        probs, cams = predict_with_maps(network, [patches for _, (_, patches) in part])
        check_finite([sample.image_id for sample, _ in part], probs)

        def crop(number: int) -> Row:
            sample, (image, _) = part[number]
            size = (image.shape[0], image.shape[1])
            found = locate(self.rule, cams[number], probs[number], size, network.grid, sample.label)
            region = elsewhere(found.region, size, self.control, sample.image_id) if self.control else found.region
            write_image(self.out / f"{sample.image_id}.{self.format}", region.box.cut(image))
            return Row(sample.image_id, *region.box, found.followed, region.reason, *size)

        with ThreadPoolExecutor(default_jobs()) as pool:
            return [result(row) for row in [submit(pool, crop, number) for number in range(len(part))]]

    def _finish(self, rows: Sequence[Row]) -> None:
        """Write boxes.csv and then groundtruth.csv; the journal is no longer needed."""
        lines = [",".join(map(str, line)) for line in (COLUMNS, *map(msgspec.structs.astuple, rows))]
        write_atomic(self.out / BOXES, "".join(f"{line}\n" for line in lines).encode())
        write_groundtruth(self.out / GROUNDTRUTH, {sample.image_id: sample.label for sample in self.samples})
        (self.out / JOURNAL).unlink(missing_ok=True)


def describe(rows: Sequence[Row]) -> str:
    """Say how many crops are the whole picture, by their boxes, and how large they are; a note where these are many."""
    whole = sum(row.is_whole for row in rows)
    side = np.median([np.sqrt(np.prod(row.box.size) / (row.height * row.width)) for row in rows])
    note = "; a stage 2 on whole pictures learns nothing from the regions, see D09" if whole > MANY_WHOLE * len(rows) else ""
    return f"{whole} of them whole pictures, median side {side:.2f} of the picture{note}"


def read_journal(path: Path) -> Dict[str, Row]:
    """Read what an interrupted run finished; lines that are damaged, or cut short as the last can be, are passed over."""
    if not path.exists():
        return {}
    found: Dict[str, Row] = {}
    for line in read_file(path, "the journal of crops").decode(errors="replace").rpartition("\n")[0].split("\n"):
        with contextlib.suppress(DataError, csv.Error):
            row = read_row(path, 0, next(csv.reader([line]), []), Row, COLUMNS, AGAIN)
            found[row.image_id] = row
    return found


def read_boxes(path: Path) -> Dict[str, Row]:
    """Read boxes.csv: image id -> row."""
    return {row.image_id: row for row in read_table(path, Row, COLUMNS, "what `python -m pycam crops` writes", AGAIN)}

"""Command line: ``python -m data_tools download | clean | hair-preview | folds | lmdb | verify | synthetic``."""
from __future__ import annotations

import argparse
import itertools
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence

from torchcaffe.limits import MAX_PIXELS, guard_decoder

guard_decoder()  # before the modules below load OpenCV

import numpy as np

from data_tools import (
    __version__,
    augment,
    build,
    clean,
    copies,
    download,
    folds,
    hair,
    hair_preview,
    manifest,
    plan,
    steps,
    synthetic,
    synthetic_picture,
)
from data_tools import commands as common
from data_tools.commands import Parser, add, add_step, whole
from data_tools.errors import DataError
from data_tools.files import JPEG_QUALITY, read_image, write_image
from data_tools.isic import SPLITS, Sample, find_pictures, find_split, load_samples
from data_tools.lmdb_io import ENCODINGS
from data_tools.parallel import default_jobs

AUGMENTS = {"paper": (augment.ROTATIONS, True, "five"), "none": ((0,), False, "centre"),  # D01, D02
            "random": ((0, 90, 180, 270), False, "whole")}  # D23
SIDE = math.isqrt(MAX_PIXELS)  # of a square picture as large as pictures may be
SEED = whole(0, 2 ** 32 - 1)
MOST_JOBS = 1024

if TYPE_CHECKING:
    from data_tools.commands import Commands


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; return the process's exit code."""
    return common.main(make_parser(), arguments, (DataError, OSError))


def make_parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    parser = Parser("python -m data_tools", description="From dermoscopy pictures to Caffe's LMDBs.")
    parser.add_argument("--version", action="version", version=f"skin-lesion-cam {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_command in (_add_download, _add_clean, _add_hair_preview, _add_folds, _add_lmdb, _add_verify, _add_synthetic):
        add_command(commands)
    return parser


def _add(commands: Commands, name: str, text: str, example: str) -> argparse.ArgumentParser:
    command = add(commands, name, text, f"python -m data_tools {example}")
    command.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    return command


def _add_download(commands: Commands) -> None:
    command = _add(commands, "download", "Fetch, unpack and check ISIC-2017; an interrupted download goes on.",
                   "download --out data/isic2017")
    command.add_argument("--out", type=Path, default=Path("data/isic2017"), metavar="ROOT", help="folder of the data set")
    command.add_argument("--split", choices=SPLITS, help="only this part of it")
    command.add_argument("--check", action="store_true", help="only check what is there, without a network")
    command.add_argument("--base", default=download.BASE, metavar="URL", help="address of the folder with the archives")
    _add_jobs(command)
    command.set_defaults(run=_download, parser=command)


def _add_clean(commands: Commands) -> None:
    command = _add(commands, "clean", "Write hair-free copies of a split's pictures, and their groundtruth.csv.",
                   "clean --isic data/isic2017 --split train --out build/clean/train")
    command.add_argument("--isic", type=Path, metavar="ROOT", help="the data set's folder")
    command.add_argument("--split", choices=SPLITS, help="which part of it")
    _add_source(command, required=False)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    command.add_argument("--hair", choices=clean.HAIR, default="along", help="method of hair removal (D18)")
    command.add_argument("--masks", type=Path, metavar="DIR", help="also write the hair masks there")
    command.add_argument("--format", choices=("jpg", "png"), default="jpg", help="of the pictures that were changed")
    command.add_argument("--exclude-copies-of", type=Path, action="append", default=[], metavar="DIR",
                         help="leave out pictures that are also, byte for byte, in another split's folder (D20)")
    command.add_argument("--exclude", type=_ids, default=[], metavar="ID,ID", help="leave out these pictures (D20)")
    _add_jobs(command)
    command.set_defaults(run=_clean, step=lambda options: _cleaning(options).step(), parser=command)


def _add_hair_preview(commands: Commands) -> None:
    command = _add(commands, "hair-preview", "Write one picture, the hair found in it and its hair-free copy side by side.",
                   "hair-preview picture.jpg --out build/preview.jpg")
    command.add_argument("picture", type=Path, metavar="PICTURE", help="the picture to look at")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="sheet to write, .jpg or .png")
    command.add_argument("--hair", choices=hair.METHODS, default="along", help="method of hair removal (D18)")
    command.add_argument("--width", type=whole(1, SIDE), default=hair_preview.WIDTH, help="largest width of one panel, px")
    command.set_defaults(run=_hair_preview, parser=command)


def _add_folds(commands: Commands) -> None:
    command = _add(commands, "folds", "Write the label files of a cross-validation on one folder of pictures (D22).",
                   "folds --images build/clean/train --out build/folds")
    _add_source(command, required=True)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for 1_train.csv, 1_val.csv, ...")
    command.add_argument("--folds", type=whole(2, 1000), default=3, metavar="N", help="how many")
    command.add_argument("--seed", type=SEED, default=1, help="which picture goes where")
    add_step(command, _folds)


def _add_lmdb(commands: Commands) -> None:
    command = _add(commands, "lmdb", "Write an LMDB for Caffe's Data layer: resized, augmented, shuffled.",
                   "lmdb --images build/clean/train --out build/lmdb/stage1_train")
    _add_source(command, required=True)
    command.add_argument("--out", type=Path, required=True, metavar="DB", help="folder to make")
    command.add_argument("--augment", choices=sorted(AUGMENTS), default="paper",
                         help="paper: 30 records a picture; none: the centre patch, for validation; "
                              "random: the whole picture in four turns, for nets that draw patches themselves (D23)")
    command.add_argument("--rotations", type=_numbers, metavar="0,90,180", help="instead of --augment's (D01)")
    command.add_argument("--no-flip", action="store_true", help="no horizontal flip")
    command.add_argument("--patches", choices=sorted(augment.PATCHES), help="instead of --augment's (D02)")
    command.add_argument("--size", type=whole(1, SIDE), help="side of the resized picture (D03), instead of 8/7 of a patch's")
    command.add_argument("--patch-size", type=whole(1, SIDE), default=augment.PATCH_SIZE, help="side of a patch (D03)")
    command.add_argument("--encoding", choices=ENCODINGS, default="jpg", help="of the records")
    command.add_argument("--quality", type=whole(1, 100), default=JPEG_QUALITY, help="of JPEG records")
    command.add_argument("--seed", type=SEED, default=1, help="of the order")
    command.add_argument("--balance", choices=plan.BALANCES, default="none", help="for rare classes (D15)")
    _add_jobs(command)
    add_step(command, _lmdb)


def _add_verify(commands: Commands) -> None:
    command = _add(commands, "verify", "Hold LMDBs against their manifests, record by record; no two may share a picture.",
                   "verify build/lmdb/stage1_train build/lmdb/stage1_val")
    command.add_argument("databases", type=Path, nargs="+", metavar="DB", help="folder of an LMDB")
    command.set_defaults(run=_verify, parser=command)


def _add_synthetic(commands: Commands) -> None:
    command = _add(commands, "synthetic", "Make up a data set in the challenge's form.",
                   "synthetic --out data/synthetic")
    command.add_argument("--out", type=Path, required=True, metavar="ROOT", help="folder to make")
    for split, count in (("train", 240), ("val", 90), ("test", 0)):
        command.add_argument(f"--{split}", type=whole(0, synthetic.MOST), default=count, metavar="N",
                             help=f"pictures of split {split}")
    command.add_argument("--seed", type=SEED, default=1, help="of the pictures")
    command.add_argument("--height", type=whole(synthetic.LEAST, SIDE), default=synthetic_picture.HEIGHT, help="of the pictures")
    command.add_argument("--width", type=whole(synthetic.LEAST, SIDE), default=synthetic_picture.WIDTH, help="of the pictures")
    _add_jobs(command)
    add_step(command, _synthetic)


def _add_source(command: argparse.ArgumentParser, required: bool) -> None:
    command.add_argument("--images", type=Path, required=required, metavar="DIR", help="a folder of pictures")
    command.add_argument("--truth", type=Path, metavar="CSV", help="their labels; DIR/groundtruth.csv if not given")


def _add_jobs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--jobs", type=whole(1, MOST_JOBS), default=default_jobs(), metavar="N",
                         help="processes; the result is the same for every number")
    command.add_argument("--scheduler", dest="jobs", metavar="tcp://HOST:PORT", default=argparse.SUPPRESS,
                         help="of a Dask cluster that does the work instead; its workers must see the same folders")


def _numbers(text: str) -> List[int]:
    return [whole(0, 359)(part) for part in text.split(",")]


def _ids(text: str) -> List[str]:
    return text.split(",")


def _download(options: argparse.Namespace) -> None:
    splits = [options.split] if options.split else SPLITS
    if not options.check:
        download.download(options.out, splits, options.base)
    for split, counts in download.verify(options.out, splits, options.jobs).items():
        print(f"{options.out}: {split} {sum(counts)} pictures, {download.counted(counts)}: complete")


def _cleaning(options: argparse.Namespace) -> clean.Cleaning:
    if (options.isic is None) == (options.images is None) or (options.isic is None) != (options.split is None):
        options.parser.error("expected either --isic and --split, or --images")
    if options.isic is not None and options.truth is not None:
        options.parser.error("--truth goes with --images; --isic finds its own labels")
    images, truth = find_split(options.isic, options.split) if options.isic else (options.images, options.truth)
    kept = copies.exclude(load_samples(images, truth), options.exclude)
    for folder in options.exclude_copies_of:
        found = copies.find_copies(kept, folder)
        if found:
            print(f"left out: {copies.describe(found, folder)}", file=sys.stderr)
        kept = copies.exclude(kept, list(found))
    return clean.Cleaning(kept, options.out, options.hair, options.masks, f".{options.format}", options.jobs)


def _clean(options: argparse.Namespace) -> None:
    cleaning = _cleaning(options)
    if not steps.run(cleaning.step()):
        return
    _note_copies(cleaning.samples, options)
    shares, hairy = cleaning.shares, np.count_nonzero(cleaning.shares)
    print(f"{options.out}: {len(cleaning.samples)} pictures, {len(cleaning.samples) - len(shares)} kept from an earlier run, "
          f"{len(shares)} made now, hair in {hairy} of these, {100 * np.mean(shares or [0]):.2f} % of their pixels")


def _note_copies(samples: List[Sample], options: argparse.Namespace) -> None:
    """Report copies in other splits of the data set that were left in (D20)."""
    for folder in copies.other_splits(options.isic, options.split) if options.isic else []:
        found = copies.find_copies(samples, folder)
        if found:
            print(f"note: {copies.describe(found, folder)}; clean train with --exclude-copies-of", file=sys.stderr)


def _hair_preview(options: argparse.Namespace) -> None:
    if options.out.suffix not in (".jpg", ".png"):
        options.parser.error(f"--out {options.out}: expected a name that ends in .jpg or .png")
    image = read_image(options.picture)
    cleaned, mask = hair.remove_hair(image, method=options.hair)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_image(options.out, hair_preview.preview_sheet(image, cleaned, mask, width=options.width))
    print(f"{options.out}: hair on {100 * mask.mean():.2f} % of {options.picture}")


def _folds(options: argparse.Namespace) -> steps.Step:
    return folds.step(_load(options.images, options.truth), options.out, options.folds, options.seed)


def _lmdb(options: argparse.Namespace) -> steps.Step:
    rotations, flip, patches = AUGMENTS[options.augment]
    chosen = augment.variants(options.rotations or rotations, flip and not options.no_flip, options.patches or patches)
    size = options.size or augment.picture_side(options.patch_size)
    return build.step(_load(options.images, options.truth), options.out, chosen, options.jobs, size=size,
                      patch_size=options.patch_size, encoding=options.encoding, quality=options.quality,
                      seed=options.seed, balance=options.balance)


def _load(images: Path, truth: Optional[Path]) -> List[Sample]:
    samples = load_samples(images, truth)
    unlisted = len(find_pictures(images)) - len(samples)
    if unlisted:
        print(f"note: {unlisted} pictures of {images} are not in the label file and are left out", file=sys.stderr)
    return samples


def _verify(options: argparse.Namespace) -> None:
    for folder in options.databases:
        print(f"{manifest.summary(folder, manifest.verify(folder))}: verified")
    for first, second in itertools.combinations(options.databases, 2):
        same = copies.compare_databases(first, second)
        if same:
            print(f"note: in {first}, {copies.describe(same, second)} (D20)", file=sys.stderr)
        print(f"{first}, {second}: no picture id in both, {len(same)} files")


def _synthetic(options: argparse.Namespace) -> steps.Step:
    counts = {split: getattr(options, split) for split in SPLITS}
    return synthetic.step(options.out, counts, options.jobs, seed=options.seed, height=options.height, width=options.width)


if __name__ == "__main__":
    sys.exit(main())

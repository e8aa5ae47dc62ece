"""Check everything before hours of training: one line a check, and what to do about each one that fails."""
import argparse
import contextlib
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

from data_tools.commands import add
from data_tools.download import counted, describe_subset, labels_name
from data_tools.errors import DataError
from data_tools.files import listing
from data_tools.isic import CLASSES, GROUNDTRUTH, SPLITS, count_classes, find_split, load_samples
from torchcaffe.errors import CaffeError, sentence

from . import checks, engine, job, weights
from .errors import CamError
from .job import Job
from .probe import NotTriedError, Probe, Request, probe
from .snapshots import newest_state

OPTIONAL = "test"  # the split without which everything but its own predictions can be made
DEPLOY = "predictions"


def add_parser(subparsers: Any) -> None:
    """Add the command ``doctor``."""
    parser = add(
        subparsers, "doctor", "check everything before training",
        "python -m pycam doctor --isic data/isic2017 --solver solvers/stage1.prototxt solvers/stage2.prototxt "
        "--net prototxt/vgg_gap_deploy.prototxt --weights vgg16CAM_train_iter_90000.caffemodel",
        "Check engine, device, pictures, LMDBs, networks, weights, memory and disk for some trainings, and measure how long they "
        "take. Prints `ok  ...` or `FAIL  ...: what to do` for each; exit status 1 when one failed.")
    parser.add_argument("--solver", type=Path, nargs="+", required=True, metavar="SOLVER",
                        help="solvers: of stage 1, of stage 2, others of stage 1")
    parser.add_argument("--net", type=Path, required=True, metavar="DEPLOY", help="prototxt that predicts with what they train")
    parser.add_argument("--isic", type=Path, metavar="ROOT", help="folder of the data set; not looked at when left out")
    parser.add_argument("--weights", type=Path, metavar="W", help="what the first solver starts from")
    parser.add_argument("--start2", type=Path, metavar="W", help="what stage 2 starts from (default: what the first made)")
    parser.add_argument("--quiet", action="store_true", help="print only what failed, measure nothing")
    job.add_arguments(parser)
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


class Findings:
    """Tells what checks find, and counts them."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.looks, self.failed = quiet, 0, 0

    def look(self, title: str, check: Callable[..., str], *given: Any) -> None:
        """Make a check and print its line: passed, failed, or skipped since an earlier check failed."""
        self.looks += 1
        try:
            text, mark = check(*given), "ok  "
        except NotTriedError as error:
            text, mark = str(error), "--  "
        except (CamError, DataError, CaffeError, OSError) as error:
            text, mark = sentence(error), "FAIL"
            self.failed += 1
        if not (self.quiet and mark == "ok  "):
            print(f"{mark}  {title}: " + text.replace("\n", "\n      "), flush=True)


def run(args: argparse.Namespace) -> None:
    """Run the command ``doctor``."""
    backend, findings = engine.backend(args), Findings(args.quiet)
    jobs = read_jobs(args.solver, findings, root=args.folder, gpu=args.gpu, batch=args.batch, max_iter=args.max_iter,
                     edit=args.edit, patch=args.patch)
    requests = [request for one in jobs for request in checks.requests(one)]
    if args.net.is_file():
        requests.append(Request(DEPLOY, args.net.read_text(encoding="utf-8", errors="replace"), "TEST"))
    requests += [] if args.quiet else [checks.timing(one) for one in jobs]
    tried = probe(backend._replace(engine=engine.choose(*backend)), requests)
    findings.look("engine", checks.check_engine, tried)
    findings.look("device", checks.check_device, tried, backend)
    if args.isic:
        findings.look("pictures", check_pictures, args.isic, args.folder / "clean")
    for one in jobs:
        look_at_training(findings, one, tried, backend, *start_of(one, jobs[0], args.weights, args.start2))
    findings.look(DEPLOY, check_deploy, args.net, tried, jobs)
    if findings.failed:
        raise CamError(f"{findings.failed} of {findings.looks} checks failed; each FAIL line says what to do")


def look_at_training(findings: Findings, one: Job, tried: Probe, backend: engine.Backend, start: Optional[Path],
                     instead: str) -> None:
    """Make the checks of one training."""
    findings.look(f"{one.name} folder", checks.check_folder, one)
    findings.look(f"{one.name} sources", checks.check_sources, one, True)
    if not findings.quiet:  # before a run these may be of another one; each training looks at its own
        findings.look(f"{one.name} records", checks.check_records, one)
    findings.look(f"{one.name} mean", checks.check_mean, one)
    findings.look(f"{one.name} fillers", checks.check_fillers, one, start, instead)
    findings.look(f"{one.name} net", checks.check_net, one, tried)
    findings.look(f"{one.name} weights", checks.check_start, one, tried, start, instead)
    findings.look(f"{one.name} memory", checks.check_memory, one, tried, backend.gpu)
    findings.look(f"{one.name} disk", checks.check_disk, one, tried)
    if not findings.quiet:
        findings.look(f"{one.name} time", checks.check_time, one, tried)


# ---------------------------------------------------------------- the trainings
def read_jobs(solvers: Sequence[Path], findings: Findings, **given: Any) -> List[Job]:
    """Return the trainings of the readable solvers, with the further arguments of `read_job`; report the other solvers."""
    jobs: List[Job] = []
    for source in solvers:
        try:
            jobs.append(job.read_job(source, **given))
        except (CamError, CaffeError, OSError) as error:
            findings.look(str(source), fail, error)
    return jobs


def fail(error: Exception) -> str:
    """Raise an error as a check does."""
    raise error


def start_of(one: Job, first: Job, start: Optional[Path], start2: Optional[Path]) -> Tuple[Optional[Path], str]:
    """Return the weights that a training starts from, or else what it starts from instead."""
    made = first.folder / engine.FINAL_WEIGHTS
    given, instead = (start if one is first else None), ""
    if one.stage != first.stage:
        given, instead = start2 or (made if made.is_file() else None), f"those that {first.name} will make"
    given = given or one.start
    return given, "" if given else "the newest snapshot" if newest_state(one.prefix) else instead


# ---------------------------------------------------------------- pictures and predictions
def check_pictures(root: Path, clean: Path) -> str:
    """See that each split's labels and pictures are there, and that the validation pictures can be scored.

    A run whose hair-free copies in `clean` are all there needs the originals no more.
    """
    cleaned = all((clean / split / GROUNDTRUTH).is_file() for split in SPLITS if split != OPTIONAL)
    place = clean if cleaned else root
    try:
        found = [_look_at_split(place, split) for split in SPLITS if split != OPTIONAL or _has(place, split)]
    except DataError as error:
        raise DataError(f"{error}; make data fetches ISIC-2017, ISIC= names another folder") from error
    text = f"{clean} has what was made of them" if cleaned else f"{root}: {', '.join(seen for seen, _ in found)}"
    return "\n".join([text, *(note for _, note in found if note)])


def _has(root: Path, split: str) -> bool:
    with contextlib.suppress(DataError):
        return bool(find_split(root, split))
    return False


def _look_at_split(root: Path, split: str) -> Tuple[str, str]:
    """Return what a split has, and a note where that is not all of the challenge's."""
    folder, table = find_split(root, split)
    labels = {sample.image_id: sample.label for sample in load_samples(folder, table)}
    numbers, note = count_classes(labels.values()), ""
    lacking = [name for name in CLASSES[:2] if numbers[name] in (0, len(labels))]
    if lacking and split == "val":
        raise DataError(f"{table}: {numbers[lacking[0]]} of {len(labels)} pictures are {lacking[0]}, and a score (table1) needs "
                        f"both kinds: choose other validation pictures")
    difference = describe_subset(labels, split) if table.name == labels_name(split) else ""
    if difference:
        note = f"note: {table}: {difference}: a subset, whose results are not those of ISIC-2017"
    return f"{split} {len(labels)} ({counted(list(numbers.values()))})", note


def check_deploy(path: Path, tried: Probe, jobs: List[Job]) -> str:
    """See that the network that predicts takes the weights that the training makes."""
    engine.check_prototxt(path)
    deploy = tried.get(DEPLOY, "the net cannot be made: ")["shapes"]
    for one in jobs:
        rows = weights.compare(deploy, tried.get(f"{one.name} training")["shapes"])
        unfit = [row.layer for row in rows if row.state != weights.COPIED]
        if unfit:
            raise CamError(f"{path}: its layers {listing(unfit)} are not in the trained net with these shapes; name the deploy "
                           f"file of the same network (NET of make)")
    return f"{path} takes all {len(deploy)} layers"

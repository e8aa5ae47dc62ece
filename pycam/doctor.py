"""Check everything before hours of training: one line a check, and what to do about each one that fails."""
import argparse
import contextlib
import functools
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from data_tools.download import check_counts, counted, labels_name
from data_tools.errors import DataError
from data_tools.files import listing
from data_tools.isic import GROUNDTRUTH, SPLITS, count_classes, find_split, load_samples
from torchcaffe.errors import CaffeError
from torchcaffe.netparam import read_solver

from . import engine, weights
from .checks import Check, Given, of_engine, of_files, of_nets, wanted_nets
from .errors import CamError
from .probe import Net, NotTriedError, Probe, Wanted, probe
from .snapshots import newest_state
from .texts import Job, prepare

OPTIONAL = "test"  # the split without which everything but its own predictions can be made


class Finding(NamedTuple):
    """What a check found: its title, whether all is well (None: could not be looked at), what it says."""

    title: str
    well: Optional[bool]
    text: str


def add_parser(subparsers: Any) -> None:
    """Add the command ``doctor``."""
    parser = subparsers.add_parser(
        "doctor", help="check everything before training",
        description="Check engine, device, pictures, LMDBs, networks, weights, memory and disk for some trainings. "
                    "Prints `ok  ...` or `FAIL  ...: what to do` for each; exit status 1 when one failed.",
        epilog="example: python -m pycam doctor --isic data/isic2017 --solver solvers/stage1.prototxt solvers/stage2.prototxt "
               "--net prototxt/vgg_gap_deploy.prototxt --weights vgg16CAM_train_iter_90000.caffemodel")
    parser.add_argument("--solver", type=Path, nargs="+", required=True, metavar="SOLVER", help="solvers, in their order")
    parser.add_argument("--net", type=Path, required=True, metavar="DEPLOY", help="prototxt that predicts with what they train")
    parser.add_argument("--isic", type=Path, metavar="ROOT", help="folder of the data set; not looked at when left out")
    parser.add_argument("--run", type=Path, default=Path("build"), dest="folder", metavar="RUN",
                        help="replaces build/ in the prototxts (default: build)")
    parser.add_argument("--weights", type=Path, metavar="W", help="what the first solver starts from")
    parser.add_argument("--start2", type=Path, metavar="W", help="what the second starts from (default: what the first made)")
    parser.add_argument("--batch", type=int, metavar="B", help="pictures computed at a time")
    parser.add_argument("--quiet", action="store_true", help="print only what failed")
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``doctor``."""
    failed, looks = 0, checks(args)
    for finding in examine(looks):
        failed += finding.well is False
        if not (args.quiet and finding.well):
            print(line(finding), flush=True)
    if failed:
        raise CamError(f"{failed} of {len(looks)} checks failed; each FAIL line says what to do")


def line(finding: Finding) -> str:
    """Return a finding as text: a line, and its details indented below."""
    mark = {True: "ok  ", False: "FAIL", None: "--  "}[finding.well]
    first, *details = finding.text.splitlines()
    return "\n".join([f"{mark}  {finding.title}: {first}", *(f"      {detail}" for detail in details)])


def examine(looks: Sequence[Check]) -> Iterator[Finding]:
    """Make checks in their order; one whose needs are not met is not made."""
    failed: Set[str] = set()
    for check in looks:
        unmet = [title for title in check.needs if title in failed]
        finding = Finding(check.title, None, f"not looked at, needs: {unmet[0]}") if unmet else _examined(check)
        if not finding.well:
            failed.add(check.title)
        yield finding


def _examined(check: Check) -> Finding:
    try:
        return Finding(check.title, True, check.look())
    except NotTriedError as error:
        return Finding(check.title, None, str(error))
    except (CamError, DataError, CaffeError, OSError) as error:
        return Finding(check.title, False, " ".join(str(error).split()))


def checks(args: argparse.Namespace) -> List[Check]:
    """Return all checks: the engine, the pictures, each training, the network that predicts."""
    jobs, broken = [], []
    for source in args.solver:
        try:
            jobs.append(_job(source, args))
        except (CamError, CaffeError, OSError) as error:
            broken.append(Check(f"{source}", functools.partial(_fail, error)))
    tried = functools.lru_cache(maxsize=None)(lambda: _try(jobs, args))
    found = of_engine(tried, args.gpu, args.precision)
    if args.isic:
        found.append(Check("pictures", lambda: check_pictures(args.isic, args.folder / "clean")))
    for place in range(len(jobs)):
        found += _of_training(jobs, place, tried, args)
    return [*found, *broken, Check("predictions", lambda: check_deploy(args.net, tried(), len(jobs)), ("device",))]


def _job(source: Path, args: argparse.Namespace) -> Job:
    """Return the training of a solver; its stage is the one that the solver's state names."""
    stages = read_solver(str(source)).train_state.stage
    if not stages:
        raise CamError(f'{source}: names no stage; give it train_state {{ stage: "stage1" }}')
    return prepare(source, args.folder, stages[0], args.gpu, args.batch)


def _fail(error: Exception) -> str:
    raise error


def _try(jobs: Sequence[Job], args: argparse.Namespace) -> Probe:
    nets = [net for job in jobs for net in wanted_nets(job)]
    with contextlib.suppress(CamError):  # which check_deploy raises again
        engine.check_prototxt(args.net)
        nets.append(Wanted(args.net.read_text(encoding="utf-8"), "TEST"))
    return probe(engine.choose(args.engine, args.gpu, args.precision), args.gpu, args.precision, nets)


def _of_training(jobs: Sequence[Job], place: int, tried: Callable[[], Probe], args: argparse.Namespace) -> List[Check]:
    """Return the checks of one of the trainings, with its stage in their titles."""
    def nets() -> Tuple[Net, Net]:
        return tried().net(2 * place), tried().net(2 * place + 1)
    job = jobs[place]
    given = Given(job, *_start(jobs, place, args), True, args.gpu, nets)
    found = [*of_files(given), *of_nets(given)]
    names = {check.title: f"{job.stage} {check.title}" for check in found}
    return [Check(names[check.title], check.look, tuple(names.get(title, title) for title in check.needs)) for check in found]


def _start(jobs: Sequence[Job], place: int, args: argparse.Namespace) -> Tuple[Optional[Path], str]:
    """Return the weights that a training starts from, or else what it starts from instead."""
    if newest_state(jobs[place].prefix):
        return None, "the newest snapshot"
    if place == 0:
        return args.weights, ""
    before = args.start2 or jobs[place - 1].folder
    there = before.is_file() or (before / engine.FINAL_WEIGHTS).is_file() or args.start2
    return (before, "") if there else (None, f"those that {jobs[place - 1].stage} will make")


def check_pictures(root: Path, clean: Path) -> str:
    """See that each split's labels and pictures are there, with the counts of the challenge where they are its own.

    A run whose hair-free copies in `clean` are all there needs the originals no more.
    """
    if all((clean / split / GROUNDTRUTH).is_file() for split in SPLITS if split != OPTIONAL):
        return f"{clean} has what was made of them"
    try:
        found = [_counts(root, split) for split in SPLITS if split != OPTIONAL or _has(root, split)]
    except DataError as error:
        raise DataError(f"{error}; make data fetches ISIC-2017, ISIC= names another folder") from error
    return f"{root}: {', '.join(found)}"


def _has(root: Path, split: str) -> bool:
    with contextlib.suppress(DataError):
        return bool(find_split(root, split))
    return False


def _counts(root: Path, split: str) -> str:
    folder, table = find_split(root, split)
    labels = {sample.image_id: sample.label for sample in load_samples(folder, table)}
    if table.name == labels_name(split):
        check_counts(labels, split, table)
    return f"{split} {len(labels)} ({counted(list(count_classes(labels.values()).values()))})"


def check_deploy(path: Path, tried: Probe, jobs: int) -> str:
    """See that the network that predicts takes the weights that the training makes."""
    engine.check_prototxt(path)
    deploy = tried.net(2 * jobs)
    for place in range(jobs):
        rows = weights.compare(deploy.params, tried.net(2 * place).params)
        unfit = [row.layer for row in rows if row.state != weights.COPIED]
        if unfit:
            raise CamError(f"{path}: its layers {listing(unfit)} are not in the trained net with these shapes; name the deploy "
                           f"file of the same network (NET of make)")
    return f"{path} takes all {len(deploy.params)} layers"

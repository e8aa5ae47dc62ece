"""The paper's pipeline: which command each target of the Makefile needs, in which order; the command ``pipeline``.

pictures -> clean -> LMDB -> stage 1 -> crops -> LMDB -> stage 2 -> probabilities -> table -> report. Every step is called, and
does nothing while nothing changed that its output depends on (`data_tools.steps`). All are commands that can be typed by hand.
"""
import argparse
import importlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from data_tools.commands import add
from data_tools.errors import unknown
from data_tools.files import listing, write_atomic
from data_tools.steps import find_record, is_current, read_record

from .crops import read_rule
from .engine import weights_file
from .errors import CamError
from .table1 import table_file
from .variables import VARIABLES, problem, values

MARK = ".skin-lesion-cam"  # a file that tells that a folder is a run's
MADE = ("clean", "lmdb", "crops", "stage1", "stage1_scratch", "stage2", "results")  # folders of a run
NETWORK = ("train", "predict", "crops", "report", "doctor")  # commands that need an engine
DEMO = {"RUN": "build/demo", "NET": "vgg_gap_narrow", "SOLVERS": "demo_", "AUGMENT": "none", "REGION": "--threshold 0.65"}
DEMO_PICTURES = {"train": "600", "val": "150", "seed": "1"}
PREFIXES = {"vgg_gap": "", "vgg_gap_narrow": "narrow_", "googlenet_gap": "googlenet_"}  # of solver files
MAKE_ONLY = ("PYTHON", "TARGET", "CMD", "IMAGE", "OPTIONS", "GPUS", "DIGEST", "DEBIAN_MIRROR", "CPU_BASE", "GPU_BASE",
             "TORCH_BASE")  # variables that make itself uses
TARGETS = ("stage1", "crops", "stage2", "scratch", "table", "report", "all", "demo", "doctor", "clean")

Words = List[str]  # of a command, its module first


class Run(NamedTuple):
    """A run: the values of the Makefile's variables, and where its hair-free pictures and its stage 1 are."""

    values: Dict[str, str]
    pictures: Path
    first: Path

    @property
    def folder(self) -> Path:
        """Where everything else goes."""
        return Path(self.values["RUN"])

    def option(self, flag: str, name: str) -> Words:
        """Return an option with the value of a variable; nothing where it has none."""
        return [flag, self.values[name]] if self.values[name] else []

    @property
    def net(self) -> str:
        """Return the deploy prototxt."""
        return f"prototxt/{self.values['NET']}_deploy.prototxt"

    def solver(self, training: str) -> str:
        """Return the solver file of a training."""
        return f"solvers/{self.values['SOLVERS'] or PREFIXES[self.values['NET']]}{training}.prototxt"

    @property
    def use(self) -> Words:
        """Return the options of the engine."""
        return ["--engine", self.values["ENGINE"], *self.option("--gpu", "GPU"), *self.option("--precision", "PRECISION")]


def make_run(words: Dict[str, str], pictures: Optional[Path] = None, first: Optional[Path] = None) -> Run:
    """Return a run of given values; pictures and stage 1 may be those of other runs."""
    found = values(words)
    folder = Path(found["RUN"])
    return Run(found, pictures or folder / "clean", first or folder)


# ---------------------------------------------------------------- the commands
def clean_words(run: Run, split: str) -> Words:
    """Return the command that makes hair-free copies of a split."""
    left_out = run.option("--exclude", "EXCLUDE") if split == "train" else []
    return ["data_tools", "clean", "--isic", run.values["ISIC"], "--split", split, "--out", str(run.pictures / split),
            "--hair", run.values["HAIR"], *left_out, *run.option("--jobs", "JOBS")]


def lmdb_words(run: Run, stage: str, split: str) -> Words:
    """Return the command that makes the LMDB of a stage and split."""
    root, images = (run.first, run.pictures) if stage == "stage1" else (run.folder, run.folder / "crops")
    how = ["--augment", run.values["AUGMENT"], "--balance", run.values["BALANCE"]] if split == "train" else ["--augment", "none"]
    return ["data_tools", "lmdb", "--images", str(images / split), "--out", str(root / "lmdb" / f"{stage}_{split}"), *how,
            *run.option("--seed", "SEED"), *run.option("--jobs", "JOBS")]


def train_words(run: Run, training: str) -> Words:
    """Return the command of a training: ``stage1``, ``stage1_scratch`` or ``stage2``."""
    start = {"stage1": run.values["INIT"], "stage2": run.values["START2"] or str(run.first / "stage1")}.get(training, "")
    return ["pycam", "train", "--solver", run.solver(training), "--stage", training[:len("stage1")], "--run",
            str(run.folder if training == "stage2" else run.first), *(["--into", training] if training[len("stage1"):] else []),
            *(["--weights", start] if start else []), *run.use, *run.option("--batch", "BATCH"), *run.option("--seed", "SEED"),
            *run.option("--max-iter", "MAX_ITER"), *(["--fresh"] if run.values["RESUME"] == "no" else [])]


def crops_words(run: Run, split: str) -> Words:
    """Return the command that cuts the regions of a split."""
    return ["pycam", "crops", "--net", run.net, "--weights", str(run.first / "stage1"), "--images", str(run.pictures / split),
            "--out", str(run.folder / "crops" / split), *region_options(run), *run.use]


def region_options(run: Run) -> Words:
    """Return the words of REGION."""
    try:
        return shlex.split(run.values["REGION"])
    except ValueError as error:
        raise CamError(f"REGION={run.values['REGION']}: {error}") from error


def predict_words(run: Run, training: str, split: str, name: str = "", *options: str) -> Words:
    """Return the command that predicts a split with a trained network; `name` is of the file, if not ``TRAINING_SPLIT``."""
    root, images = (run.folder, run.folder / "crops") if training == "stage2" else (run.first, run.pictures)
    return ["pycam", "predict", "--net", run.net, "--weights", str(root / training), "--images", str(images / split), "--out",
            str(run.folder / "results" / f"{name or f'{training}_{split}'}.csv"), *options, *run.use]


def table_words(run: Run, split: str) -> Words:
    """Return the command that makes Table 1."""
    results = run.folder / "results"
    files = [word for stage in ("stage1", "stage2") for word in (f"--{stage}", str(results / f"{stage}_{split}.csv"))]
    return ["pycam", "table1", "--truth", str(run.pictures / split / "groundtruth.csv"), *files, "--out", str(results),
            "--split", split]


def report_words(run: Run, split: str) -> Words:
    """Return the command that writes the report."""
    return ["pycam", "report", "--run", str(run.folder), "--net", run.net, "--split", split, "--out", str(report_file(run)),
            *run.use]


def report_file(run: Run) -> Path:
    """Return the page of a run."""
    split = run.values["SPLIT"]
    return run.folder / "results" / f"report{'' if split == 'val' else f'_{split}'}.html"


def doctor_words(run: Run, solvers: Sequence[str]) -> Words:
    """Return the command that checks everything before trainings with some solvers."""
    return ["pycam", "doctor", "--run", str(run.folder), "--isic", run.values["ISIC"], "--net", run.net, "--solver",
            *solvers, *run.option("--weights", "INIT"), *run.option("--start2", "START2"), *run.use,
            *run.option("--batch", "BATCH"), *run.option("--max-iter", "MAX_ITER")]


def synthetic_words(run: Run) -> Words:
    """Return the command that makes the pictures of the demo."""
    numbers = [word for name, value in DEMO_PICTURES.items() for word in (f"--{name}", value)]
    return ["data_tools", "synthetic", "--out", run.values["ISIC"], *numbers]


def commands(run: Run, target: str, split: str = "") -> List[Words]:
    """Return the commands of a target, in their order; pictures of a split are prepared for prediction too."""
    if target == "clean":
        return []
    if target == "doctor":
        return [doctor_words(run, [run.solver(training) for training in ("stage1", "stage2")])]
    if target == "demo":
        return [synthetic_words(run), *commands(run, "report", split)]
    later = target not in ("stage1", "scratch")
    scored = run.values["SPLIT"] if target in ("table", "report", "all") else ""
    splits = list(dict.fromkeys(filter(None, ("train", "val", scored, split))))
    found = [clean_words(run, part) for part in splits]
    found += [lmdb_words(run, "stage1", part) for part in ("train", "val")]
    if target == "scratch":
        return [*found, train_words(run, "stage1_scratch")]
    found.append(train_words(run, "stage1"))
    found += [crops_words(run, part) for part in splits if later]
    if later and target != "crops":
        found += [lmdb_words(run, "stage2", part) for part in ("train", "val")] + [train_words(run, "stage2")]
    if scored:
        found += [predict_words(run, stage, scored) for stage in ("stage1", "stage2")] + [table_words(run, scored)]
    return found + ([report_words(run, scored)] if target in ("report", "all") else [])


# ---------------------------------------------------------------- running them
class Runner:
    """Runs commands, each in this process or in Caffe's own Python.

    Parameters
    ----------
    run : Run
        The run.
    solvers : sequence of str
        What is checked before the first step that works; without any, each training makes its own checks.
    """

    def __init__(self, run: Run, solvers: Sequence[str] = ()) -> None:
        self.run, self.solvers, self.checked = run, solvers, False
        caffe = Path(run.values["CAFFE"])
        foreign = run.values["ENGINE"] == "caffe" and (caffe / "complete").is_file()
        self.python = str(caffe / "bin" / "python3") if foreign else sys.executable

    def __call__(self, words: Words) -> bool:
        """Run a step's command unless its output is current; return whether it was run."""
        args = parse(words)
        step = args.step(args)
        if is_current(step):
            print(f"{step.name}: up to date", flush=True)
            return False
        if self.solvers and not self.checked:
            self.execute([*doctor_words(self.run, self.solvers), "--quiet"], told=False)
            self.checked = True
        self.execute([*words, "--checked"] if words[1] == "train" and self.checked else words)
        return True

    def execute(self, words: Words, told: bool = True) -> None:
        """Run a command; raise the error that it ends with, or end as it does."""
        python = self.python if words[1] in NETWORK else sys.executable
        if told:
            print(f"+ {shlex.join([Path(python).name, '-m', *words])}", file=sys.stderr, flush=True)
        if python == sys.executable:
            args = parse(words)
            args.run(args)
        else:
            status = wait([python, "-m", *words])
            if status:
                sys.exit(status)  # it has said why


def wait(words: Words) -> int:
    """Run a program and return its exit status; a Ctrl-C reaches it too, and it ends in its own time."""
    with subprocess.Popen(words) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def parse(words: Words) -> argparse.Namespace:
    """Return the arguments of a command."""
    module: Any = importlib.import_module(f"{words[0]}.__main__")
    parsed: argparse.Namespace = module.make_parser().parse_args(words[1:])
    return parsed


def mark(folder: Path) -> None:
    """Mark a folder as a run's, so that `clean` may delete in it; refuse one that is somebody else's."""
    if not (folder / MARK).is_file():
        others = [name for name in MADE if (folder / name).is_dir() and not _ours(folder / name)]
        if others:
            raise CamError(f"RUN={folder}: {listing(others)} in it was not made here; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / MARK, b"A run of skin-lesion-cam; make clean RUN= deletes what it made.\n")


def _ours(folder: Path) -> bool:
    """Tell whether a folder is empty, or a step made what is in it."""
    return not any(folder.iterdir()) or any(read_record(path) for form in ("*.json", "*/*.json") for path in folder.glob(form))


def make_target(target: str, words: Dict[str, str]) -> None:
    """Make a target of the Makefile with some values of its variables."""
    run = target_run(target, words)
    needed = commands(run, target)
    refuse(run, needed)
    if target == "clean":
        delete(run.folder)
    elif target == "doctor":
        Runner(run).execute(needed[0], told=False)
    else:
        mark(run.folder)
        make(run, needed)


def target_run(target: str, words: Dict[str, str]) -> Run:
    """Return the run that a target makes; the demo has other defaults, and its pictures in its own folder."""
    if target == "demo":
        words = {**DEMO, **words}
        words = {"ISIC": f"{words['RUN']}/isic", **words}
    return make_run(words)


def refuse(run: Run, needed: Sequence[Words]) -> None:
    """Refuse what would end some commands later: a misspelt option, a rule that may not be used, a file that is not there."""
    for words in needed:
        args = parse(words)
        if words[1] == "crops":
            read_rule(args)
    known = sorted(path.name for path in Path("solvers").glob("*.prototxt"))
    for solver in map(Path, solvers(needed)):
        if not solver.is_file():
            raise CamError(f"NET={run.values['NET']} SOLVERS={run.values['SOLVERS']}, solver: {unknown(solver.name, known)}")
    for path in (Path(run.values[name]) for name in ("INIT", "START2") if needed and run.values[name]):
        if run.folder not in path.parents:  # which the run would make
            weights_file(path)


def solvers(needed: Sequence[Words]) -> Words:
    """Return the solver files of the trainings among some commands."""
    return [words[words.index("--solver") + 1] for words in needed if words[1] == "train"]


def checked(run: Run, trained: Sequence[str]) -> Words:
    """Return the solver files that are checked before some trainings: before stage 1 that of stage 2 too, if it is there."""
    later = run.solver("stage2")
    return list(dict.fromkeys([*trained, *([later] if run.solver("stage1") in trained and Path(later).is_file() else [])]))


def make(run: Run, needed: Sequence[Words]) -> None:
    """Run commands in their order, and say what came out."""
    runner = Runner(run, checked(run, solvers(needed)))
    for words in needed:
        worked = Runner(run)(words) if words[1] == "synthetic" else runner(words)  # whose pictures are then checked
        if words[1] == "table1" and not worked:
            print(table_file(run.folder / "results", run.values["SPLIT"]).with_suffix(".md").read_text(encoding="utf-8"), end="")
        if words[1] == "report":
            print(f"report: {report_file(run)}")


def delete(folder: Path) -> None:
    """Delete what a run made in its folder, and the folder if nothing else is in it; say what goes and what stays."""
    if not (folder / MARK).is_file():
        raise CamError(f"RUN={folder}: no folder of a run (no {MARK} in it); nothing was deleted")
    pictures = ["isic"] if find_record(folder / "isic") else []
    for path in (folder / name for name in (*MADE, *pictures)):
        if path.is_symlink() or path.is_dir():
            print(f"delete {path}")
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
    left = sorted(path.name for path in folder.iterdir() if path.name != MARK)
    if left:
        print(f"kept in {folder}, not made by this run: {listing(left)}")
    else:
        (folder / MARK).unlink()
        folder.resolve().rmdir()


# ---------------------------------------------------------------- the command
def add_parser(subparsers: Any) -> None:
    """Add the command ``pipeline``."""
    parser = add(
        subparsers, "pipeline", "make a target of the Makefile",
        "python -m pycam pipeline report ISIC=data/isic2017 NET=googlenet_gap --show",
        "Run the commands of a target, in their order. What is up to date does nothing. Variables that are not given are those "
        f"of the environment, or have their defaults (make help): {', '.join(VARIABLES)}.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("variables", nargs="*", metavar="NAME=VALUE", help="values of variables")
    parser.add_argument("--show", action="store_true", help="print the commands and run none")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``pipeline``."""
    words = given(args.variables)
    if args.show:
        show(commands(target_run(args.target, words), args.target))
    else:
        make_target(args.target, words)


def given(words: Sequence[str]) -> Dict[str, str]:
    """Return the values of words ``NAME=VALUE`` and of the environment; refuse what is misspelt."""
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ and name not in MAKE_ONLY}
    found.update(word.partition("=")[::2] for word in words)
    wrong = next(filter(None, (problem(name, value) for name, value in found.items())), None)
    if wrong:
        raise CamError(wrong)
    return {name: value for name, value in found.items() if value or not VARIABLES[name].default}


def show(needed: Sequence[Words]) -> None:
    """Print commands."""
    for words in needed:
        print(shlex.join(["python", "-m", *words]))

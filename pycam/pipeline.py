"""Run the commands of a target of the Makefile: the command ``pipeline``.

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
from typing import Any, Dict, Sequence

from data_tools.commands import add
from data_tools.errors import unknown
from data_tools.files import listing, write_atomic
from data_tools.steps import beside, find_record, is_current, read_record
from torchcaffe.processor import has_bf16

from .crops import read_rule
from .engine import choose, weights_file
from .errors import CamError
from .init import source
from .pipeline_commands import DEPLOY, Run, Words, commands, doctor_words, make_run, report_file
from .table1 import table_file
from .variables import VARIABLES, problem

MARK = ".skin-lesion-cam"  # the file that marks a run's folder
MADE = ("clean", "lmdb", "crops", "stage1", "stage1_scratch", "stage2", "results")  # folders of a run
NETWORK = ("train", "predict", "crops", "report", "doctor")  # commands that need an engine
DEMO = {"RUN": "build/demo", "NET": "vgg_gap_narrow", "SOLVERS": "demo_", "PATCH": "96", "RECORDS": "--patches centre",
        "EDIT": "data.batch_size=16 pool4.kernel_size=1 pool4.stride=1 CAM_dropout.dropout_ratio=0.1",
        "REGION": "--threshold 0.75 --placement exact"}
MAKE_ONLY = ("PYTHON", "TARGET", "CMD", "IMAGE", "OPTIONS", "GPUS", "DIGEST", "DEBIAN_MIRROR", "CPU_BASE", "GPU_BASE",
             "TORCH_BASE")  # variables that make itself uses
TARGETS = ("stage1", "crops", "stage2", "scratch", "table", "report", "all", "demo", "doctor", "clean")


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
        for needs in needed[:-1]:
            Runner(run)(needs)
        Runner(run).execute(needed[-1], told=False)
    else:
        mark(run.folder)
        make(run, needed)


def target_run(target: str, words: Dict[str, str]) -> Run:
    """Return the run that a target makes; the demo has other defaults: its own pictures, and stage 1 starts from `models/`."""
    if target == "demo":
        words = {**DEMO, **words}
        init = os.path.relpath(source("models") / "stage1.caffemodel")
        words = {"ISIC": f"{words['RUN']}/isic", "INIT": init, "PRECISION": fast_precision(words), **words}
    return make_run(words)


def fast_precision(words: Dict[str, str]) -> str:
    """Return bf16 where torchcaffe computes on a processor that has it, in half the time; else nothing."""
    ours = choose(words.get("ENGINE") or "auto", None, "fp32") == "torch" and not words.get("GPU")
    return "bf16" if ours and has_bf16() else ""


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
        worked = (Runner(run) if words[1] in ("synthetic", "edit") else runner)(words)  # what they make is then checked
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
    net = folder / DEPLOY
    if read_record(beside(net)):
        print(f"delete {net}")
        net.unlink(missing_ok=True)
        beside(net).unlink()
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

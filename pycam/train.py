"""Run one stage's training with either engine: check first, resume by itself, stop at a loss that is not finite.

The command that it runs is Caffe's own (``caffe train`` or ``python -m torchcaffe train``) and is printed, so it can be typed by
hand. Solver and net are written into the training's folder as they are run, beside the record of what the weights depend on.
"""
import argparse
import contextlib
import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from tqdm import tqdm

from data_tools import steps
from data_tools.augment import PATCH_SIZE
from data_tools.commands import add, add_step, whole
from data_tools.files import listing, write_atomic

from . import checks, engine, job
from .errors import CamError
from .job import SOLVER, Job
from .probe import REASON, reason
from .snapshots import LOG, ORIGIN, newest_state, set_aside

STAGES = ("stage1", "stage2")
EDITED = "edited"  # parameter that marks a net that differs from its file
ROUNDING, RESUMED = "rounding", "resumed"  # parameters that may change when an unfinished training resumes
_ITERATION = re.compile(r"\] Iteration (\d+).*?, loss = (\S+)")
PR_SET_PDEATHSIG = 1  # of Linux
_GRACE = 60  # seconds that an interrupted engine gets to write its snapshot


def add_parser(subparsers: Any) -> None:
    """Add the command ``train``."""
    parser = add(
        subparsers, "train", "train one stage",
        "python -m pycam train --solver solvers/stage1.prototxt --stage stage1 --run build "
        "--weights vgg16CAM_train_iter_90000.caffemodel",
        "Train one stage with Caffe or torchcaffe. Checks data, weights and folders first, goes on from the newest complete "
        "snapshot, writes RUN/STAGE/train.log and, at the end, RUN/STAGE/final.caffemodel. Does nothing when that is there and "
        "nothing has changed; what another training left goes into RUN/STAGE/old-1.")
    parser.add_argument("--solver", type=Path, required=True, help="solver prototxt")
    parser.add_argument("--stage", choices=STAGES, required=True, help="stage of the paper")
    parser.add_argument("--into", metavar="NAME", help="folder under RUN, instead of STAGE, for another training of that stage")
    parser.add_argument("--weights", type=Path, metavar="W", help=".caffemodel, or folder with final.caffemodel, to start from")
    parser.add_argument("--seed", type=whole(-1, 2 ** 32 - 1), metavar="S", help="replaces the solver's random_seed")
    parser.add_argument("--fresh", action="store_true", help="only a training in one go counts: start anew, keep no snapshot")
    parser.add_argument("--checked", action="store_true", help="make only the checks that `pycam doctor` could not make before")
    job.add_arguments(parser)
    engine.add_arguments(parser)
    add_step(parser, step)


def step(args: argparse.Namespace) -> steps.Step:
    """Return the training of the arguments as a step; its records must be there."""
    read = job.read_job(args.solver, args.folder, args.stage, args.into, gpu=args.gpu, batch=args.batch, seed=args.seed,
                        max_iter=args.max_iter, edit=args.edit, patch=args.patch)
    checks.check_folder(read)
    checks.check_sources(read, waiting=False)
    named = args.weights or read.start
    start = engine.weights_file(named) if named else None
    if start and os.path.dirname(os.path.realpath(start)) == os.path.realpath(read.folder):
        raise CamError(f"{start}: lies where this training would put its own weights; train into another folder (--into)")
    return Training(read, start, engine.backend(args), args.fresh, args.checked).step


class Training:
    """The work of one training's step, from weights `start` or the net's fillers; `fresh` and `checked` as in ``pycam train``."""

    def __init__(self, read: Job, start: Optional[Path], backend: engine.Backend, fresh: bool, checked: bool) -> None:
        self.job, self.start, self.backend, self.fresh, self.checked = read, start, backend, fresh, checked
        self.state: Optional[Tuple[int, Path]] = None  # the snapshot to resume from, once prepared
        self.facts: Dict[str, Any] = {}
        weights = {"weights": start} if start else {}
        self.step = steps.Step(f"train/{read.name}", read.folder, read.folder / ORIGIN, self._parameters(),
                               {**weights, **job.inputs(read)}, self.work, self.prepare, resumes=True, facts=self.facts)

    def _parameters(self) -> Dict[str, Any]:
        """Return what the weights depend on; a resumed training counts as equal, except with ``--fresh``."""
        old = steps.read_record(self.job.folder / ORIGIN)
        rounding = {**self.backend.parameters(), "pieces": self.job.solver.iter_size}
        resumed = bool(old and old.finished and not self.fresh and old.parameters.get(RESUMED))
        edited = {EDITED: list(self.job.edits), "patch": self.job.patch} if self.job.edits or self.job.patch != PATCH_SIZE else {}
        return {**job.essence(self.job), **edited, **_pictures(self.job), ROUNDING: rounding, RESUMED: resumed}

    # ------------------------------------------------------------ before
    def prepare(self, old: Optional[steps.Record]) -> None:
        """Find the snapshot to resume from, make the checks, then move aside files that must not be mixed."""
        foreign = old is None and not self.step.record.exists()
        newest = None if self.fresh else newest_state(self.job.prefix, tell=True)
        same = old is not None and not self.fresh and self._goes_on(old)
        self.state = newest if same or foreign else None
        self._check()
        if foreign and self.state:
            print(f"note: {self.job.folder} has snapshots from elsewhere; nothing tells whether solver, net and data are the "
                  f"same", file=sys.stderr)
        if not (self.state or (same and old and not old.finished)):
            self._set_aside(old)
        self._note_facts(old)

    def _goes_on(self, old: steps.Record) -> bool:
        """Tell whether a record is of the same training, apart from what an unfinished one may change."""
        free = {RESUMED} if old.finished else {RESUMED, ROUNDING}
        return not set(steps.changes(self.step, old)) - free and steps.kept(self.step, old, *free) == list(self.step.inputs)

    def _check(self) -> None:
        instead = "the newest snapshot" if self.state else ""
        for note in checks.check_training(self.job, self.start, instead, self.backend, self.checked):
            print(note, file=sys.stderr)

    def _set_aside(self, old: Optional[steps.Record]) -> None:
        changed = [name for name in steps.changes(self.step, old) if name != RESUMED] if old else ["no sound record"]
        why, place = listing(changed) or ("--fresh" if self.fresh else "a file"), set_aside(self.job.folder)
        if place:
            print(f"note: {self.step.name} begins anew ({why}); what was there is in {place}", file=sys.stderr)

    def _note_facts(self, old: Optional[steps.Record]) -> None:
        """Note what trains: every engine and device that had a part, and where it went on."""
        before = old.facts if self.state and old else {}
        precision = "" if self.backend.precision == "fp32" else f" in {self.backend.precision}"
        told = {"engine": engine.version(self.step.parameters[ROUNDING]["engine"]) + precision,
                "device": checks.device(self.backend.gpu)}
        for name, value in told.items():
            parts = before.get(name, "unknown" if self.state else "").split(", ")
            self.facts[name] = ", ".join(part for part in dict.fromkeys([*parts, value]) if part)
        went_on = [self.state[0]] if self.state and self.state[0] < self.job.solver.max_iter else []
        self.facts.update(iterations=self.job.solver.max_iter, resumed=before.get("resumed", []) + went_on, net=self.job.net.name,
                          weights=before.get("weights") or (self.start.name if self.start else "random"))
        unknown = self.state and (old is None or old.parameters.get(RESUMED))
        self.step.parameters[RESUMED] = bool(went_on or unknown)

    # ------------------------------------------------------------ the training
    def work(self) -> Iterable[Path]:
        """Train to the end."""
        folder, max_iter = self.job.folder, self.job.solver.max_iter
        copies = job.write(self.job)
        final, made = Path(f"{self.job.prefix}_iter_{max_iter}.caffemodel"), folder / engine.FINAL_WEIGHTS
        if not (self.state and self.state[0] == max_iter):
            execute(self._words(), folder / LOG, max_iter, self.state[0] if self.state else None,
                    again="the same command" + " without --fresh (RESUME=no of make)" * self.fresh)
        if not final.is_file():
            raise CamError(f"{folder / LOG}: training ended without {final.name}; start anew with --fresh (RESUME=no of make)")
        write_atomic(made, final.read_bytes())
        print(f"{made}: {self.job.stage} after {max_iter} iterations")
        return [made, *copies]

    def _words(self) -> List[str]:
        """Return the engine's command line."""
        name, gpu, precision = self.step.parameters[ROUNDING]["engine"], self.backend.gpu, self.backend.precision
        flags = ["-resume_data"] if name != "caffe" else []  # from the record where it stopped; Caffe begins at the first
        flags += ["-snapshot", str(self.state[1])] if self.state else ["-weights", str(self.start)] if self.start else []
        flags += ["-gpu", str(gpu)] if gpu is not None else []
        flags += ["-precision", precision] if precision != "fp32" else []
        return [*command(name), "train", "-solver", str(self.job.folder / SOLVER), *flags]


def _pictures(read: Job) -> Dict[str, Any]:
    """Return how the pictures of the training's LMDB were made, from its record."""
    sources = [Path(layer.data_param.source) for layer in read.training.layer if layer.type == "Data"]
    records = [steps.find_record(source) for source in sources]
    return next(({"pictures": record.parameters["pictures"]} for record in records if record and "pictures" in record.parameters),
                {})


# ---------------------------------------------------------------- the engine's process
def command(name: str) -> List[str]:
    """Return how the command line of an engine, ``caffe`` or ``torch``, is started."""
    if name != "caffe":
        return [sys.executable, "-m", "torchcaffe"]
    beside = Path(sys.executable).with_name("caffe")
    program = str(beside) if beside.is_file() else shutil.which("caffe")
    if program is None:
        raise CamError("Caffe's command line `caffe` is neither beside this Python nor on PATH; install it (make caffe)")
    return [program]


def execute(words: List[str], log: Path, max_iter: int, start: Optional[int], again: str = "the same command") -> None:
    """Run a training command, copy what it prints to a log, show a bar on a terminal; raise unless it trained to the end.

    The log is written anew, or appended to when the training goes on from iteration `start`. `again` is said on an interrupt:
    what goes on then.

    Raises
    ------
    CamError
        With the engine's own reason, or at a loss that is not finite: then the engine is killed, since the snapshot that it
        would write on an interrupt holds no finite weights.
    """
    print("+ " + " ".join(map(shlex.quote, words)), file=sys.stderr)
    environment = {k: v for k, v in os.environ.items() if k != "GLOG_minloglevel"}
    with _ends_like_ctrl_c(), open(log, "wb" if start is None else "ab") as file, subprocess.Popen(
            words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment,
            start_new_session=True, preexec_fn=_end_with_this_process()) as process:
        try:
            last = _follow(process, file, max_iter, start or 0)
        except KeyboardInterrupt:
            _stop(process, file, again)
            raise
        finally:
            process.kill()
            status = process.wait()
    if status != 0 or "Optimization Done" not in last:
        raise CamError(f"training stopped: {reason(last, status)} (whole log: {log})")


def _end_with_this_process() -> Callable[[], None]:
    """Return a hook that ends the engine when this process is killed; else it would train on, into the files of the next run."""
    parent, system = os.getpid(), ctypes.CDLL(None)

    def ask() -> None:
        system.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # killed meanwhile
            os._exit(1)
    return ask


@contextlib.contextmanager
def _ends_like_ctrl_c() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C: the engine has a session of its own and would train on alone."""
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _follow(process: Any, file: IO[bytes], max_iter: int, start: int) -> str:
    """Copy the lines of a running training; return the line that states how it ended."""
    ended, line, done = "", "", start  # a bar that is not shown does not count
    with tqdm(total=max_iter, initial=start, unit="it", dynamic_ncols=True, disable=None) as bar:
        for raw in process.stderr:
            file.write(raw)
            line = raw.decode(errors="replace").rstrip() or line
            ended = line if REASON.match(line) or "Optimization " in line else ended
            found = _ITERATION.search(line)
            if found:
                file.flush()
                bar.update(int(found.group(1)) - done)
                done = int(found.group(1))
                bar.set_postfix(loss=found.group(2))
                if found.group(2).lstrip("-+").lower()[:3] in ("nan", "inf"):
                    raise CamError(f"the loss is {found.group(2)} at iteration {found.group(1)}: lower base_lr or set "
                                   f"clip_gradients in the solver, then start again (whole log: {file.name})")
    process.wait()
    return ended or line


def _stop(process: Any, file: IO[bytes], again: str) -> None:
    """Let the engine write its snapshot (SIGINT); it ends at once after `_GRACE` seconds or a second Ctrl-C."""
    print(f"stopping: the engine finishes its iteration and writes a snapshot, from which {again} goes on; Ctrl-C again ends it "
          f"at once", file=sys.stderr)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        file.write(process.communicate(timeout=_GRACE)[1])

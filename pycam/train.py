"""Run one stage's training with either engine: check first, resume by itself, stop at a loss that is not finite.

The command that it runs is Caffe's own (``caffe train`` or ``python -m torchcaffe train``) and is printed, so it can be typed by
hand. The solver and the net are copied into the run's folder with ``build/`` replaced by that folder: what lies there is exactly
what was trained, and a training that goes on is held against it.
"""
import argparse
import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional

from tqdm import tqdm

from data_tools import manifest
from data_tools.files import sha256_file, write_atomic

from . import checks, engine
from .errors import CamError
from .probe import REASON, probe, reason
from .snapshots import ANEW, LOG, ORIGIN, check_unchanged, forget, newest_state
from .texts import NET, SOLVER, Job, prepare

STAGES = ("stage1", "stage2")
_ITERATION = re.compile(r"\] Iteration (\d+).*?, loss = (\S+)")
_GRACE = 60  # seconds that an interrupted engine gets to write its snapshot


def add_parser(subparsers: Any) -> None:
    """Add the command ``train``."""
    parser = subparsers.add_parser(
        "train", help="train one stage",
        description="Train one stage with Caffe or torchcaffe. Checks data, weights and folders first, goes on from the "
                    "newest complete snapshot, writes RUN/STAGE/train.log and, at the end, RUN/STAGE/final.caffemodel.",
        epilog="example: python -m pycam train --solver solvers/stage1.prototxt --stage stage1 --run build "
               "--weights vgg16CAM_train_iter_90000.caffemodel")
    parser.add_argument("--solver", type=Path, required=True, help="solver prototxt")
    parser.add_argument("--stage", choices=STAGES, required=True, help="stage of the paper")
    parser.add_argument("--run", type=Path, default=Path("build"), dest="folder", metavar="RUN",
                        help="replaces build/ in the prototxts (default: build)")
    parser.add_argument("--into", metavar="NAME", help="folder under RUN, instead of STAGE, for another training of that stage")
    parser.add_argument("--weights", type=Path, metavar="W", help=".caffemodel, or folder with final.caffemodel, to start from")
    parser.add_argument("--batch", type=int, metavar="B",
                        help="pictures computed at a time; must divide the net's batch, which iter_size then restores")
    parser.add_argument("--seed", type=int, metavar="S", help="replaces the solver's random_seed")
    parser.add_argument("--fresh", action="store_true", help="start anew instead of going on from the newest snapshot")
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``train``."""
    job = prepare(args.solver, args.folder, args.stage, args.gpu, args.batch, args.seed, args.into)
    name = engine.choose(args.engine, args.gpu, args.precision)
    state = None if args.fresh else newest_state(job.prefix, tell=True)
    start = engine.weights_file(args.weights) if args.weights else None
    look(job, start, "the newest snapshot" if state else "", name, args)
    origin = {"records": records(job), "weights": sha256_file(start) if start else ""}
    if state is None:
        forget(job.prefix, job.folder)
    else:
        check_unchanged(job.folder, job.solver, job.net, origin)
    begin(job, origin)
    final = Path(f"{job.prefix}_iter_{job.solver.max_iter}.caffemodel")
    if state is None or state[0] < job.solver.max_iter or not final.is_file():
        flags = ["-snapshot", str(state[1])] if state else ["-weights", str(start)] if start else []
        flags += ["-gpu", str(args.gpu)] if args.gpu is not None else []
        flags += ["-precision", args.precision] if args.precision != "fp32" else []
        execute([*command(name), "train", "-solver", str(job.folder / SOLVER), *flags], job.folder / LOG, job.solver.max_iter,
                appending=state is not None)
    if not final.is_file():
        raise CamError(f"{job.folder / LOG}: training ended without {final.name}; {ANEW}")
    write_atomic(job.folder / engine.FINAL_WEIGHTS, final.read_bytes())
    print(f"{job.folder / engine.FINAL_WEIGHTS}: {args.stage} after {job.solver.max_iter} iterations")


def look(job: Job, start: Optional[Path], instead: str, name: str, args: argparse.Namespace) -> None:
    """Make the checks of ``pycam doctor`` that concern this training; print only the engine, the weights table and notes."""
    tried = functools.lru_cache(maxsize=None)(lambda: probe(name, args.gpu, args.precision, checks.wanted_nets(job)))
    given = checks.Given(job, start, instead, False, args.gpu, lambda: (tried().net(0), tried().net(1)))
    for check in [*checks.of_files(given), *checks.of_engine(tried, args.gpu, args.precision), *checks.of_nets(given)]:
        text, *details = check.look().splitlines()
        for line in [f"engine: {text}"] if check.title == "engine" else details:
            print(line, file=sys.stderr)


def records(job: Job) -> Dict[str, str]:
    """Return the hashes of the records that are trained on, by the name of their LMDB."""
    sources = [Path(layer.data_param.source) for layer, training in checks.data_layers(job) if training]
    return {source.name: manifest.read(source).data_sha256 for source in sources}


def begin(job: Job, origin: Dict[str, Any]) -> None:
    """Write what is trained, and from what, into the training's folder."""
    for folder in (job.folder, job.prefix.parent):
        folder.mkdir(parents=True, exist_ok=True)
    if not (job.folder / ORIGIN).is_file():
        write_atomic(job.folder / ORIGIN, json.dumps(origin, indent=2).encode())
    for name, text in zip((SOLVER, NET), job.texts):
        write_atomic(job.folder / name, text.encode())


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


def execute(words: List[str], log: Path, max_iter: int, appending: bool) -> None:
    """Run a training command, copy what it prints to `log`, show a bar; raise unless it trained to the end.

    Raises
    ------
    CamError
        With the engine's own reason, or at a loss that is not finite: then the engine is killed, since the snapshot that it
        would write on an interrupt holds no finite weights.
    """
    print("+ " + " ".join(map(shlex.quote, words)), file=sys.stderr)
    environment = {k: v for k, v in os.environ.items() if k != "GLOG_minloglevel"}
    with _ends_like_ctrl_c(), open(log, "ab" if appending else "wb") as file, subprocess.Popen(
            words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment,
            start_new_session=True) as process:
        try:
            last = _follow(process, file, max_iter)
        except KeyboardInterrupt:
            _stop(process, file)
            raise
        finally:
            process.kill()
            status = process.wait()
    if status != 0 or "Optimization Done" not in last:
        raise CamError(f"training stopped: {reason(last, status)} (whole log: {log})")


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


def _follow(process: Any, file: IO[bytes], max_iter: int) -> str:
    """Copy the lines of a running training; return the one that tells how it ended."""
    ended, line = "", ""
    with tqdm(total=max_iter, unit="it", dynamic_ncols=True) as bar:
        for raw in process.stderr:
            file.write(raw)
            line = raw.decode(errors="replace").rstrip() or line
            ended = line if REASON.match(line) or "Optimization " in line else ended
            found = _ITERATION.search(line)
            if found:
                file.flush()
                bar.update(int(found.group(1)) - bar.n)
                bar.set_postfix(loss=found.group(2))
                if found.group(2).lstrip("-+").lower()[:3] in ("nan", "inf"):
                    raise CamError(f"the loss is {found.group(2)} at iteration {found.group(1)}: lower base_lr or set "
                                   f"clip_gradients in the solver, then {ANEW} (whole log: {file.name})")
    process.wait()
    return ended or line


def _stop(process: Any, file: IO[bytes]) -> None:
    """Let the engine write its snapshot (SIGINT); it ends at once after `_GRACE` seconds or a second Ctrl-C."""
    print("stopping: the engine finishes its iteration and writes a snapshot; Ctrl-C again ends it at once", file=sys.stderr)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        file.write(process.communicate(timeout=_GRACE)[1])

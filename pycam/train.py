"""Run one stage's training with either engine: check first, resume by itself, stop at a loss that is not finite.

The command that it runs is Caffe's own (``caffe train`` or ``python -m torchcaffe train``) and is printed, so it can be typed by
hand. The solver and the net are copied into the run's folder with ``build/`` replaced by that folder: what lies there is exactly
what was trained.
"""
import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Optional, Tuple

from google.protobuf.message import DecodeError
from tqdm import tqdm

from data_tools import manifest
from data_tools.files import write_atomic
from torchcaffe.netparam import read_net, read_solver
from torchcaffe.proto import caffe_pb2

from . import engine, weights
from .errors import CamError

STAGES = ("stage1", "stage2")
SOLVER, NET, LOG = "solver.prototxt", "train_val.prototxt", "train.log"
_PREFIX = re.compile(r'"build/')
_ITERATION = re.compile(r"\] Iteration (\d+).*?, loss = (\S+)")
_REASON = re.compile(r"^(?:error: |F\d{4} \S+ +\d+ \S+\] )(.*)")
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
    parser.add_argument("--stage", choices=STAGES, required=True, help="stage of the paper, and folder under RUN")
    parser.add_argument("--run", type=Path, default=Path("build"), dest="folder", metavar="RUN",
                        help="replaces build/ in the prototxts (default: build)")
    parser.add_argument("--weights", type=Path, metavar="W", help=".caffemodel, or folder with final.caffemodel, to start from")
    parser.add_argument("--batch", type=int, metavar="B",
                        help="pictures computed at a time; must divide the net's batch, which iter_size then restores")
    parser.add_argument("--fresh", action="store_true", help="start anew instead of going on from the newest snapshot")
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``train``."""
    folder = args.folder / args.stage
    _make_folder(folder)
    solver = copy_texts(args.solver, args.folder, folder, args.gpu, args.batch)
    if args.fresh:
        _forget(Path(solver.snapshot_prefix), folder)
    state = newest_state(Path(solver.snapshot_prefix))
    start = engine.weights_file(args.weights) if args.weights and state is None else None
    caffe = engine.load(args.engine, args.gpu)
    check(caffe, folder / NET, args.stage, start, resumed=state is not None)
    final = Path(f"{solver.snapshot_prefix}_iter_{solver.max_iter}.caffemodel")
    if state is None or state[0] < solver.max_iter or not final.is_file():
        flags = ["-snapshot", str(state[1])] if state else ["-weights", str(start)] if start else []
        flags += ["-gpu", str(args.gpu)] if args.gpu is not None else []
        execute([*command(caffe), "train", "-solver", str(folder / SOLVER), *flags], folder / LOG, solver.max_iter,
                appending=state is not None)
    if not final.is_file():
        raise CamError(f"{folder / LOG}: training ended without {final.name}; the solver must have snapshot_after_train")
    write_atomic(folder / engine.FINAL_WEIGHTS, final.read_bytes())
    print(f"{folder / engine.FINAL_WEIGHTS}: {args.stage} after {solver.max_iter} iterations")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CamError(f"{folder}: cannot be written ({error.strerror}); training keeps its snapshots there") from error


# ---------------------------------------------------------------- texts
def copy_texts(source: Path, root: Path, folder: Path, gpu: Optional[int], batch: Optional[int]) -> Any:
    """Write solver and net into `folder`, their ``build/`` replaced by `root`; return the SolverParameter.

    `gpu` decides solver_mode. With `batch` the training batch is computed in pieces and iter_size restores its size.
    """
    solver_text = _moved(source, root)
    net_text = _moved(Path(read_solver(str(source)).net), root)
    target = folder / NET
    solver_text = re.sub(r'(?m)^net:.*$', f'net: "{target}"', solver_text)
    solver_text = re.sub(r"(?m)^solver_mode:.*$", f"solver_mode: {'CPU' if gpu is None else 'GPU'}", solver_text)
    if batch is not None:
        net_text, pieces = split_batch(net_text, batch)
        solver_text = re.sub(r"(?m)^iter_size:.*\n", "", solver_text) + f"iter_size: {pieces}\n"
    write_atomic(target, net_text.encode())
    write_atomic(folder / SOLVER, solver_text.encode())
    solver = read_solver(str(folder / SOLVER))
    if not solver.snapshot or not solver.snapshot_prefix:
        raise CamError(f"{source}: needs snapshot and snapshot_prefix, or an interrupted training could not go on")
    return solver


def _moved(path: Path, root: Path) -> str:
    try:
        return _PREFIX.sub(f'"{root}/', path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CamError(f"{path}: cannot be read ({error.strerror})") from error


def split_batch(net_text: str, batch: int) -> Tuple[str, int]:
    """Return the net with training batches of `batch`, and how many of them make the batch that was written."""
    pattern = re.compile(r'(phase: TRAIN(?:(?!layer \{).)*?batch_size: )(\d+)', re.DOTALL)
    sizes = {int(found.group(2)) for found in pattern.finditer(net_text)}
    if len(sizes) != 1 or batch < 1 or next(iter(sizes)) % batch:
        raise CamError(f"--batch {batch}: must divide the training batch of the net, which is {sorted(sizes)}")
    return pattern.sub(lambda found: f"{found.group(1)}{batch}", net_text), sizes.pop() // batch


# ---------------------------------------------------------------- snapshots
def newest_state(prefix: Path) -> Optional[Tuple[int, Path]]:
    """Return (iteration, file) of the newest solver state that is whole and whose weights are; None without any."""
    found = re.compile(re.escape(prefix.name) + r"_iter_(\d+)\.solverstate$")
    states = [(int(match.group(1)), path) for path in prefix.parent.glob("*.solverstate")
              for match in [found.match(path.name)] if match]
    for iteration, path in sorted(states, reverse=True):
        if _whole(path, caffe_pb2.SolverState()) and _whole(path.with_suffix(".caffemodel"), caffe_pb2.NetParameter()):
            return iteration, path
        print(f"passed over {path}: it or its .caffemodel is missing or cut off", file=sys.stderr)
    return None


def _whole(path: Path, message: Any) -> bool:
    try:
        message.ParseFromString(path.read_bytes())
    except (OSError, DecodeError):
        return False
    return bool(message.ByteSize())


def _forget(prefix: Path, folder: Path) -> None:
    for path in [*prefix.parent.glob(f"{prefix.name}_iter_*"), folder / LOG, folder / engine.FINAL_WEIGHTS]:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- checks
def check(caffe: Any, net: Path, stage: str, start: Optional[Path], resumed: bool) -> None:
    """Raise a CamError for what would end or spoil the training later; print what the weights fill."""
    text = read_net(str(net))
    _check_data(text, stage)
    fillers = [la for la in text.layer if la.type == "Convolution" and not la.convolution_param.HasField("weight_filler")]
    if fillers and start is None and not resumed:
        raise CamError(f"{net}: {fillers[0].name} and others have no filler, they come from pretrained weights: "
                       f"give --weights (INIT= of make), or train the scratch network")
    if start is not None:
        shapes = weights.parameter_shapes(caffe.Net(str(net), caffe.TRAIN, stages=[stage]))
        rows = weights.compare(shapes, engine.weight_shapes(start))
        print(weights.table(rows), file=sys.stderr)
        weights.check_start(rows, start)


def _check_data(text: Any, stage: str) -> None:
    outputs = [la.inner_product_param.num_output for la in text.layer if la.type == "InnerProduct"]
    for layer in text.layer:
        if layer.type == "Data" and stage in [s for rule in layer.include for s in rule.stage]:
            made = manifest.read(Path(layer.data_param.source))
            if outputs and len(made.per_class) > outputs[-1]:
                raise CamError(f"{layer.data_param.source}: {len(made.per_class)} classes, the net has {outputs[-1]} outputs")


# ---------------------------------------------------------------- the engine's process
def command(caffe: Any) -> List[str]:
    """Return how an engine's command line is started."""
    if caffe.__name__ != "caffe":
        return [sys.executable, "-m", "torchcaffe"]
    beside = Path(sys.executable).with_name("caffe")
    program = str(beside) if beside.is_file() else shutil.which("caffe")
    if program is None:
        raise CamError("Caffe's command line `caffe` is neither beside this Python nor on PATH; install it (make caffe)")
    return [program]


def execute(words: List[str], log: Path, max_iter: int, appending: bool) -> None:
    """Run a training command, copy what it prints to `log`, show a bar; raise unless it trained to the end."""
    print("+ " + " ".join(map(shlex.quote, words)), file=sys.stderr)
    environment = {k: v for k, v in os.environ.items() if k != "GLOG_minloglevel"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                               env=environment, start_new_session=True)
    try:
        last = _follow(process, log, max_iter, "ab" if appending else "wb")
    except BaseException:
        _stop(process)
        raise
    if process.wait() != 0 or "Optimization Done" not in last:
        found = _REASON.match(last)
        reason = found.group(1) if found else f"exit status {process.returncode}"
        raise CamError(f"training stopped: {reason} (whole log: {log})")


def _follow(process: Any, log: Path, max_iter: int, mode: str) -> str:
    """Copy the lines of a running training; return the one that tells how it ended."""
    last = ""
    with open(log, mode) as file, tqdm(total=max_iter, unit="it", dynamic_ncols=True) as bar:
        for raw in process.stderr:
            file.write(raw)
            line = raw.decode(errors="replace").rstrip()
            last = line if _REASON.match(line) or "Optimization " in line or not last else last
            found = _ITERATION.search(line)
            if found:
                file.flush()
                bar.update(int(found.group(1)) - bar.n)
                bar.set_postfix(loss=found.group(2))
                if found.group(2).lstrip("-+").lower()[:3] in ("nan", "inf"):
                    raise CamError(f"the loss is {found.group(2)} at iteration {found.group(1)}: lower base_lr or set "
                                   f"clip_gradients in the solver; earlier snapshots are kept (whole log: {log})")
    return last


def _stop(process: Any) -> None:
    """Let the engine write its snapshot (SIGINT), then make sure that it ends."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

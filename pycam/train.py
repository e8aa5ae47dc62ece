"""Run one stage's training with either engine: check first, resume by itself, stop at a loss that is not finite.

The command that it runs is Caffe's own (``caffe train`` or ``python -m torchcaffe train``) and is printed, so it can be typed by
hand. The solver and the net are copied into the run's folder with ``build/`` replaced by that folder: what lies there is exactly
what was trained, and a training that goes on is held against it.
"""
import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

from google.protobuf.message import DecodeError
from tqdm import tqdm

from data_tools import manifest
from data_tools.files import listing, sha256_file, write_atomic
from torchcaffe.netparam import filter_net, parse_text, read_net, read_solver, upgrade_net
from torchcaffe.proto import caffe_pb2

from . import engine, weights
from .errors import CamError

STAGES = ("stage1", "stage2")
SOLVER, NET, LOG = "solver.prototxt", "train_val.prototxt", "train.log"
ORIGIN = "origin.json"  # hashes of the weights and the records that the training began with
ANEW = "start anew with --fresh (RESUME=no of make)"
_PREFIX = re.compile(r'"build/')
_FREE = re.compile(r"max_iter|display|average_loss|solver_mode|device_id|debug_info|iter_size|net|test_.*|snapshot.*")
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
    parser.add_argument("--stage", choices=STAGES, required=True, help="stage of the paper, and folder under RUN")
    parser.add_argument("--run", type=Path, default=Path("build"), dest="folder", metavar="RUN",
                        help="replaces build/ in the prototxts (default: build)")
    parser.add_argument("--weights", type=Path, metavar="W", help=".caffemodel, or folder with final.caffemodel, to start from")
    parser.add_argument("--batch", type=int, metavar="B",
                        help="pictures computed at a time; must divide the net's batch, which iter_size then restores")
    parser.add_argument("--seed", type=int, metavar="S", help="replaces the solver's random_seed")
    parser.add_argument("--fresh", action="store_true", help="start anew instead of going on from the newest snapshot")
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``train``."""
    folder = args.folder / args.stage
    texts = rewrite(args.solver, args.folder, folder, args.gpu, args.batch, args.seed)
    solver, net = _parse(texts, args.solver)
    prefix = Path(solver.snapshot_prefix)
    for needed in (folder, prefix.parent):
        _make_folder(needed)
    state = None if args.fresh else newest_state(prefix)
    start = engine.weights_file(args.weights) if args.weights else None
    origin = {"records": check_data(net, solver, args.stage), "weights": sha256_file(start) if start else ""}
    caffe = engine.load(args.engine, args.gpu)
    if state is None:
        check_start(caffe, net, texts[1], args.stage, start)
        _forget(prefix, folder)
    else:
        check_unchanged(folder, solver, net, origin)
    if not (folder / ORIGIN).is_file():
        write_atomic(folder / ORIGIN, json.dumps(origin, indent=2).encode())
    for name, text in zip((SOLVER, NET), texts):
        write_atomic(folder / name, text.encode())
    final = Path(f"{prefix}_iter_{solver.max_iter}.caffemodel")
    if state is None or state[0] < solver.max_iter or not final.is_file():
        flags = ["-snapshot", str(state[1])] if state else ["-weights", str(start)] if start else []
        flags += ["-gpu", str(args.gpu)] if args.gpu is not None else []
        execute([*command(caffe), "train", "-solver", str(folder / SOLVER), *flags], folder / LOG, solver.max_iter,
                appending=state is not None)
    if not final.is_file():
        raise CamError(f"{folder / LOG}: training ended without {final.name}; {ANEW}")
    write_atomic(folder / engine.FINAL_WEIGHTS, final.read_bytes())
    print(f"{folder / engine.FINAL_WEIGHTS}: {args.stage} after {solver.max_iter} iterations")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CamError(f"{folder}: cannot be written ({error.strerror}); training keeps its snapshots there") from error


# ---------------------------------------------------------------- texts
def rewrite(source: Path, root: Path, folder: Path, gpu: Optional[int], batch: Optional[int],
            seed: Optional[int] = None) -> Tuple[str, str]:
    """Return the texts of a solver and its net, their ``build/`` replaced by `root`, the net's place by that in `folder`.

    `gpu` decides solver_mode, `seed` replaces random_seed. With `batch` the training batch is computed in pieces, and
    iter_size restores its size.
    """
    read = read_solver(str(source))
    if not read.net:
        raise CamError(f"{source}: needs the field net, the path of one prototxt for training and testing")
    read_net(read.net)
    solver_text, net_text = (_PREFIX.sub(lambda _: f'"{root}/', path.read_text(encoding="utf-8"))
                             for path in (source, Path(read.net)))
    fields = {"net": f'"{folder / NET}"', "solver_mode": "CPU" if gpu is None else "GPU"}
    if seed is not None:
        fields["random_seed"] = str(seed)
    if batch is not None:
        net_text, pieces = split_batch(net_text, batch)
        fields["iter_size"] = str(pieces * read.iter_size)
    for name, value in fields.items():
        solver_text = _set_field(solver_text, name, value)
    return solver_text, net_text


def _set_field(text: str, name: str, value: str) -> str:
    """Return a prototxt with a field on a line of its own set, in its place or at the end."""
    line = f"{name}: {value}"
    changed, count = re.subn(rf"(?m)^\s*{name}\s*:[^#\n]*", lambda _: line, text)
    return changed if count else f"{text.rstrip()}\n{line}\n"


def split_batch(net_text: str, batch: int) -> Tuple[str, int]:
    """Return the net with training batches of `batch`, and how many of them make the batch that was written."""
    pattern = re.compile(r'(phase: TRAIN(?:(?!layer \{).)*?batch_size: )(\d+)', re.DOTALL)
    sizes = {int(found.group(2)) for found in pattern.finditer(net_text)}
    if len(sizes) != 1 or batch < 1 or next(iter(sizes)) % batch:
        raise CamError(f"--batch {batch}: must divide the training batch of the net, which is {sorted(sizes)}")
    return pattern.sub(lambda found: f"{found.group(1)}{batch}", net_text), sizes.pop() // batch


def _parse(texts: Tuple[str, str], source: Path) -> Tuple[Any, Any]:
    """Return the SolverParameter and NetParameter of two texts; refuse a solver that leaves nothing to go on from."""
    solver = parse_text(texts[0], caffe_pb2.SolverParameter(), str(source))
    net = upgrade_net(parse_text(texts[1], caffe_pb2.NetParameter(), solver.net), solver.net)
    binary = solver.snapshot_format == caffe_pb2.SolverParameter.BINARYPROTO
    if not (solver.snapshot and solver.snapshot_prefix and solver.snapshot_after_train and binary):
        raise CamError(f"{source}: needs snapshot and snapshot_prefix, no snapshot_after_train: false, no HDF5 snapshots; "
                       f"an interrupted training could not go on otherwise")
    return solver, net


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
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # all that protobuf 3.12 does about some files that are cut off
            message.ParseFromString(path.read_bytes())
    except (OSError, DecodeError, RuntimeWarning):
        return False
    return bool(message.ByteSize())


def _forget(prefix: Path, folder: Path) -> None:
    made = (folder / name for name in (LOG, ORIGIN, engine.FINAL_WEIGHTS))
    for path in [*prefix.parent.glob(f"{prefix.name}_iter_*"), *made]:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- checks
def check_data(net: Any, solver: Any, stage: str) -> Dict[str, str]:
    """Raise unless the stage's LMDBs are whole and fit the net; return the hashes of those that are trained on."""
    outputs = [la.inner_product_param.num_output for la in net.layer if la.type == "InnerProduct"]
    hashes = {}
    for layer in net.layer:
        if layer.type != "Data" or not any(stage in rule.stage for rule in layer.include):
            continue
        source = layer.data_param.source
        made = manifest.read(Path(source))
        if outputs and len(made.per_class) > outputs[-1]:
            raise CamError(f"{source}: {len(made.per_class)} classes, the net has {outputs[-1]} outputs")
        if any(rule.phase == caffe_pb2.TRAIN for rule in layer.include):
            hashes[Path(source).name] = made.data_sha256
        elif solver.test_iter and solver.test_iter[0] * layer.data_param.batch_size != made.records:
            print(f"note: test_iter {solver.test_iter[0]} x batch_size {layer.data_param.batch_size} is not the "
                  f"{made.records} records of {source}: each test sees other ones, or some twice", file=sys.stderr)
    return hashes


def check_start(caffe: Any, net: Any, net_text: str, stage: str, start: Optional[Path]) -> None:
    """Raise a CamError for weights that would end or spoil the training later; print what the weights fill."""
    fillers = [la for la in net.layer if la.type == "Convolution" and not la.convolution_param.HasField("weight_filler")]
    if start is None:
        if fillers:
            raise CamError(f"{net.name}: {fillers[0].name} and others have no filler, they come from pretrained weights: "
                           f"give --weights (INIT= of make), or train the scratch network")
        return
    name = "caffe" if caffe.__name__ == "caffe" else "torch"
    rows = weights.compare(weights.training_shapes(name, net_text, stage), engine.weight_shapes(start))
    print(weights.table(rows), file=sys.stderr)
    weights.check_start(rows, start)


def check_unchanged(folder: Path, solver: Any, net: Any, origin: Dict[str, Any]) -> None:
    """Raise a CamError when a training that goes on would mix two: other solver, net, records or starting weights."""
    if not all((folder / name).is_file() for name in (SOLVER, NET, ORIGIN)):
        print(f"note: {folder} has snapshots from elsewhere; nothing tells whether solver, net and data are the same",
              file=sys.stderr)
        return
    old_solver, old_net = read_solver(str(folder / SOLVER)), read_net(str(folder / NET))
    began = json.loads((folder / ORIGIN).read_bytes())
    was, now = essence(old_solver, old_net), essence(solver, net)
    changed = [name for name in sorted({**was, **now}) if was.get(name) != now.get(name)]
    changed += ["training records"] if began["records"] != origin["records"] else []
    changed += ["starting weights"] if origin["weights"] not in ("", began["weights"]) else []
    if changed:
        raise CamError(f"{folder}: changed since its snapshots were made: {listing(changed)}; change back, or {ANEW}")


def essence(solver: Any, net: Any) -> Dict[str, str]:
    """Return what a training's result depends on: the solver's fields and the training net's layers, name -> text.

    Batches count by their whole size, whatever the pieces; records are compared by their hash, not their place.
    """
    net.state.CopyFrom(solver.train_state)
    net.state.phase = caffe_pb2.TRAIN
    layers = filter_net(net).layer
    for layer in layers:
        if layer.type == "Data":
            layer.data_param.batch_size *= solver.iter_size
            layer.data_param.ClearField("source")
    fields = {field.name: str(value) for field, value in solver.ListFields() if not _FREE.fullmatch(field.name)}
    if solver.lr_policy == "poly":  # the rate of each iteration depends on how many there will be
        fields["max_iter"] = str(solver.max_iter)
    return {**fields, **{f"layer {layer.name}": str(layer) for layer in layers}}


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
        raise CamError(f"training stopped: {weights.reason(last, status)} (whole log: {log})")


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
            ended = line if weights.REASON.match(line) or "Optimization " in line else ended
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

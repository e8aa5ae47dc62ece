"""One training to run: a solver and its net, read once, with a run's folder, device, seed, batch and length put in."""
import argparse
import hashlib
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from google.protobuf import text_format
from google.protobuf.message import Message

from data_tools.augment import PATCH_SIZE
from data_tools.commands import whole
from data_tools.files import write_atomic
from data_tools.lmdb_io import DATA_FILE
from torchcaffe.limits import MAX_TABLE, read_bytes
from torchcaffe.netparam import filter_net, read_net, read_solver
from torchcaffe.proto import caffe_pb2

from . import edits
from .errors import CamError

SOLVER, NET = "solver.prototxt", "train_val.prototxt"  # their names in the run's folder
BUILD = "build/"  # what the run's folder stands for in the prototxts
OTHER_NETS = {"train_net", "test_net", "net_param", "train_net_param", "test_net_param"}
NAMES_A_FILE = ("source", "mean_file", "root_folder", "file_name")
LISTS = ("image_data_param", "hdf5_data_param", "window_data_param")  # their source lists further files
SCALED = ("test_interval", "snapshot", "stepsize")
# Fields of a solver that cannot change the weights, or that are recorded in another form.
FREE = {"net", "display", "average_loss", "debug_info", "solver_mode", "device_id", "iter_size", "snapshot", "snapshot_prefix",
        "snapshot_diff", "snapshot_format", "snapshot_after_train", "test_state", "test_iter", "test_interval",
        "test_compute_loss", "test_initialization"}


class Job(NamedTuple):
    """One training: its stage, its folder in the run's, the solver's file; solver and net as they are run.

    `training` and `testing` are what of the net makes the training net and each test net, `start` the weights that the solver
    names, `patch` the side of the network's input, `edits` the words by which solver and net differ from their files.
    """

    stage: str
    folder: Path
    source: Path
    solver: Any
    net: Any
    training: Any
    testing: List[Any]
    start: Optional[Path]
    patch: int = PATCH_SIZE
    edits: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Return the name of its folder, the stage's or another."""
        return self.folder.name

    @property
    def prefix(self) -> Path:
        """Return what the names of the snapshots begin with."""
        return Path(self.solver.snapshot_prefix)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what changes a committed training: ``--run``, ``--batch``, ``--max-iter``, ``--edit``, ``--patch``."""
    parser.add_argument("--run", type=Path, default=Path("build"), dest="folder", metavar="RUN",
                        help="replaces build/ in the prototxts (default: build)")
    parser.add_argument("--batch", type=whole(1), metavar="B",
                        help="pictures computed at a time; must divide the net's batch, which iter_size then restores")
    parser.add_argument("--max-iter", type=whole(1), metavar="N",
                        help="iterations, instead of the solver's; its steps, tests and snapshots scale with them")
    edits.add_arguments(parser)


def read_job(source: Path, root: Path, stage: str = "", into: Optional[str] = None, *, gpu: Optional[int] = None,
             batch: Optional[int] = None, seed: Optional[int] = None, max_iter: Optional[int] = None,
             edit: Sequence[str] = (), patch: Optional[int] = None) -> Job:
    """Read the training of a solver's file, for the run's folder `root`; see `add_arguments` and ``pycam train`` for the rest.

    Left out, `stage` is that which the solver names, and `into` is `stage` as it is given, or else the name of the folder in
    which the solver keeps its snapshots.
    """
    solver = read_solver(str(source))
    _check_solver(solver, source)
    prefix, net = Path(solver.snapshot_prefix), read_net(solver.net)
    folder = root / (into or stage or prefix.parent.name)
    stage = _stage(solver, source, stage)
    for message in (solver, net):
        _replace_build(message, root)
    solver.net, solver.snapshot_prefix = str(folder / NET), str(folder / prefix.name)
    solver.solver_mode = caffe_pb2.SolverParameter.CPU if gpu is None else caffe_pb2.SolverParameter.GPU
    if seed is not None:
        solver.random_seed = seed
    edits.edit_solver(solver, edit)
    edits.edit_net(net, edit, patch)
    if max_iter is not None:
        _scale(solver, max_iter)
    if batch is not None:
        _split_batch(solver, net, batch)
    weights = [Path(name.strip()) for entry in solver.weights for name in entry.split(",")]
    if len(weights) > 1:
        raise CamError(f"{source}: names {len(weights)} files of weights; name one")
    solver.ClearField("weights")
    training, *testing = _nets(solver, net)
    return Job(stage, folder, source, solver, net, training, testing, weights[0] if weights else None,
               patch or PATCH_SIZE, list(edit))


def _check_solver(solver: Any, source: Path) -> None:
    """Refuse a solver of another form, and one that writes no snapshot to continue from."""
    others = sorted(OTHER_NETS & {field.name for field, _ in solver.ListFields()})
    if others or not solver.net:
        raise CamError(f"{source}: needs the field net, the path of one prototxt for training and testing"
                       + (f", instead of {', '.join(others)}" if others else ""))
    binary = solver.snapshot_format == caffe_pb2.SolverParameter.BINARYPROTO
    if not (solver.snapshot and solver.snapshot_prefix and solver.snapshot_after_train and binary):
        raise CamError(f"{source}: needs snapshot and snapshot_prefix, no snapshot_after_train: false, no HDF5 snapshots; "
                       f"an interrupted training could not go on otherwise")
    if len(solver.test_state) not in (0, len(solver.test_iter)):
        raise CamError(f"{source}: {len(solver.test_state)} test_state for {len(solver.test_iter)} test_iter; give one each")


def _stage(solver: Any, source: Path, stage: str) -> str:
    named = list(solver.train_state.stage)
    if not (named or stage):
        raise CamError(f'{source}: names no stage; give it train_state {{ stage: "stage1" }}')
    if named and stage and stage not in named:
        raise CamError(f"{source}: trains {', '.join(named)}, expected the solver of {stage}")
    return stage or str(named[0])


def write(job: Job) -> List[Path]:
    """Write solver and net as they are run into the training's folder; return both files."""
    paths = [job.folder / SOLVER, job.folder / NET]
    for path, message in zip(paths, (job.solver, job.net)):
        write_atomic(path, text_format.MessageToString(message, as_utf8=True).encode())
    return paths


# ---------------------------------------------------------------- changes
def _replace_build(message: Any, root: Path) -> None:
    """Replace ``build/`` by the run's folder in every text of a message."""
    def moved(text: str) -> str:
        return f"{root}/{text[len(BUILD):]}" if text.startswith(BUILD) else text
    for field, value in message.ListFields():
        if isinstance(value, str):
            setattr(message, field.name, moved(value))
        elif field.type == field.TYPE_STRING:
            value[:] = [moved(text) for text in value]
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                _replace_build(part, root)


def _scale(solver: Any, max_iter: int) -> None:
    """Make a training of `max_iter` iterations, with its steps, tests and snapshots at the same shares of it."""
    if max_iter < 1:
        raise CamError(f"--max-iter {max_iter} (MAX_ITER= of make): expected 1 or more")

    def scaled(iterations: int) -> int:
        return max(1, round(iterations * max_iter / solver.max_iter)) if solver.max_iter else iterations
    for name in SCALED:
        if solver.HasField(name):
            setattr(solver, name, scaled(getattr(solver, name)))
    solver.stepvalue[:] = [scaled(value) for value in solver.stepvalue]
    solver.snapshot, solver.display = min(solver.snapshot, max_iter), min(solver.display, max_iter)
    solver.max_iter = max_iter


def _split_batch(solver: Any, net: Any, batch: int) -> None:
    """Let the training net compute `batch` pictures at a time, and iter_size restore its batch."""
    training, *testing = _nets(solver, net)
    divided = [layer for layer in training.layer if _batched(layer)]
    shared = [layer.name for layer in divided if any(layer in other.layer for other in testing)]
    if shared:
        raise CamError(f"--batch {batch} (BATCH= of make): layer {shared[0]} feeds training and testing; give each its own, with "
                       f"include {{ phase: TRAIN }} and include {{ phase: TEST }}")
    sizes = sorted({_batched(layer).batch_size for layer in divided})
    if len(sizes) != 1 or batch < 1 or sizes[0] % batch:
        raise CamError(f"--batch {batch} (BATCH= of make): must divide the training batch of the net, which is {sizes}")
    for layer in net.layer:
        if layer in divided:
            _batched(layer).batch_size = batch
    solver.iter_size *= sizes[0] // batch


def _batched(layer: Any) -> Any:
    """Return the parameters of a layer that have its batch size, or None."""
    parts = [part for _, part in layer.ListFields() if isinstance(part, Message)]
    return next((part for part in parts if getattr(part, "batch_size", None)), None)


def _nets(solver: Any, net: Any) -> Iterator[Any]:
    """Yield the training net, then each test net, as Caffe's solver makes them of the whole."""
    tests = list(solver.test_state) or [caffe_pb2.NetState()] * len(solver.test_iter)
    for phase, state in [(caffe_pb2.TRAIN, solver.train_state), *((caffe_pb2.TEST, state) for state in tests)]:
        copy = caffe_pb2.NetParameter(state=caffe_pb2.NetState(phase=phase))
        copy.MergeFrom(net)
        copy.state.MergeFrom(state)
        yield filter_net(copy)


# ---------------------------------------------------------------- what its result depends on
def essence(job: Job) -> Dict[str, Any]:
    """Return what the weights depend on, apart from files: the solver's fields, a hash of each layer, and of the test nets.

    Batches count by their whole size, whatever the pieces. Of the test nets only what draws random numbers when it is made
    matters; their files and batches do not.
    """
    fields = {field.name: _plain(value) for field, value in job.solver.ListFields() if field.name not in FREE}
    layers = {f"layer {layer.name}": _hash([layer], job.solver.iter_size) for layer in job.training.layer}
    return {**fields, "max_iter": job.solver.max_iter, "layers": [layer.name for layer in job.training.layer], **layers,
            "test nets": [_hash(net.layer, 0) for net in job.testing]}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True).hex()
    return value if isinstance(value, (str, int, float)) else list(value)


def _hash(layers: Any, pieces: int) -> str:
    """Return a hash of layers without their paths, their batches times a number of pieces."""
    digest = hashlib.sha256()
    for layer in layers:
        bare = type(layer)()
        bare.CopyFrom(layer)
        for part, name in named_files(bare):
            part.ClearField(name)
        if _batched(bare):
            _batched(bare).batch_size *= pieces
        digest.update(bare.SerializeToString(deterministic=True))
    return digest.hexdigest()


def named_files(layer: Any) -> List[Tuple[Any, str]]:
    """Return the parts of a layer that name files or folders, each with the name of its field."""
    parts = [part for _, part in layer.ListFields() if isinstance(part, Message)]
    return [(part, name) for part in parts for name in NAMES_A_FILE if getattr(part, name, "")]


def inputs(job: Job) -> Dict[str, Path]:
    """Return the files that the training net reads, by names that are independent of their folder."""
    found: Dict[str, Path] = {}
    for layer in job.training.layer:
        for part, name in named_files(layer):
            path = Path(getattr(part, name))
            if layer.type == "Data" and name == "source":
                key = f"lmdb/{path.name}"
                found[f"{key} of {layer.name}" if key in found else key] = path / DATA_FILE
            elif name in ("source", "mean_file"):
                found[f"{layer.name} {name}"] = path
        for kind in LISTS:
            if layer.HasField(kind):
                found.update({f"{layer.name} {line}": path for line, path in _listed(getattr(layer, kind))})
    return found


def _listed(part: Any) -> Iterator[Tuple[str, Path]]:
    """Yield the files that the lines of a list name, alone or before a label."""
    folder = getattr(part, "root_folder", "")
    for line in read_bytes(part.source, MAX_TABLE).decode(errors="replace").splitlines():
        for name in (line.strip(), line.strip().rpartition(" ")[0]):
            if name and os.path.isfile(folder + name):
                yield name, Path(folder + name)

"""One training to run: the committed solver and net, with a run's folder, device and batch put in."""
import re
from pathlib import Path
from typing import Any, NamedTuple, Optional, Tuple

from torchcaffe.netparam import parse_text, read_net, read_solver, upgrade_net
from torchcaffe.proto import caffe_pb2

from .errors import CamError

SOLVER, NET = "solver.prototxt", "train_val.prototxt"  # their names in the run's folder
_PREFIX = re.compile(r'"build/')


class Job(NamedTuple):
    """One training: its stage, its folder under RUN, the solver's file, both texts as they are run, both parsed."""

    stage: str
    folder: Path
    source: Path
    texts: Tuple[str, str]
    solver: Any
    net: Any

    @property
    def prefix(self) -> Path:
        """Return what the names of the snapshots begin with."""
        return Path(self.solver.snapshot_prefix)


def prepare(source: Path, root: Path, stage: str, gpu: Optional[int], batch: Optional[int], seed: Optional[int] = None,
            into: Optional[str] = None) -> Job:
    """Return the training of a solver's file in `root` / `into` (the stage's name if not given); see `rewrite` for the rest."""
    folder = root / (into or stage)
    texts = rewrite(source, root, folder, gpu, batch, seed)
    return Job(stage, folder, source, texts, *parse(texts, source))


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


def parse(texts: Tuple[str, str], source: Path) -> Tuple[Any, Any]:
    """Return the SolverParameter and NetParameter of two texts; refuse a solver that leaves nothing to go on from."""
    solver = parse_text(texts[0], caffe_pb2.SolverParameter(), str(source))
    net = upgrade_net(parse_text(texts[1], caffe_pb2.NetParameter(), solver.net), solver.net)
    binary = solver.snapshot_format == caffe_pb2.SolverParameter.BINARYPROTO
    if not (solver.snapshot and solver.snapshot_prefix and solver.snapshot_after_train and binary):
        raise CamError(f"{source}: needs snapshot and snapshot_prefix, no snapshot_after_train: false, no HDF5 snapshots; "
                       f"an interrupted training could not go on otherwise")
    return solver, net

"""What an earlier training left in a run's folder: its snapshots, and whether a new one may go on from them."""
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from google.protobuf.message import DecodeError

from data_tools.files import listing
from torchcaffe.netparam import filter_net, read_net, read_solver
from torchcaffe.proto import caffe_pb2

from . import engine
from .errors import CamError
from .texts import NET, SOLVER

LOG = "train.log"
ORIGIN = "origin.json"  # hashes of the weights and the records that the training began with
ANEW = "start anew with --fresh (RESUME=no of make)"
_FREE = re.compile(r"max_iter|display|average_loss|solver_mode|device_id|debug_info|iter_size|net|test_.*|snapshot.*")


def newest_state(prefix: Path, tell: bool = False) -> Optional[Tuple[int, Path]]:
    """Return (iteration, file) of the newest solver state that is whole and whose weights are; None without any.

    With `tell`, newer ones that are not whole are named on stderr.
    """
    found = re.compile(re.escape(prefix.name) + r"_iter_(\d+)\.solverstate$")
    states = [(int(match.group(1)), path) for path in prefix.parent.glob("*.solverstate")
              for match in [found.match(path.name)] if match]
    for iteration, path in sorted(states, reverse=True):
        if _whole(path, caffe_pb2.SolverState()) and _whole(path.with_suffix(".caffemodel"), caffe_pb2.NetParameter()):
            return iteration, path
        if tell:
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


def forget(prefix: Path, folder: Path) -> None:
    """Delete the snapshots of a prefix and what the training left in its folder."""
    made = (folder / name for name in (LOG, ORIGIN, engine.FINAL_WEIGHTS))
    for path in [*prefix.parent.glob(f"{prefix.name}_iter_*"), *made]:
        path.unlink(missing_ok=True)


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

"""Which layers of a network a weights file fills: Caffe copies by name and says nothing about the rest."""
import argparse
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from data_tools.commands import add
from data_tools.files import listing
from torchcaffe.limits import open_regular

from . import engine, public_weights
from .errors import CamError

SUFFIXES = ("_w", "_b")  # of the arrays with a layer's weights and bias, in the order of Caffe's blobs
Shapes = Mapping[str, Sequence[Sequence[int]]]  # of the parameters of each layer
COPIED, FRESH, MISMATCHED = "copied", "fresh", "mismatched"


class Row(NamedTuple):
    """What happens to one layer: its name, `copied`, `fresh` or `mismatched`, its shapes in the net and in the file."""

    layer: str
    state: str
    wanted: Sequence[Sequence[int]]
    found: Sequence[Sequence[int]]


def add_parser(subparsers: Any) -> None:
    """Add the command ``weights``."""
    parser = add(
        subparsers, "weights", "show which layers a weights file fills, fetch a public one, or make one of plain arrays",
        "python -m pycam weights --net prototxt/vgg_gap_deploy.prototxt --weights vgg16CAM.caffemodel",
        "show: print a table of the layers with parameters: copied from the file, fresh (random), or mismatched. fetch: get "
        "public VGG-GAP or VGG-16 weights under their own name first, and check them. import: write a .caffemodel from an .npz "
        "file with <layer>_w and <layer>_b of every layer.")
    parser.add_argument("action", nargs="?", choices=("show", "fetch", "import"), default="show", help="default: show")
    parser.add_argument("--net", type=Path, required=True, metavar="DEPLOY", help="deploy prototxt")
    parser.add_argument("--weights", type=Path, required=True, metavar="W", help=".caffemodel, or .npz to import")
    parser.add_argument("--out", type=Path, metavar="NEW", help=".caffemodel that import writes")
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``weights``."""
    if args.action == "import" and args.out is None:
        raise CamError("weights import: give --out, the .caffemodel to write")
    if args.action == "fetch":
        public_weights.get(args.weights)
    engine.check_prototxt(args.net)
    found = engine.weight_shapes(engine.weights_file(args.weights)) if args.action != "import" else {}
    caffe = engine.load(args.engine, args.gpu, args.precision)
    net = caffe.Net(str(args.net), caffe.TEST)
    if args.action == "import":
        fill(net, args.weights)
        _save(net, args.out)
        print(f"{args.out}: {sum(len(blobs) for blobs in net.params.values())} blobs of {len(net.params)} layers")
    else:
        print(table(compare({name: [blob.data.shape for blob in blobs] for name, blobs in net.params.items()}, found)))


def compare(wanted: Shapes, found: Shapes) -> List[Row]:
    """Return a row for every layer of `wanted`; leading axes of length 1 do not count, since old files have four."""
    rows = []
    for layer, shapes in wanted.items():
        there = found.get(layer, [])
        same = [engine.significant(s) for s in there] == [engine.significant(s) for s in shapes]
        rows.append(Row(layer, FRESH if not there else COPIED if same else MISMATCHED, shapes, there))
    return rows


def table(rows: List[Row]) -> str:
    """Return the rows as text, one line a layer."""
    def shapes(values: Sequence[Sequence[int]]) -> str:
        return " ".join("x".join(map(str, shape)) for shape in values) or "-"
    width = max((len(row.layer) for row in rows), default=0)
    return "\n".join(f"{row.layer:{width}}  {row.state:10}  net {shapes(row.wanted)}  file {shapes(row.found)}" for row in rows)


def check_start(rows: List[Row], weights: Path) -> None:
    """Raise a CamError unless weights fit: no mismatched layer, and at least one copied."""
    wrong = [row.layer for row in rows if row.state == MISMATCHED]
    if wrong:
        raise CamError(f"{weights}: other shapes than the network has in {', '.join(wrong[:10])}; Caffe would abort: "
                       f"rename these layers in the prototxt to train them from scratch")
    if not any(row.state == COPIED for row in rows):
        raise CamError(f"{weights}: fills no layer of the network; expected layer names such as "
                       f"{', '.join(row.layer for row in rows[:3])}")


# ---------------------------------------------------------------- plain arrays (D19)
def fill(net: Any, arrays: Path) -> None:
    """Set the parameters of a network from an ``.npz`` file.

    Parameters
    ----------
    net : Net
        Network of either engine.
    arrays : Path
        For every layer with parameters ``<layer>_w`` and ``<layer>_b``: float arrays of Caffe's shapes (a convolution's
        are outputs x inputs / groups x height x width, for BGR pictures). Other arrays of the file are not used.

    Raises
    ------
    CamError
        If the file cannot be read, lacks an array, or holds one of another shape.
    """
    wanted = {f"{name}{suffix}": blob for name, blobs in net.params.items() for suffix, blob in zip(SUFFIXES, blobs)}
    try:
        with open_regular(arrays) as file, zipfile.ZipFile(file) as archive:
            missing = sorted(name for name in wanted if f"{name}.npy" not in archive.namelist())
            if missing:
                raise CamError(f"{arrays}: lacks {listing(missing)}; the network needs <layer>_w and <layer>_b of each layer")
            for name, blob in wanted.items():
                with archive.open(f"{name}.npy") as head:
                    _check_array(head, tuple(blob.data.shape), f"{arrays}: {name}")
                with archive.open(f"{name}.npy") as member:
                    blob.data[...] = np.lib.format.read_array(member, allow_pickle=False)
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise CamError(f"{arrays}: not an .npz file of plain arrays: {error}") from error


def _check_array(file: Any, wanted: Tuple[int, ...], where: str) -> None:
    """Raise a CamError by an array's header, before its values take memory."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if shape != wanted:
        raise CamError(f"{where} has shape {shape}; the network needs {wanted}")
    if kind.kind not in "fiu":
        raise CamError(f"{where} holds {kind}; the network needs numbers")


def _save(net: Any, path: Path) -> None:
    """Write the network's weights as a ``.caffemodel``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        net.save(str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

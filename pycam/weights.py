"""Which layers of a network a weights file fills: Caffe copies by name and says nothing about the rest."""
import argparse
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Sequence

from data_tools.commands import add
from data_tools.files import listing

from . import engine, public_weights, weight_arrays
from .errors import CamError

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
        "public weights of VGG-GAP, VGG-16 or GoogLeNet under their own name first, and check them. import: write "
        "a .caffemodel with the layers of the network that a file of arrays has: an .npz with <layer>_w and <layer>_b, or "
        "Keras' VGG-16.")
    parser.add_argument("action", nargs="?", choices=("show", "fetch", "import"), default="show", help="default: show")
    parser.add_argument("--net", type=Path, required=True, metavar="DEPLOY", help="deploy prototxt")
    parser.add_argument("--weights", type=Path, required=True, metavar="W", help=".caffemodel; .npz or .h5 to import")
    parser.add_argument("--out", type=Path, metavar="NEW", help=".caffemodel that import writes")
    engine.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``weights``."""
    if args.action == "import" and args.out is None:
        raise CamError("weights import: give --out, the .caffemodel to write")
    weights = public_weights.get(args.weights) if args.action == "fetch" else args.weights
    engine.check_prototxt(args.net)
    plain = args.action == "import"
    found = weight_arrays.shapes(weights) if plain else engine.weight_shapes(engine.weights_file(weights))
    caffe = engine.load(args.engine, args.gpu, args.precision)
    net = caffe.Net(str(args.net), caffe.TEST)
    rows = compare({name: [blob.data.shape for blob in blobs] for name, blobs in net.params.items()}, found)
    print(table(rows))
    if plain:
        check_start(rows, weights)
        weight_arrays.write(weight_arrays.read(weights, [row.layer for row in rows if row.state == COPIED]), args.out)
        fresh = [row.layer for row in rows if row.state == FRESH]
        print(f"{args.out}: {len(rows) - len(fresh)} layers; fresh, as the net's fillers make them: {listing(fresh) or 'none'}")


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

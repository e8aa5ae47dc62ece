"""Fields of a solver and a net that are to differ from the committed files: the variables EDIT and PATCH, the command ``edit``.

A word ``solver.FIELD=VALUE`` changes the solver; ``LAYER.FIELD=VALUE`` every layer of that name, which may have ``*``, whose
parameters have that field. ``lr_mult`` is the weights' rate; the biases learn twice as fast, as in Caffe's own nets.
"""
import argparse
import fnmatch
import re
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence

from google.protobuf import text_format
from google.protobuf.message import Message

from data_tools import steps
from data_tools.augment import PATCH_SIZE
from data_tools.commands import add, add_step, whole
from data_tools.errors import unknown
from data_tools.files import write_atomic
from torchcaffe.netparam import read_net
from torchcaffe.proto import caffe_pb2

from .errors import CamError

SOLVER, RATE = "solver", "lr_mult"
FORM = "NAME.FIELD=VALUE, such as CAM_conv.pad=1"
_WORD = re.compile(r"([^\s.=]+)\.([a-z][a-z0-9_]*)=(\S+)")


class Edit(NamedTuple):
    """One change: of the solver, or of the layers whose names match; the word is what a user typed."""

    word: str
    name: str
    field: str
    value: str


def read_edit(word: str) -> Edit:
    """Read a word ``NAME.FIELD=VALUE``."""
    found = _WORD.fullmatch(word)
    if not found:
        raise CamError(f"EDIT, {word}: expected {FORM}")
    return Edit(word, *found.groups())


def edit_solver(solver: Any, words: Sequence[str]) -> None:
    """Make the changes of a solver among some words."""
    for edit in map(read_edit, words):
        if edit.name == SOLVER:
            if edit.field not in solver.DESCRIPTOR.fields_by_name:
                raise CamError(f"EDIT, {edit.word}: field {unknown(edit.field, solver.DESCRIPTOR.fields_by_name)}")
            _set(solver, edit)


def edit_net(net: Any, words: Sequence[str], patch: Optional[int] = None, deploy: bool = False) -> None:
    """Make the changes of a net among some words, and its input `patch` pixels wide.

    A deploy net has no rates, and no records: what is said of these does not concern it.
    """
    for edit in map(read_edit, words):
        layers = [layer for layer in net.layer if fnmatch.fnmatchcase(layer.name, edit.name)]
        if edit.name == SOLVER or (deploy and (edit.field == RATE or not layers)):
            continue
        if not layers:
            raise CamError(f"EDIT, {edit.word}: layer {unknown(edit.name, dict.fromkeys(layer.name for layer in net.layer))}")
        if not [layer for layer in layers if _edit_layer(layer, edit)] and not deploy:
            raise CamError(f"EDIT, {edit.word}: {layers[0].name} has no parameters with that field")
    for layer in net.layer if patch else ():
        if layer.transform_param.crop_size:
            layer.transform_param.crop_size = patch
        for shape in layer.input_param.shape:
            shape.dim[2:] = [patch, patch]


def _edit_layer(layer: Any, edit: Edit) -> bool:
    """Change a layer; return whether it has what is to be changed."""
    if edit.field == RATE:
        for param, factor in zip(layer.param, (1, 2)):
            _set(param, edit._replace(value=f"{_number(edit) * factor:g}"))
        return bool(layer.param)
    parts = [part for _, part in layer.ListFields() if isinstance(part, Message)]
    owner = next((part for part in parts if edit.field in part.DESCRIPTOR.fields_by_name), None)
    if owner is not None:
        _set(owner, edit)
    return owner is not None


def _number(edit: Edit) -> float:
    try:
        return float(edit.value)
    except ValueError:
        raise CamError(f"EDIT, {edit.word}: expected a number") from None


def _set(message: Any, edit: Edit) -> None:
    """Set a field as a prototxt would; of a list, to this one value."""
    quote = '"' if isinstance(getattr(message, edit.field), str) else ""
    message.ClearField(edit.field)
    try:
        text_format.Merge(f"{edit.field}: {quote}{edit.value}{quote}", message)
    except text_format.ParseError as error:
        raise CamError(f"EDIT, {edit.word}: {error}") from error


# ---------------------------------------------------------------- deploy nets
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--edit`` and ``--patch``."""
    parser.add_argument("--edit", action="append", default=[], metavar="NAME.FIELD=VALUE",
                        help="a field of the solver (solver.base_lr=0.002) or of layers (conv4_*.lr_mult=1) that differs")
    parser.add_argument("--patch", type=whole(1), metavar="P", help=f"side of the network's input (D03), not {PATCH_SIZE}")


def add_parser(subparsers: Any) -> None:
    """Add the command ``edit``."""
    parser = add(
        subparsers, "edit", "write a deploy net with fields that differ",
        "python -m pycam edit --net prototxt/vgg16_gap_deploy.prototxt --patch 160 --out build/deploy.prototxt",
        "Write a copy of a deploy net for weights that were trained with EDIT or PATCH.")
    parser.add_argument("--net", type=Path, required=True, metavar="DEPLOY", help="deploy prototxt")
    parser.add_argument("--out", type=Path, required=True, metavar="PROTOTXT", help="where the copy goes")
    add_arguments(parser)
    add_step(parser, step)


def step(args: argparse.Namespace) -> steps.Step:
    """Return the step of the command ``edit``."""
    net = read_net(str(args.net))
    edit_solver(caffe_pb2.SolverParameter(), args.edit)
    edit_net(net, args.edit, args.patch, deploy=True)

    def work() -> List[Path]:
        write_atomic(args.out, text_format.MessageToString(net, as_utf8=True).encode())
        print(f"{args.out}: {args.net} with other fields")
        return [args.out]

    parameters = {"net": net.SerializeToString(deterministic=True).hex(), "code": steps.code("pycam.edits")}
    return steps.Step(f"edit/{args.out.stem}", args.out, steps.beside(args.out), parameters, {"net": args.net}, work)

"""The variables of the Makefile: what each means, its default, the values that it may have. No package is needed for this.

``python3 -m pycam.variables`` prints them for ``make help``; with words ``NAME=VALUE`` it prints what is wrong with these.
"""
import re
import sys
from typing import Dict, Mapping, NamedTuple, Sequence

from data_tools.errors import unknown

ANYTHING, NUMBER, NO_SPACE, NUMBERS = "anything", "a whole number", "a path without spaces", "whole numbers"
FORMS = {ANYTHING: r".*", NUMBER: r"\d+", NO_SPACE: r"[^\s]+", NUMBERS: r"\d+( \d+)*"}
NETS = ("vgg_gap", "vgg16_gap", "vgg_gap_narrow", "googlenet_gap")


class Variable(NamedTuple):
    """A variable: its default, what it means, the only values that there are, or the form of its values."""

    default: str
    text: str
    values: Sequence[str] = ()
    form: str = ANYTHING


VARIABLES: Dict[str, Variable] = {
    "ISIC": Variable("data/isic2017", "the pictures and their label files"),
    "RUN": Variable("build", "where everything goes that is made", form=NO_SPACE),
    "NET": Variable("vgg_gap", "vgg_gap, vgg16_gap (from VGG-16, D25), vgg_gap_narrow (from scratch), googlenet_gap (D19)", NETS),
    "INIT": Variable("", "weights that stage 1 starts from, a .caffemodel"),
    "START2": Variable("", "weights that stage 2 starts from, instead of stage 1's (D11)"),
    "SPLIT": Variable("val", "pictures that are scored and shown: val, or test", ("val", "test")),
    "ENGINE": Variable("auto", "caffe, torch, or auto: Caffe where Python has it, else torchcaffe", ("auto", "caffe", "torch")),
    "GPU": Variable("", "number of the GPU; none: the CPU", form=NUMBER),
    "PRECISION": Variable("", "bf16, or on a GPU tf32: torchcaffe computes with fewer bits, faster; none: fp32, as Caffe, but "
                          "bf16 in demo and experiment where the processor has it", ("", "fp32", "tf32", "bf16")),
    "BATCH": Variable("", "pictures computed at a time, when memory is short; iter_size keeps the batch", form=NUMBER),
    "SEED": Variable("", "of the records' order and of the training, instead of the files'", form=NUMBER),
    "MAX_ITER": Variable("", "iterations of each training, for a short run; tests and snapshots scale with it", form=NUMBER),
    "RESUME": Variable("yes", "no: train anew instead of going on from the newest snapshot", ("yes", "no")),
    "AUGMENT": Variable("paper", "paper: 30 records a picture; none: one; random: four, for nets that draw patches (D23)",
                        ("paper", "none", "random")),
    "BALANCE": Variable("none", "oversample: rare classes as often as the others in the training records (D15)",
                        ("none", "oversample")),
    "HAIR": Variable("along", "hair removal: along, letter (D18), none (D06)", ("along", "letter", "none")),
    "EXCLUDE": Variable("", "training pictures to leave out: ISIC_0000001,ISIC_0000002 (D20)"),
    "REGION": Variable("", "options of `pycam crops`, such as --threshold 0.5 (D09)"),
    "RECORDS": Variable("", "options of `data_tools lmdb` for training records, such as --rotations 0,90 --no-flip (D01, D02)"),
    "PATCH": Variable("", "side of the network's input, 224 by default; pictures are resized to 8/7 of it (D03)", form=NUMBER),
    "EDIT": Variable("", "fields of solver and net that differ: solver.base_lr=0.002 conv4_*.lr_mult=1 CAM_conv.pad=1"),
    "SOLVERS": Variable("", "how the names of the solver files begin, solvers/SOLVERSstage1.prototxt; by default those of NET"),
    "JOBS": Variable("", "processes that prepare pictures; by default one for each processor", form=NUMBER),
    "ROWS": Variable("", "rows of the experiment, all by default: experiments/rows.csv"),
    "SEEDS": Variable("1 2 3", "seeds of the experiment, or its folds", form=NUMBERS),
    "FOLDS": Variable("no", "yes: the experiment by cross-validation on the training pictures (D22)", ("yes", "no")),
    "PYTHON": Variable("", "a Python that has all packages; otherwise .venv is made"),
    "CAFFE": Variable(".caffe", "where `make caffe` puts real Caffe"),
    "TARGET": Variable("gpu", "Docker image: gpu (Caffe, CUDA 11.8), cpu (Debian's Caffe), torch (torchcaffe, CUDA 12.8)",
                       ("gpu", "cpu", "torch")),
    "CMD": Variable("make help", "what docker-run runs in the image"),
    "IMAGE": Variable("skin-lesion-cam:TARGET", "name of the image that is built and run"),
    "OPTIONS": Variable("", "more options of docker run: docs/docker.md"),
    "GPUS": Variable("all", "GPUs that the image sees; none in the image cpu"),
    "DIGEST": Variable("", "of the base image, sha256:..., instead of the one that its variable names"),
    "DEBIAN_MIRROR": Variable("", "a mirror that has Debian 11, for the image cpu and for make caffe"),
    "CPU_BASE": Variable("debian:11-slim@sha256:...", "the image that cpu is built on"),
    "GPU_BASE": Variable("duruyao/caffe:gpu", "the image that gpu is built on; a laboratory's own Caffe image works"),
    "TORCH_BASE": Variable("pytorch/pytorch:2.7.1-...", "the image that torch is built on"),
}


def values(words: Mapping[str, str]) -> Dict[str, str]:
    """Return the value of every variable: a given one, or the default."""
    return {name: words.get(name) or variable.default for name, variable in VARIABLES.items()}


def problem(name: str, value: str) -> str:
    """Say what is wrong with a variable; an empty text when nothing is."""
    if name not in VARIABLES:
        return unknown(name, VARIABLES)
    variable = VARIABLES[name]
    if value and variable.values and value not in variable.values:
        return f"{name}={value}: {unknown(value, filter(None, variable.values))}"
    if value and not re.fullmatch(FORMS[variable.form], value):
        return f"{name}={value}: expected {variable.form}"
    return ""


def main() -> None:
    """Print the variables, or what is wrong with some."""
    pairs = [word.partition("=")[::2] for word in sys.argv[1:]]
    for text in filter(None, (problem(name, value) for name, value in pairs)):
        print(text)
        return
    if not pairs:
        for name, variable in VARIABLES.items():
            print(f"  {name + '=' + variable.default:20} {variable.text}")


if __name__ == "__main__":
    main()

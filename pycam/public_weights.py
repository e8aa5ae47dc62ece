"""The public weights that stage 1 can start from: their addresses, and how to recognise their files."""
import functools
import hashlib
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from data_tools.files import listing
from data_tools.transfer import fetch

from . import engine, weight_arrays
from .errors import CamError

CONVOLUTIONS = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}  # outputs, VGG-16


class Source(NamedTuple):
    """A file's address, a sum of it where one is public (``sha1:...``), and shapes that layers in it must have."""

    url: str
    sum: str
    shapes: Dict[str, List[Tuple[int, ...]]]


def vgg_shapes() -> Dict[str, List[Tuple[int, ...]]]:
    """Return the shapes of VGG-16's 13 convolutions by layer: weights, biases."""
    shapes, inputs = {}, 3
    for block, widths in CONVOLUTIONS.items():
        for number, outputs in enumerate(widths, 1):
            shapes[f"conv{block}_{number}"] = [(outputs, inputs, 3, 3), (outputs,)]
            inputs = outputs
    return shapes


SOURCES = {Path(source.url).name: source for source in (
    Source("http://cnnlocalization.csail.mit.edu/demoCAM/models/vgg16CAM_train_iter_90000.caffemodel", "",
           {**vgg_shapes(), "CAM_conv": [(1024, 256, 3, 3), (1024,)]}),  # two groups
    Source("http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
           "sha1:9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24", vgg_shapes()),
    Source("http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",  # D19
           "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204", {"conv1/7x7_s2": [(64, 3, 7, 7), (64,)]}),
    Source("https://storage.googleapis.com/tensorflow/keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
           "md5:6d6bbae143d832006294945121d1f1fc", vgg_shapes()),  # D25: VGG-16's convolutions alone, a ninth of the bytes
)}


def get(path: Path) -> Path:
    """Fetch public weights unless they are there, check them, and return their .caffemodel, which is made of Keras' file."""
    if path.name not in SOURCES:
        raise CamError(f"{path}: not a file that is known to be public; expected the name {' or '.join(sorted(SOURCES))}")
    source = SOURCES[path.name]
    if path.is_file():
        check(path, source)
    else:
        fetch(source.url, path, functools.partial(check, source=source))
    if not weight_arrays.is_keras(path):
        return path
    model = path.with_suffix(".caffemodel")
    weight_arrays.write(weight_arrays.read(path), model)
    print(f"{model}: made of {path}; give it as INIT")
    return model


def check(path: Path, source: Source) -> None:
    """Raise a CamError unless a file is the source's: its sum, the shapes of its layers."""
    cure = "delete it and get it again"
    kind, _, wanted = source.sum.partition(":")
    found_sum = _sum(path, kind) if kind else ""
    if found_sum != wanted:
        raise CamError(f"{path}: {kind.upper()} {found_sum}, its authors' is {wanted}; {cure}")
    found = weight_arrays.shapes(path) if weight_arrays.is_keras(path) else engine.weight_shapes(path)
    wrong = [layer for layer, shapes in source.shapes.items()
             if [engine.significant(s) for s in found.get(layer, [])] != [engine.significant(s) for s in shapes]]
    if wrong:
        raise CamError(f"{path}: {listing(wrong)} missing or of other shapes than in {Path(source.url).name}; {cure}")


def _sum(path: Path, kind: str) -> str:
    """Return a file's sum as hexadecimal digits."""
    digest = hashlib.new(kind)
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()

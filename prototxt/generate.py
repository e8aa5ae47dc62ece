"""Write the networks of the paper as Caffe prototxts, next to this file.

One network, written once: VGG-16 without its fully connected layers, one more convolution, a global average pooling and
a 3-way classifier, from which class activation maps can be read (paper, section 2). GoogLeNet-GAP is its sister in the CAM
paper: the same head on GoogLeNet, whose pretrained weights are still to be had (D19).

`python prototxt/generate.py` writes the files; `--check` writes nothing, exits 1 and names those that differ.
Needs the standard library only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

CLASSES = 3  # melanoma, seborrheic keratosis, nevus
IMAGE_SIZE = 224  # D03
MEAN_BGR = ("103.939", "116.779", "123.68")  # D04
VGG_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # (channels, convolutions) of conv1_x ... conv5_x
INCEPTION = {  # channels of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj: GoogLeNet's Table 1
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
CAM_CHANNELS = 1024
CAM_GROUPS = 2  # as in the public VGG-GAP, whose CAM_conv has weights of 1024 x 256 x 3 x 3 (D25)
VGG_LAST = "14th convolution: the blob CAM_conv holds the paper's f_k(x, y), on 10 x 10 cells"
UNPADDED = ("conv5_3", "CAM_conv")  # D05
FROZEN = ("conv1", "conv2", "conv3", "conv4", "inception_3")  # D10: the first letters of layers that keep their weights
OBJECTS = 1000  # classes of the ImageNet network that GoogLeNet-GAP starts from
DROPOUT = 0.5
NARROW_DIVISOR = 8  # D13: the twin that a CPU trains in minutes
TRAIN_BATCH = 32  # D13
TEST_BATCH = 10  # 15 batches are the 150 validation pictures exactly
PIXEL_SPREAD = 64.0  # D13: rough standard deviation of a pixel after the mean is taken off

FINETUNE, SCRATCH, DEPLOY = "finetune", "scratch", "deploy"  # where the weights come from


def block(name: str, lines: Sequence[str]) -> List[str]:
    """Return the lines of one message, `name { ... }`."""
    return [name + " {", *("  " + line for line in lines), "}"]


def layer(name: str, kind: str, bottom: Sequence[str], top: Sequence[str], body: Sequence[str] = ()) -> List[str]:
    """Return the lines of one layer: its name, type, inputs, outputs, then `body`."""
    blobs = [f'bottom: "{blob}"' for blob in bottom] + [f'top: "{blob}"' for blob in top]
    return block("layer", [f'name: "{name}"', f'type: "{kind}"', *blobs, *body])


def rates(name: str, weights: str, new: bool) -> List[str]:
    """Return the `param` lines of a layer's weights and bias: D10 says which layers learn, and how fast."""
    if weights == DEPLOY:
        return []
    if weights == FINETUNE and name.startswith(FROZEN):
        return ["param { lr_mult: 0 decay_mult: 0 }", "param { lr_mult: 0 decay_mult: 0 }"]
    rate = 10 if weights == FINETUNE and new else 1
    return [f"param {{ lr_mult: {rate} decay_mult: 1 }}", f"param {{ lr_mult: {2 * rate} decay_mult: 0 }}"]


def fillers(name: str, weights: str, pixels: int = 0) -> List[str]:
    """Return the filler lines of a layer; one that a weights file fills has none. `pixels` are those of a first kernel."""
    if weights == DEPLOY or (weights == FINETUNE and not name.startswith("CAM")):
        return []
    filler = 'type: "msra"'  # keeps the spread of the activations the same through all the ReLU layers
    if weights == FINETUNE or name == "CAM_fc3":
        filler = 'type: "gaussian" std: 0.01'  # as the public VGG-GAP
    elif pixels:  # msra for that many inputs, and the spread of the pixels taken out
        filler = f'type: "gaussian" std: {(2 / pixels) ** 0.5 / PIXEL_SPREAD:.4f}'
    return [f"weight_filler {{ {filler} }}", 'bias_filler { type: "constant" value: 0 }']


def data(stage: str, phase: str, random: bool) -> List[str]:
    """Return the layer that reads one LMDB of one stage of the paper; D23: `random` patches of it, when it trains."""
    split, batch = ("train", TRAIN_BATCH) if phase == "TRAIN" else ("val", TEST_BATCH)
    patch = [f"crop_size: {IMAGE_SIZE} mirror: true"] if random and phase == "TRAIN" else []
    return layer("data", "Data", [], ["data", "label"], [
        f'include {{ phase: {phase} stage: "{stage}" }}',
        *block("transform_param", [*patch, *(f"mean_value: {mean}" for mean in MEAN_BGR)]),
        f'data_param {{ source: "build/lmdb/{stage}_{split}" batch_size: {batch} backend: LMDB }}',
    ])


def convolution(name: str, relu: str, bottom: str, channels: int, weights: str, kernel: int = 3, stride: int = 1,
                new: bool = False, groups: int = 1) -> List[str]:
    """Return a convolution that keeps the map's size but for its stride (D05: or has no padding), and its ReLU, in place."""
    pad = f"pad: {kernel // 2}"
    if name in UNPADDED:
        pad = "pad: 0  # D05: no padding in the last two convolutions"
    body = [f"num_output: {channels}", *([pad] if kernel > 1 else []), f"kernel_size: {kernel}",
            *([f"stride: {stride}"] if stride > 1 else []), *([f"group: {groups}"] if groups > 1 else []),
            *fillers(name, weights, 3 * kernel**2 if bottom == "data" else 0)]
    return [
        *layer(name, "Convolution", [bottom], [name], [*rates(name, weights, new), *block("convolution_param", body)]),
        *layer(relu, "ReLU", [name], [name]),
    ]


def vgg(weights: str, divisor: int) -> List[str]:
    """Return VGG-16 from `data` to `conv5_3`, with the first four poolings: 224 -> 112 -> 56 -> 28 -> 14 -> 12."""
    lines: List[str] = []
    bottom = "data"
    for number, (channels, depth) in enumerate(VGG_BLOCKS, start=1):
        for step in range(1, depth + 1):
            name = f"conv{number}_{step}"
            lines += convolution(name, f"relu{number}_{step}", bottom, channels // divisor, weights)
            bottom = name
        if number < len(VGG_BLOCKS):  # pool5 is gone: a map needs its resolution
            name = f"pool{number}"
            lines += layer(name, "Pooling", [bottom], [name], ["pooling_param { pool: MAX kernel_size: 2 stride: 2 }"])
            bottom = name
    return lines


def pooling(name: str, bottom: str, text: str) -> List[str]:
    """Return a pooling layer with the fields of `text`."""
    return layer(name, "Pooling", [bottom], [name], [f"pooling_param {{ {text} }}"])


def normalization(name: str, bottom: str) -> List[str]:
    """Return GoogLeNet's local response normalization."""
    return layer(name, "LRN", [bottom], [name], ["lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"])


def inception(module: str, bottom: str, weights: str) -> List[str]:
    """Return one inception module; its result is the blob `inception_XY/output`."""
    one, reduce3, three, reduce5, five, projected = INCEPTION[module]
    prefix = f"inception_{module}/"
    branches = [("1x1", bottom, one, 1), ("3x3_reduce", bottom, reduce3, 1), ("3x3", f"{prefix}3x3_reduce", three, 3),
                ("5x5_reduce", bottom, reduce5, 1), ("5x5", f"{prefix}5x5_reduce", five, 5)]
    lines = [line for name, source, channels, kernel in branches
             for line in convolution(prefix + name, f"{prefix}relu_{name}", source, channels, weights, kernel)]
    lines += pooling(f"{prefix}pool", bottom, "pool: MAX kernel_size: 3 stride: 1 pad: 1")
    lines += convolution(f"{prefix}pool_proj", f"{prefix}relu_pool_proj", f"{prefix}pool", projected, weights, 1)
    return lines + layer(f"{prefix}output", "Concat", [prefix + name for name in ("1x1", "3x3", "5x5", "pool_proj")],
                         [f"{prefix}output"])


def googlenet(weights: str, last: str = "4e") -> List[str]:
    """Return GoogLeNet from `data` to the inception module `last`: 224 -> 112 -> 56 -> 28 -> 14 (-> 7 before 5a)."""
    halve = "pool: MAX kernel_size: 3 stride: 2"
    lines = [
        *convolution("conv1/7x7_s2", "conv1/relu_7x7", "data", 64, weights, 7, 2),
        *pooling("pool1/3x3_s2", "conv1/7x7_s2", halve),
        *normalization("pool1/norm1", "pool1/3x3_s2"),
        *convolution("conv2/3x3_reduce", "conv2/relu_3x3_reduce", "pool1/norm1", 64, weights, 1),
        *convolution("conv2/3x3", "conv2/relu_3x3", "conv2/3x3_reduce", 192, weights),
        *normalization("conv2/norm2", "conv2/3x3"),
    ]
    bottom = "conv2/norm2"
    for module in INCEPTION:
        if module > last:
            break
        if module.endswith("a"):
            name = f"pool{int(module[0]) - 1}/3x3_s2"
            lines += pooling(name, bottom, halve)
            bottom = name
        lines += inception(module, bottom, weights)
        bottom = f"inception_{module}/output"
    return lines


def cam_head(bottom: str, channels: int, weights: str, which: str, new: bool, groups: int = CAM_GROUPS) -> List[str]:
    """Return the layers that make class activation maps, up to the class scores `CAM_fc3`; `new`: no weights for CAM_conv."""
    dropout = f"dropout_param {{ dropout_ratio: {DROPOUT} }}"
    classifier = [f"num_output: {CLASSES}", *fillers("CAM_fc3", weights)]
    return [
        "",
        f"# The {which}.",
        *convolution("CAM_conv", "CAM_relu", bottom, channels, weights, new=new, groups=groups),
        "# The fifth pooling of the paper averages over the whole map, whatever its size.",
        *pooling("CAM_pool", "CAM_conv", "pool: AVE global_pooling: true"),
        *layer("CAM_dropout", "Dropout", ["CAM_pool"], ["CAM_pool"], [dropout]),
        "# The class scores S_c: the weights of this layer are the paper's w_k^c. CAM_fc of the public net has 1000.",
        *layer("CAM_fc3", "InnerProduct", ["CAM_pool"], ["CAM_fc3"],
               [*rates("CAM_fc3", weights, new=True), *block("inner_product_param", classifier)]),
    ]


def vgg_gap(weights: str, divisor: int = 1) -> List[str]:
    """Return VGG-GAP, the paper's network, from `data` to `CAM_fc3`."""
    return vgg(weights, divisor) + cam_head("conv5_3", CAM_CHANNELS // divisor, weights, VGG_LAST, new=False)


def vgg16_gap(weights: str) -> List[str]:
    """Return VGG-GAP as it starts from VGG-16 (D25): CAM_conv is new, and nothing asks for groups."""
    return vgg(weights, divisor=1) + cam_head("conv5_3", CAM_CHANNELS, weights, VGG_LAST, new=True, groups=1)


def googlenet_gap(weights: str) -> List[str]:
    """Return GoogLeNet-GAP (D19) from `data` to `CAM_fc3`."""
    which = "last convolution, the only one without padding (D19): the blob CAM_conv holds f_k(x, y), on 12 x 12 cells"
    return googlenet(weights) + cam_head("inception_4e/output", CAM_CHANNELS, weights, which, new=True)


def objects(weights: str) -> List[str]:
    """Return the whole GoogLeNet, which names the objects of ImageNet: it shows that imported weights are right."""
    return [
        *googlenet(weights, "5b"),
        *pooling("pool5/7x7_s1", "inception_5b/output", "pool: AVE kernel_size: 7 stride: 1"),
        *layer("loss3/classifier", "InnerProduct", ["pool5/7x7_s1"], ["loss3/classifier"],
               [f"inner_product_param {{ num_output: {OBJECTS} }}"]),
    ]


def header(name: str, comment: str) -> List[str]:
    """Return the comment and the network's name at the top of a file."""
    return ["# Written by prototxt/generate.py: change that program, not this file.", "# " + comment, f'name: "{name}"']


def train_val(name: str, comment: str, body: List[str], random: bool = False) -> str:
    """Return a net to train: the paper's two stages are the Caffe stages `stage1` and `stage2`."""
    records = "The records are ready-made 224 x 224 patches (D02, D03): no crop, no mirror; the mean is BGR (D04)."
    if random:
        records = "Records are whole 256 x 256 pictures: a patch and its flip are drawn each time (D23); the mean is BGR (D04)."
    lines = [
        *header(name, comment),
        "",
        "# Stage 1 sees whole pictures, stage 2 the regions cut out by the maps; a solver's train_state chooses.",
        "# " + records,
        *(line for stage in ("stage1", "stage2") for phase in ("TRAIN", "TEST") for line in data(stage, phase, random)),
        "",
        *body,
        "",
        *layer("loss", "SoftmaxWithLoss", ["CAM_fc3", "label"], ["loss"]),
        *layer("accuracy", "Accuracy", ["CAM_fc3", "label"], ["accuracy"], ["include { phase: TEST }"]),
    ]
    return "\n".join(lines) + "\n"


def deploy(name: str, comment: str, body: List[str], scores: str = "CAM_fc3") -> str:
    """Return the net that predicts: N x 3 x 224 x 224 BGR pixels less the mean (D04) in, probabilities of `scores` out."""
    shape = f"input_param {{ shape {{ dim: 1 dim: 3 dim: {IMAGE_SIZE} dim: {IMAGE_SIZE} }} }}"
    lines = [
        *header(name, comment),
        "",
        "# Pixels 0 ... 255 in BGR, less the mean 103.939, 116.779, 123.68 (D04).",
        *layer("data", "Input", [], ["data"], [shape]),
        "",
        *body,
        "",
        *layer("prob", "Softmax", [scores], ["prob"]),
    ]
    return "\n".join(lines) + "\n"


def files() -> Dict[str, str]:
    """Return the text of every prototxt, by file name."""
    scratch = "From scratch (the other curve of the paper's Fig. 3): every layer learns, from random weights."
    both = "For prediction and for the maps, with weights of either training net."
    twin = f"The narrow twin: every width divided by {NARROW_DIVISOR}, all else the same; it learns from scratch."
    texts = {}
    nets: List[Tuple[str, str, Callable[[str], List[str]], str]] = [
        ("vgg_gap", "VGG_GAP", vgg_gap, "conv1_x ... conv4_x"),
        ("vgg16_gap", "VGG16_GAP", vgg16_gap, "conv1_x ... conv4_x"),
        ("googlenet_gap", "GoogLeNet_GAP", googlenet_gap, "conv1 ... inception_3b"),
    ]
    for file, name, body, kept in nets:
        finetune = f"Fine-tuning (D10): {kept} keep their pretrained weights, the layers behind them learn."
        texts[f"{file}_train_val.prototxt"] = train_val(name, finetune, body(FINETUNE))
        texts[f"{file}_random_train_val.prototxt"] = train_val(
            name, "Fine-tuning (D10) on random patches (D23).", body(FINETUNE), random=True)
        texts[f"{file}_scratch_train_val.prototxt"] = train_val(name, scratch, body(SCRATCH))
        texts[f"{file}_deploy.prototxt"] = deploy(name, both, body(DEPLOY))
    texts["vgg_gap_narrow_train_val.prototxt"] = train_val("VGG_GAP_narrow", twin, vgg_gap(SCRATCH, NARROW_DIVISOR))
    texts["vgg_gap_narrow_deploy.prototxt"] = deploy("VGG_GAP_narrow", twin, vgg_gap(DEPLOY, NARROW_DIVISOR))
    texts["googlenet_deploy.prototxt"] = deploy(
        "GoogLeNet", f"GoogLeNet as trained on ImageNet, {OBJECTS} classes (D19).", objects(DEPLOY), "loss3/classifier")
    return texts


def stale_files(folder: Path) -> Dict[str, str]:
    """Return the part of `files()` that is missing from `folder` or differs there."""
    return {name: text for name, text in files().items()
            if not (folder / name).is_file() or (folder / name).read_bytes() != text.encode()}


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(text.encode())
    partial.replace(path)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Write or check the files beside this program; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the network files (*.prototxt) beside this program.",
                                     epilog="example: python prototxt/generate.py --check")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that differ")
    folder = Path(__file__).resolve().parent
    check = parser.parse_args(arguments).check
    stale = stale_files(folder)
    if check and stale:
        print(f"error: {folder}: {', '.join(stale)} differ from the generator: run prototxt/generate.py",
              file=sys.stderr)
        return 1
    try:
        for name, text in stale.items():
            write(folder / name, text)
    except OSError as error:
        print(f"error: {error}: make {folder} writable", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

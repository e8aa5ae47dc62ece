"""Write the networks of the paper as Caffe prototxts, next to this file.

One network, written once: VGG-16 without its fully connected layers, one more convolution, a global average pooling and
a 3-way classifier, from which class activation maps can be read (paper, section 2).

`python prototxt/generate.py` writes the files; `--check` writes nothing, exits 1 and names those that differ.
Needs the standard library only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

CLASSES = 3  # melanoma, seborrheic keratosis, nevus
IMAGE_SIZE = 224  # D03
MEAN_BGR = ("103.939", "116.779", "123.68")  # D04
VGG_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # (channels, convolutions) of conv1_x ... conv5_x
CAM_CHANNELS = 1024
CAM_GROUPS = 2  # as in the public VGG-GAP, whose weights here are 1024 x 256 x 3 x 3
UNPADDED = ("conv5_3", "CAM_conv")  # D05
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


def rates(name: str, weights: str) -> List[str]:
    """Return the `param` lines of a layer's weights and bias: D10 says which layers learn, and how fast."""
    if weights == DEPLOY:
        return []
    if weights == FINETUNE and name.startswith(("conv1", "conv2", "conv3", "conv4")):
        return ["param { lr_mult: 0 decay_mult: 0 }", "param { lr_mult: 0 decay_mult: 0 }"]
    rate = 10 if weights == FINETUNE and name == "CAM_fc3" else 1
    return [f"param {{ lr_mult: {rate} decay_mult: 1 }}", f"param {{ lr_mult: {2 * rate} decay_mult: 0 }}"]


def fillers(name: str, weights: str) -> List[str]:
    """Return the filler lines of a layer; a layer that a weights file fills has none."""
    if weights == DEPLOY or (weights == FINETUNE and name.startswith("conv")):
        return []
    filler = 'type: "msra"'  # keeps the spread of the activations the same through all the ReLU layers
    if weights == FINETUNE or name == "CAM_fc3":
        filler = 'type: "gaussian" std: 0.01'  # as the public VGG-GAP
    elif name == "conv1_1":  # msra for 3 x 3 x 3 inputs, and the spread of the pixels taken out
        filler = f'type: "gaussian" std: {(2 / 27) ** 0.5 / PIXEL_SPREAD:.4f}'
    return [f"weight_filler {{ {filler} }}", 'bias_filler { type: "constant" value: 0 }']


def data(stage: str, phase: str) -> List[str]:
    """Return the layer that reads one LMDB of one stage of the paper."""
    split, batch = ("train", TRAIN_BATCH) if phase == "TRAIN" else ("val", TEST_BATCH)
    return layer("data", "Data", [], ["data", "label"], [
        f'include {{ phase: {phase} stage: "{stage}" }}',
        *block("transform_param", [f"mean_value: {mean}" for mean in MEAN_BGR]),
        f'data_param {{ source: "build/lmdb/{stage}_{split}" batch_size: {batch} backend: LMDB }}',
    ])


def convolution(name: str, bottom: str, channels: int, weights: str) -> List[str]:
    """Return a 3 x 3 convolution and its ReLU, in place."""
    pad = "pad: 0  # D05: no padding in the last two convolutions" if name in UNPADDED else "pad: 1"
    group = [f"group: {CAM_GROUPS}"] if name == "CAM_conv" else []
    body = [f"num_output: {channels}", pad, "kernel_size: 3", *group, *fillers(name, weights)]
    relu = "CAM_relu" if name == "CAM_conv" else name.replace("conv", "relu")
    return [
        *layer(name, "Convolution", [bottom], [name], [*rates(name, weights), *block("convolution_param", body)]),
        *layer(relu, "ReLU", [name], [name]),
    ]


def vgg(weights: str, divisor: int) -> List[str]:
    """Return VGG-16 from `data` to `conv5_3`, with the first four poolings: 224 -> 112 -> 56 -> 28 -> 14 -> 12."""
    lines: List[str] = []
    bottom = "data"
    for number, (channels, depth) in enumerate(VGG_BLOCKS, start=1):
        for step in range(1, depth + 1):
            name = f"conv{number}_{step}"
            lines += convolution(name, bottom, channels // divisor, weights)
            bottom = name
        if number < len(VGG_BLOCKS):  # pool5 is gone: a map needs its resolution
            name = f"pool{number}"
            lines += layer(name, "Pooling", [bottom], [name], ["pooling_param { pool: MAX kernel_size: 2 stride: 2 }"])
            bottom = name
    return lines


def cam_head(weights: str, divisor: int) -> List[str]:
    """Return the layers behind `conv5_3` that make class activation maps, up to the class scores `CAM_fc3`."""
    dropout = f"dropout_param {{ dropout_ratio: {DROPOUT} }}"
    classifier = [f"num_output: {CLASSES}", *fillers("CAM_fc3", weights)]
    return [
        "",
        "# The 14th convolution: the blob CAM_conv holds the paper's f_k(x, y), on 10 x 10 cells.",
        *convolution("CAM_conv", "conv5_3", CAM_CHANNELS // divisor, weights),
        "# The fifth pooling of the paper averages over the whole map, whatever its size.",
        *layer("CAM_pool", "Pooling", ["CAM_conv"], ["CAM_pool"], ["pooling_param { pool: AVE global_pooling: true }"]),
        *layer("CAM_dropout", "Dropout", ["CAM_pool"], ["CAM_pool"], [dropout]),
        "# The class scores S_c: the weights of this layer are the paper's w_k^c. CAM_fc of the public net has 1000.",
        *layer("CAM_fc3", "InnerProduct", ["CAM_pool"], ["CAM_fc3"],
               [*rates("CAM_fc3", weights), *block("inner_product_param", classifier)]),
    ]


def header(name: str, comment: str) -> List[str]:
    """Return the comment and the network's name at the top of a file."""
    return ["# Written by prototxt/generate.py: change that program, not this file.", "# " + comment, f'name: "{name}"']


def train_val(name: str, comment: str, weights: str, divisor: int = 1) -> str:
    """Return a net to train: the paper's two stages are the Caffe stages `stage1` and `stage2`."""
    lines = [
        *header(name, comment),
        "",
        "# Stage 1 sees whole pictures, stage 2 the regions cut out by the maps; a solver's train_state chooses.",
        "# The records are ready-made 224 x 224 patches (D02, D03): no crop, no mirror; the mean is BGR (D04).",
        *(line for stage in ("stage1", "stage2") for phase in ("TRAIN", "TEST") for line in data(stage, phase)),
        "",
        *vgg(weights, divisor),
        *cam_head(weights, divisor),
        "",
        *layer("loss", "SoftmaxWithLoss", ["CAM_fc3", "label"], ["loss"]),
        *layer("accuracy", "Accuracy", ["CAM_fc3", "label"], ["accuracy"], ["include { phase: TEST }"]),
    ]
    return "\n".join(lines) + "\n"


def deploy(name: str, comment: str, divisor: int = 1) -> str:
    """Return the net that predicts: N x 3 x 224 x 224 BGR pixels less the mean (D04) in, N x 3 probabilities out."""
    shape = f"input_param {{ shape {{ dim: 1 dim: 3 dim: {IMAGE_SIZE} dim: {IMAGE_SIZE} }} }}"
    lines = [
        *header(name, comment),
        "",
        "# Pixels 0 ... 255 in BGR, less the mean 103.939, 116.779, 123.68 (D04).",
        *layer("data", "Input", [], ["data"], [shape]),
        "",
        *vgg(DEPLOY, divisor),
        *cam_head(DEPLOY, divisor),
        "",
        *layer("prob", "Softmax", ["CAM_fc3"], ["prob"]),
    ]
    return "\n".join(lines) + "\n"


def files() -> Dict[str, str]:
    """Return the text of every prototxt, by file name."""
    finetune = "Fine-tuning (D10): conv1_x ... conv4_x keep their pretrained weights, the layers behind them learn."
    scratch = "From scratch (the other curve of the paper's Fig. 3): every layer learns, from random weights."
    both = "For prediction and for the maps, with weights of either training net."
    twin = f"The narrow twin: every width divided by {NARROW_DIVISOR}, all else the same; it learns from scratch."
    return {
        "vgg_gap_train_val.prototxt": train_val("VGG_GAP", finetune, FINETUNE),
        "vgg_gap_scratch_train_val.prototxt": train_val("VGG_GAP", scratch, SCRATCH),
        "vgg_gap_deploy.prototxt": deploy("VGG_GAP", both),
        "vgg_gap_narrow_train_val.prototxt": train_val("VGG_GAP_narrow", twin, SCRATCH, NARROW_DIVISOR),
        "vgg_gap_narrow_deploy.prototxt": deploy("VGG_GAP_narrow", twin, NARROW_DIVISOR),
    }


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

"""What is compared between the two engines: single layers, training runs, and the files that pass between them.

Runs on both Pythons, so it needs numpy only.
"""

from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np

Draw = Callable[[np.random.RandomState], np.ndarray]


def normal(*shape: int) -> Draw:
    return lambda random: random.randn(*shape)


def positive(*shape: int) -> Draw:
    return lambda random: random.rand(*shape) + 0.5


def shares(*shape: int) -> Draw:
    return lambda random: random.rand(*shape)


def labels(classes: int, *shape: int) -> Draw:
    return lambda random: random.randint(0, classes, shape)


class Case(NamedTuple):
    """A layer: its text, its bottoms, how many tops it has, its phase; parameters are random, positive where asked for."""

    text: str
    inputs: List[Draw]
    tops: int = 1
    phase: str = "TRAIN"
    positive: bool = False


def _conv(fields: str, *shape: int, kind: str = "Convolution") -> Case:
    return Case(f'type: "{kind}" convolution_param {{ {fields} }}', [normal(*shape)])


def _pool(fields: str, *shape: int, tops: int = 1) -> Case:
    return Case(f'type: "Pooling" pooling_param {{ {fields} }}', [normal(*shape)], tops)


def _plain(kind: str, fields: str = "", *, inputs: Tuple[Draw, ...] = (normal(2, 3, 5, 4),), **more: object) -> Case:
    return Case(f'type: "{kind}" {fields}', list(inputs), **more)  # type: ignore[arg-type]


_PAIR = (normal(2, 3, 5, 4), normal(2, 3, 5, 4))
_SCORES = (normal(6, 4), labels(4, 6))
_MAP = (normal(2, 4, 3, 3), labels(4, 2, 1, 3, 3))

LAYERS: Dict[str, Case] = {
    "conv_plain": _conv("num_output: 4 kernel_size: 3", 2, 3, 7, 6),
    "conv_pad_stride": _conv("num_output: 5 kernel_size: 3 pad: 2 stride: 2", 2, 3, 9, 8),
    "conv_uneven": _conv("num_output: 4 kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1", 2, 3, 8, 6),
    "conv_group": _conv("num_output: 6 kernel_size: 3 pad: 1 group: 2", 2, 4, 6, 6),
    "conv_depthwise": _conv("num_output: 4 kernel_size: 3 group: 4 bias_term: false", 2, 4, 6, 6),
    "conv_dilated": _conv("num_output: 4 kernel_size: 3 dilation: 2 pad: 2", 2, 3, 9, 9),
    "conv_1x1": _conv("num_output: 7 kernel_size: 1", 3, 5, 4, 4),
    "conv_3d": _conv("num_output: 3 kernel_size: 2", 2, 2, 4, 5, 3),
    "conv_large": _conv("num_output: 64 kernel_size: 3 pad: 1", 2, 64, 40, 40),
    "conv_large_group": _conv("num_output: 64 kernel_size: 3 group: 2", 2, 64, 52, 52),
    "deconv": _conv("num_output: 4 kernel_size: 4 stride: 2 pad: 1", 2, 3, 5, 5, kind="Deconvolution"),
    "deconv_group": _conv("num_output: 4 kernel_size: 3 group: 2 bias_term: false", 2, 4, 4, 5, kind="Deconvolution"),
    "max_2x2": _pool("pool: MAX kernel_size: 2 stride: 2", 2, 3, 8, 6),
    "max_ceil": _pool("pool: MAX kernel_size: 3 stride: 2", 2, 3, 8, 7),
    "max_floor": _pool("pool: MAX kernel_size: 3 stride: 2 round_mode: FLOOR", 2, 3, 8, 7),
    "max_pad_wide": _pool("pool: MAX kernel_size: 3 stride: 2 pad: 2", 2, 3, 7, 9),
    "max_mask": _pool("pool: MAX kernel_size: 3 stride: 2 pad: 1", 2, 3, 7, 8, tops=2),
    "max_mask_wide": _pool("pool: MAX kernel_size: 3 stride: 2 pad: 2", 2, 3, 7, 8, tops=2),
    "max_global": _pool("pool: MAX global_pooling: true", 2, 3, 5, 4),
    "ave_ceil": _pool("pool: AVE kernel_size: 3 stride: 2", 2, 3, 8, 7),
    "ave_pad": _pool("pool: AVE kernel_size: 3 stride: 2 pad: 1", 2, 3, 8, 9),
    "ave_pad_wide": _pool("pool: AVE kernel_size: 4 stride: 3 pad: 3", 2, 3, 9, 8),
    "ave_pad_clipped": _pool("pool: AVE kernel_size: 5 stride: 3 pad: 3", 2, 3, 7, 10),
    "ave_clipped": _pool("pool: AVE kernel_size: 14 stride: 1", 2, 3, 14, 14),
    "ave_uneven": _pool("pool: AVE kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1", 2, 3, 8, 7),
    "ave_global": _pool("pool: AVE global_pooling: true", 2, 3, 10, 10),
    "lrn_across": _plain("LRN", "lrn_param { local_size: 5 alpha: 0.1 beta: 0.75 k: 2 }", inputs=(normal(2, 8, 4, 4),)),
    "lrn_wide": _plain("LRN", "lrn_param { local_size: 7 alpha: 0.5 }"),
    "lrn_within": _plain("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
    "crop": _plain("Crop", "crop_param { axis: 2 offset: 1 }", inputs=(normal(2, 3, 6, 6), normal(2, 3, 4, 3))),
    "inner": _plain("InnerProduct", "inner_product_param { num_output: 5 }"),
    "inner_transposed": _plain("InnerProduct", "inner_product_param { num_output: 5 transpose: true bias_term: false }"),
    "inner_axis": _plain("InnerProduct", "inner_product_param { num_output: 5 axis: -1 }"),
    "norm_train": _plain("BatchNorm", inputs=(normal(4, 3, 5, 4),), positive=True),
    "norm_test": _plain("BatchNorm", "batch_norm_param { eps: 0.001 }", phase="TEST", positive=True),
    "norm_global": _plain("BatchNorm", "batch_norm_param { use_global_stats: true }", positive=True),
    "mvn": _plain("MVN"),
    "mvn_eps": _plain("MVN", "mvn_param { eps: 0.3 }"),
    "mvn_rows": _plain("MVN", inputs=(normal(3, 4, 5),)),
    "mvn_row_across": _plain("MVN", "mvn_param { across_channels: true }", inputs=(normal(3, 5),)),
    "mvn_across": _plain("MVN", "mvn_param { across_channels: true normalize_variance: false }"),
    "softmax": _plain("Softmax"),
    "softmax_last": _plain("Softmax", "softmax_param { axis: -1 }"),
    "argmax_values": _plain("ArgMax", "argmax_param { out_max_val: true }", phase="TEST", inputs=(normal(4),)),
    "argmax": _plain("ArgMax", "argmax_param { top_k: 3 out_max_val: true }", phase="TEST"),
    "argmax_axis": _plain("ArgMax", "argmax_param { axis: 1 }", phase="TEST"),
    **{f"reduce_{kind}": _plain("Reduction", f"reduction_param {{ operation: {kind} axis: 1 coeff: 0.5 }}")
       for kind in ("SUM", "ASUM", "SUMSQ", "MEAN")},
    "loss": _plain("SoftmaxWithLoss", inputs=_SCORES),
    "loss_map_ignore": _plain("SoftmaxWithLoss", "loss_param { ignore_label: 1 } loss_weight: 0.3", inputs=_MAP),
    **{f"loss_{kind}": _plain("SoftmaxWithLoss", f"loss_param {{ normalization: {kind} }}", inputs=_MAP)
       for kind in ("FULL", "VALID", "BATCH_SIZE", "NONE")},
    "loss_euclidean": _plain("EuclideanLoss", inputs=_PAIR),
    "loss_hinge": _plain("HingeLoss", inputs=_SCORES),
    "loss_hinge_l2": _plain("HingeLoss", "hinge_loss_param { norm: L2 }", inputs=_SCORES),
    "loss_sigmoid": _plain("SigmoidCrossEntropyLoss", inputs=(normal(4, 5), shares(4, 5))),
    "loss_sigmoid_valid": _plain("SigmoidCrossEntropyLoss", "loss_param { normalization: VALID ignore_label: 1 }",
                                 inputs=(normal(4, 5), labels(2, 4, 5))),
    "loss_infogain": _plain("InfogainLoss", 'infogain_loss_param { source: "FOLDER/infogain.binaryproto" }', inputs=_SCORES),
    "loss_infogain_map": _plain("InfogainLoss", 'infogain_loss_param { source: "FOLDER/infogain.binaryproto" } '
                                "loss_param { ignore_label: 2 normalization: BATCH_SIZE } loss_weight: 0.7", inputs=_MAP),
    "loss_contrastive": _plain("ContrastiveLoss", "contrastive_loss_param { margin: 3 }",
                               inputs=(normal(8, 4), normal(8, 4), labels(2, 8))),
    "loss_contrastive_old": _plain("ContrastiveLoss", "contrastive_loss_param { margin: 9 legacy_version: true }",
                                   inputs=(normal(8, 4, 1, 1), normal(8, 4, 1, 1), labels(2, 8, 1, 1, 1))),
    "accuracy": _plain("Accuracy", "accuracy_param { top_k: 2 }", inputs=_SCORES, phase="TEST"),
    "accuracy_classes": _plain("Accuracy", "accuracy_param { ignore_label: 0 }", inputs=_MAP, phase="TEST", tops=2),
    "relu": _plain("ReLU"),
    "relu_leaky": _plain("ReLU", "relu_param { negative_slope: 0.1 }"),
    "relu_below": _plain("ReLU", "relu_param { negative_slope: -0.3 }"),
    "prelu": _plain("PReLU"),
    "prelu_shared": _plain("PReLU", "prelu_param { channel_shared: true }"),
    "dropout_test": _plain("Dropout", phase="TEST"),
    "threshold": _plain("Threshold", "threshold_param { threshold: 0.3 }", phase="TEST"),
    "power": _plain("Power", "power_param { power: 2.5 scale: 0.7 shift: 0.2 }", inputs=(positive(2, 3, 4),)),
    "power_linear": _plain("Power", "power_param { scale: -2 shift: 1 }"),
    "exp": _plain("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"),
    "exp_e": _plain("Exp"),
    "log": _plain("Log", "log_param { base: 10 shift: 0.5 }", inputs=(positive(2, 3, 4),)),
    "clip": _plain("Clip", "clip_param { min: -0.5 max: 0.8 }"),
    "elu": _plain("ELU", "elu_param { alpha: 0.7 }"),
    "elu_below": _plain("ELU", "elu_param { alpha: -0.4 }"),
    "swish": _plain("Swish", "swish_param { beta: 1.5 }"),
    **{kind.lower(): _plain(kind) for kind in ("Sigmoid", "TanH", "AbsVal", "BNLL")},
    "scale": _plain("Scale", "scale_param { bias_term: true }"),
    "scale_wide": _plain("Scale", "scale_param { axis: 0 num_axes: 2 }"),
    "scale_two": _plain("Scale", "scale_param { axis: 1 }", inputs=(normal(2, 3, 5, 4), normal(3, 5))),
    "bias": _plain("Bias", "bias_param { axis: 2 }"),
    "concat": _plain("Concat", inputs=(normal(2, 3, 4, 4), normal(2, 5, 4, 4))),
    "concat_batch": _plain("Concat", "concat_param { axis: 0 }", inputs=(normal(2, 3), normal(4, 3))),
    "slice": _plain("Slice", "slice_param { slice_point: 1 slice_point: 4 }", inputs=(normal(2, 6, 3, 3),), tops=3),
    "split": _plain("Split", tops=2),
    "sum": _plain("Eltwise", "eltwise_param { coeff: 1 coeff: -0.5 }", inputs=_PAIR),
    "product": _plain("Eltwise", "eltwise_param { operation: PROD }", inputs=_PAIR),
    "maximum": _plain("Eltwise", "eltwise_param { operation: MAX }", inputs=(*_PAIR, normal(2, 3, 5, 4))),
    "flatten": _plain("Flatten"),
    "reshape": _plain("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }"),
    "reshape_part": _plain("Reshape", "reshape_param { shape { dim: 2 dim: 10 } axis: 2 }"),
    "tile": _plain("Tile", "tile_param { axis: 2 tiles: 3 }"),
}


def layer_net(case: Case, shapes: List[Tuple[int, ...]]) -> str:
    """Return the prototxt of a layer with an Input for each bottom."""
    bottoms = [f"x{i}" for i in range(len(shapes))]
    text = 'name: "case" ' + ("" if case.phase == "TEST" else "force_backward: true ")
    for name, shape in zip(bottoms, shapes):
        dims = " ".join(f"dim: {n}" for n in shape)
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    ends = "".join(f'bottom: "{name}" ' for name in bottoms) + "".join(f'top: "y{i}" ' for i in range(case.tops))
    return text + f'layer {{ name: "layer" {ends}{case.text} }}\n'


# ------------------------------------------------------------ pictures
_RAW = 'type: "Data" data_param {{ source: "{folder}/lmdb" batch_size: 7 backend: LMDB }}'
_JPEG = _RAW.replace("/lmdb", "/lmdb_jpg")
_FILES = ('type: "ImageData" image_data_param {{ source: "{folder}/files.txt" root_folder: "{folder}/" batch_size: 4 '
          "shuffle: true rand_skip: 3 %s }}")
DATA = {  # name: (layer, phase); three batches of each, from the same seed
    "raw": (_RAW, "TEST"),
    "crop_test": (_RAW + " transform_param {{ crop_size: 15 scale: 0.25 mean_value: 50 }}", "TEST"),
    "crop_train": (_RAW + " transform_param {{ crop_size: 13 mirror: true mean_value: 3 mean_value: 4 mean_value: 9 }}", "TRAIN"),
    "mirror_test": (_RAW + " transform_param {{ mirror: true }}", "TEST"),
    "mean_file": (_RAW + ' transform_param {{ crop_size: 12 mean_file: "{folder}/mean.binaryproto" scale: 2 }}', "TRAIN"),
    "jpeg": (_JPEG + " transform_param {{ crop_size: 16 mirror: true }}", "TRAIN"),
    "jpeg_grey": (_JPEG + " transform_param {{ force_gray: true }}", "TEST"),
    "files": (_FILES % "new_height: 14 new_width: 18" + " transform_param {{ crop_size: 12 mirror: true }}", "TRAIN"),
    "hdf5": ('type: "HDF5Data" hdf5_data_param {{ source: "{folder}/hdf5.txt" batch_size: 4 }}', "TRAIN"),
    "files_grey": (_FILES % "is_color: false", "TEST"),
}


# ------------------------------------------------------------ training
NET = """
name: "small"
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  transform_param {{ mean_value: 120 mean_value: 110 mean_value: 100 scale: 0.02 {transform} }}
  data_param {{ source: "{source}" batch_size: 8 backend: LMDB }} }}
layer {{ name: "data" type: "Input" top: "data" include {{ phase: TEST }}
  input_param {{ shape {{ dim: 4 dim: 3 dim: 16 dim: 16 }} }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  convolution_param {{ num_output: 8 kernel_size: 3 pad: 1 }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }}
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param {{ num_output: 12 kernel_size: 3 group: 2 }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }}
layer {{ name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param {{ pool: AVE global_pooling: true }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "pool2" top: "fc" inner_product_param {{ num_output: 3 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" include {{ phase: TRAIN }} }}
layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" include {{ phase: TEST }} }}
"""
RECORDS = 20  # pictures of 20 x 20; ten batches of eight are whole epochs, which a resumed run needs to be like a straight one

_STEP = 'lr_policy: "step" gamma: 0.1 '
SOLVERS = {  # name: (fields, iterations)
    "SGD": ('type: "SGD" base_lr: 0.05 momentum: 0.9 weight_decay: 0.002 stepsize: 8 ' + _STEP, 15),
    "SGD_sums": ('type: "SGD" base_lr: 0.05 momentum: 0.9 weight_decay: 0.002 regularization_type: "L1" iter_size: 2 '
                 'clip_gradients: 0.5 lr_policy: "poly" power: 2 max_iter: 20', 15),
    "Nesterov": ('type: "Nesterov" base_lr: 0.02 momentum: 0.9 weight_decay: 0.002 lr_policy: "inv" gamma: 0.1 power: 0.7', 15),
    "AdaGrad": ('type: "AdaGrad" base_lr: 0.02 weight_decay: 0.002 lr_policy: "fixed"', 15),
    "RMSProp": ('type: "RMSProp" base_lr: 0.002 rms_decay: 0.95 lr_policy: "exp" gamma: 0.95', 15),
    "AdaDelta": ('type: "AdaDelta" base_lr: 1 momentum: 0.95 delta: 1e-6 lr_policy: "fixed"', 15),
    "Adam": ('type: "Adam" base_lr: 0.005 momentum: 0.9 momentum2: 0.99 lr_policy: "multistep" stepvalue: 4 stepvalue: 9 '
             'gamma: 0.5', 15),
}
RESUMED = {  # run to iteration 20 at once, and from the state at 10
    "SGD": 'type: "SGD" base_lr: 0.01 momentum: 0.9 weight_decay: 0.002 stepsize: 12 ' + _STEP,
    "Adam": 'type: "Adam" base_lr: 0.003 momentum: 0.9 momentum2: 0.99 lr_policy: "fixed"',
}

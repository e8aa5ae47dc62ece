"""What to write in the place of layer types and fields that BVLC Caffe, or this engine, does not have."""
import difflib
import re

from .proto import caffe_pb2 as pb

_PYTHON = "write it as a Python layer (docs/own-models.md)"
_UPSAMPLING = ("write Deconvolution with weight_filler { type: \"bilinear\" }, "
               "kernel_size 2 f - f % 2, stride f and pad ceil((f - 1) / 2)")
_SSD = "it belongs to the SSD fork; detect with its own Caffe, or " + _PYTHON
_NORM = "write BatchNorm, and Scale with scale_param { bias_term: true } after it"
_DEPTHWISE = "write Convolution with group: <number of channels>"
_LOOP = "unroll the steps with Slice, InnerProduct and shared params, or " + _PYTHON
_TYPES = {
    **dict.fromkeys(("BN", "SyncBN", "SpatialBN", "CuDNNBatchNorm", "BatchNormScale", "SyncBatchNorm"), _NORM),
    **dict.fromkeys(("DepthwiseConvolution", "ConvolutionDepthwise", "DepthwiseConv", "ConvolutionDW"), _DEPTHWISE),
    **dict.fromkeys(("Interp", "Upsample", "BilinearInterpolation", "Resize", "NNUpsample"), _UPSAMPLING),
    **dict.fromkeys(("AnnotatedData", "DetectionOutput", "DetectionEvaluate", "MultiBoxLoss", "PriorBox"), _SSD),
    **dict.fromkeys(("BatchReindex", "Filter", "Im2col", "LSTMUnit"), _PYTHON),
    **dict.fromkeys(("LSTM", "RNN", "Recurrent", "GRU"), _LOOP),
    "Axpy": "write Scale with two bottoms and axis: 0, then Eltwise", "CuDNNReLU": "write ReLU",
    "HDF5Output": "read the blobs in Python (net.blobs) and write them with h5py", "ReLU6": "write ReLU, then Clip with max: 6",
    "MultinomialLogisticLoss": "write SoftmaxWithLoss on the scores, without the Softmax before it",
    "Parameter": "write DummyData with value 0, and Bias with axis: 0 and num_axes: -1 on it",
    "SPP": "write Pooling once a level, Flatten each, and Concat", "Embed": "write InnerProduct on one-hot vectors",
    "WindowData": "cut the windows out beforehand (data_tools, convert_imageset) and read them with Data or ImageData"}
_FIELDS = {
    "ceil_mode": "write round_mode: FLOOR for ceil_mode: false; true is the default",
    "floor_mode": "write round_mode: FLOOR", "hole": "write dilation", "hole_h": "write dilation twice: height, width",
    "dilation_h": "write dilation twice: height, width", "rectified": "write a ReLU after it",
    "use_global_stats_in_train": "write use_global_stats: true", "bn_param": _NORM, "slope_filler": _NORM, "scale_bias": _NORM,
    **dict.fromkeys(("interp_param", "upsample_param", "resize_param"), _UPSAMPLING),
    **dict.fromkeys(("annotated_data_param", "detection_output_param", "multibox_loss_param", "prior_box_param", "norm_param",
                     "permute_param", "emit_constraint", "distort_param", "expand_param"), _SSD),
    **dict.fromkeys(("eval_type", "ap_version", "show_per_class_result"), "leave it out; it belongs to the SSD fork"),
    **dict.fromkeys(("roi_pooling_param", "psroi_pooling_param", "smooth_l1_loss_param", "center_loss_param",
                     "triplet_loss_param", "focal_loss_param", "reorg_param", "shuffle_channel_param", "flip_param"), _PYTHON),
    **dict.fromkeys(("lstm_param", "recurrent_param"), _LOOP),
    **dict.fromkeys(("plateau_winsize", "warmup_iter", "warmup_start_lr", "stepearly"), 'write lr_policy: "multistep"'),
    **dict.fromkeys(("max_rotation_angle", "contrast_adjustment", "min_side", "rand_resize"),
                    "change the pictures beforehand (data_tools lmdb), or in a Python layer"),
    "engine": "leave it out; there is one engine here"}


def of_type(name: str) -> str:
    """Return the hint for a layer type."""
    return "; " + _TYPES.get(name, f"does a fork of Caffe have it? {_PYTHON}")


def of_fault(fault: str) -> str:
    """Return the hint for what the parser of prototxts says, if it is about a field."""
    found = re.search(r'type "caffe\.(\w+)" has no field named "(\w+)"', fault)
    if not found:
        return ""
    message, field = found.groups()
    known = pb.DESCRIPTOR.message_types_by_name[message].fields_by_name
    close = "".join(f"did you mean {name}?" for name in difflib.get_close_matches(field, known, 1))
    return "; " + (_FIELDS.get(field) or close or f"does a fork of Caffe have it? leave it out, or {_PYTHON}")

"""pycaffe's `io`: arrays to and from Caffe's messages, and pictures made ready for a net. Needs no torch.

Pictures here are H x W x K, float, RGB and in [0, 1], as pycaffe's documentation has them; `Transformer` makes K x H x W of them.
"""
import importlib
import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from .errors import CaffeError
from .limits import MAX_PICTURE
from .netparam import blob_array, read_file
from .pictures import PictureError, decode
from .proto import caffe_pb2
from .proto import caffe_pb2 as pb

__all__ = ["Transformer", "array_to_blobproto", "array_to_datum", "arraylist_to_blobprotovector_str", "blobproto_to_array",
           "blobprotovector_str_to_arraylist", "caffe_pb2", "datum_to_array", "load_image", "oversample", "resize_image"]
Array = Any  # numpy arrays
_IMPORTED = {"resize": "skimage.transform", "zoom": "scipy.ndimage"}
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])  # of R, G, B, as scikit-image's rgb2gray has them


class ArrayError(CaffeError, ValueError):
    """An array whose shape does not fit; a ValueError too, as pycaffe's users expect."""


def __getattr__(name: str) -> Any:
    """Return what scripts take from pycaffe's `io` because it imports it itself."""
    if name == "skimage":
        import skimage.io
        return skimage
    if name in _IMPORTED:
        return getattr(importlib.import_module(_IMPORTED[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---------------------------------------------------------------- messages
def blobproto_to_array(blob: Any, return_diff: bool = False) -> Array:
    """Return the values of a BlobProto (or its gradients) as a float64 array in its shape.

    Raises
    ------
    ArrayError
        Where the number of values does not fit the shape; a blob without any shape is a scalar.
    """
    try:
        return blob_array(blob, return_diff).astype(np.float64)
    except CaffeError as error:
        raise ArrayError(str(error)) from None


def array_to_blobproto(arr: Array, diff: Optional[Array] = None) -> Any:
    """Return the BlobProto of an array of any shape, optionally with gradients of the same shape."""
    if diff is not None and diff.shape != arr.shape:
        raise ArrayError(f"diff has shape {diff.shape}, the array {arr.shape}")
    blob = pb.BlobProto(shape=pb.BlobShape(dim=arr.shape), data=arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[Array]) -> bytes:
    """Return several arrays as one serialized BlobProtoVector."""
    return bytes(pb.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString())


def blobprotovector_str_to_arraylist(text: bytes) -> List[Array]:
    """Return the arrays of a serialized BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in pb.BlobProtoVector.FromString(text).blobs]


def array_to_datum(arr: Array, label: Optional[int] = None) -> Any:
    """Return the Datum of an array C x H x W: uint8 goes into `data`, anything else into `float_data`."""
    if arr.ndim != 3:
        raise ArrayError(f"a Datum is C x H x W, the array has shape {arr.shape}")
    datum = pb.Datum(**dict(zip(("channels", "height", "width"), arr.shape)))
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Any) -> Array:
    """Return the picture of a Datum, C x H x W, uint8 or float64; its label is ``datum.label``."""
    if datum.encoded:
        raise ArrayError("the Datum is encoded; decode its data with cv2.imdecode")
    shape = (datum.channels, datum.height, datum.width)
    flat = np.frombuffer(datum.data, np.uint8).copy() if datum.data else np.array(datum.float_data, np.float64)
    if flat.size != math.prod(shape):
        raise ArrayError(f"a Datum of shape {shape} holds {flat.size} values")
    return flat.reshape(shape)


# ---------------------------------------------------------------- pictures
def load_image(filename: Any, color: bool = True) -> Array:
    """Return a picture, a file or what a file object holds, as float32 in [0, 1].

    H x W x 3 RGB, or H x W x 1 grey without `color`; alpha is dropped, but for grey, where it lies on white as in scikit-image.
    """
    data = filename.read() if hasattr(filename, "read") else read_file(filename, MAX_PICTURE)
    try:
        picture = decode(data, cv2.IMREAD_UNCHANGED)
    except PictureError as error:
        raise CaffeError(f"{filename}: {error}") from None
    whole = {1: 255, 2: 65535}.get(picture.itemsize, 1)  # white of 8 and 16 bits; floats are in [0, 1] already
    picture = np.atleast_3d(picture) / whole  # BGR (and alpha), or one channel
    if picture.shape[2] == 4 and not color:
        picture = 1 + (picture - 1) * picture[:, :, 3:]
    picture = picture[:, :, 2::-1]
    if color:
        return np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.float32)
    return (picture @ _LUMINANCE[:, None] if picture.shape[2] == 3 else picture).astype(np.float32)


def resize_image(im: Array, new_dims: Sequence[int], interp_order: int = 1) -> Array:
    """Return a picture resized by interpolation, as float32.

    Pictures of 1 or 3 channels are smoothed before they shrink, as scikit-image does from 0.15 on; others are not, and their
    corner pixels stay at the corners.

    Parameters
    ----------
    im : ndarray
        H x W x K.
    new_dims : (int, int)
        New height and width.
    interp_order : int
        Order of the interpolation; 1 is linear.
    """
    height, width = new_dims
    low, high = float(im.min()), float(im.max())
    if im.shape[-1] not in (1, 3):
        from scipy.ndimage import zoom  # type: ignore[import-untyped]
        return zoom(im, (height / im.shape[0], width / im.shape[1], 1), order=interp_order).astype(np.float32)
    if low == high:
        return np.full((height, width, im.shape[-1]), low, np.float32)
    from skimage.transform import resize
    scale: Any = resize
    resized = scale((im - low) / (high - low), (height, width), order=interp_order, mode="constant", anti_aliasing=True)
    return (resized * (high - low) + low).astype(np.float32)


def oversample(images: Sequence[Array], crop_dims: Sequence[int]) -> Array:
    """Return ten crops of each picture: four corners and the centre, then the same mirrored.

    Parameters
    ----------
    images : sequence of ndarray
        Pictures H x W x K of one size.
    crop_dims : (int, int)
        Height and width of the crops.

    Returns
    -------
    ndarray
        10 N x height x width x K, float32.
    """
    height, width = crop_dims
    rows, columns = images[0].shape[0] - height, images[0].shape[1] - width
    if rows < 0 or columns < 0:
        raise ArrayError(f"crops of {height} x {width} exceed pictures of shape {images[0].shape}")
    starts = [(0, 0), (0, columns), (rows, 0), (rows, columns), (rows // 2, columns // 2)]
    crops = []
    for image in images:
        five = [image[y:y + height, x:x + width] for y, x in starts]
        crops += five + [crop[:, ::-1] for crop in five]
    return np.array(crops, np.float32)


class Transformer:
    """Makes pictures ready for a net's inputs, and brings blobs back.

    `preprocess` resizes to the input's height and width, transposes, swaps channels, multiplies by `raw_scale`, subtracts the
    mean and multiplies by `input_scale`, in this order; what is not set is left out.

    Parameters
    ----------
    inputs : dict
        Shapes N x K x H x W by input name: ``{"data": net.blobs["data"].data.shape}``.
    """

    def __init__(self, inputs: Dict[str, Sequence[int]]) -> None:
        self.inputs: Dict[str, Tuple[int, ...]] = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: Dict[str, Sequence[int]] = {}
        self.channel_swap: Dict[str, Sequence[int]] = {}
        self.raw_scale: Dict[str, float] = {}
        self.mean: Dict[str, Array] = {}
        self.input_scale: Dict[str, float] = {}

    def _shape(self, in_: str) -> Tuple[int, ...]:
        if in_ not in self.inputs:
            raise CaffeError(f"{in_!r} is not one of the net's inputs: {', '.join(self.inputs)}")
        return self.inputs[in_]

    def preprocess(self, in_: str, data: Array) -> Array:
        """Return a picture H x W x K as the array K x H x W, float32, that the input takes; `data` stays as it is."""
        size = self._shape(in_)[2:]
        result = np.array(data, np.float32)
        if result.shape[:2] != size:
            result = resize_image(result, size)
        if in_ in self.transpose:
            result = result.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            result = result[list(self.channel_swap[in_])]
        result *= self.raw_scale.get(in_, 1)
        result -= self.mean.get(in_, 0)
        result *= self.input_scale.get(in_, 1)
        return result

    def deprocess(self, in_: str, data: Array) -> Array:
        """Return the picture that `preprocess` made an array of, in the input's size; axes of length 1 are dropped."""
        self._shape(in_)
        result = np.array(data).squeeze()
        result = result / self.input_scale.get(in_, 1) + self.mean.get(in_, 0)
        result = (result / self.raw_scale.get(in_, 1)).astype(data.dtype)
        if in_ in self.channel_swap:
            result = result[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            result = result.transpose(np.argsort(self.transpose[in_]))
        return result

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the axes; (2, 0, 1) makes K x H x W of H x W x K."""
        axes = len(self._shape(in_)) - 1
        if len(order) != axes:
            raise CaffeError(f"transpose order {tuple(order)} must name {axes} axes")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the channels, the first axis after transposing; (2, 1, 0) makes BGR of RGB."""
        channels = self._shape(in_)[1]
        if len(order) != channels:
            raise CaffeError(f"channel order {tuple(order)} must name {channels} channels")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor before the mean is subtracted, 255 for nets that were trained on [0, 255]."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor after the mean is subtracted."""
        self._shape(in_)
        self.input_scale[in_] = scale

    def set_mean(self, in_: str, mean: Array) -> None:
        """Set the mean: one value a channel, or an array (K x) H x W, which is resized to the input.

        Raises
        ------
        ArrayError
            Where it has another number of channels than the input, or of axes.
        """
        channels, *size = self._shape(in_)[1:]
        if mean.ndim == 1:
            mean = mean[:, None, None]
        elif mean.ndim == 2:
            mean = mean[None]
        if mean.ndim != 3 or mean.shape[0] not in (1, channels):
            raise ArrayError(f"mean of shape {mean.shape} does not fit an input of {channels} channels")
        if mean.shape[1:] not in ((1, 1), tuple(size)):
            mean = resize_image(mean.transpose(1, 2, 0), size).transpose(2, 0, 1)
        self.mean[in_] = mean

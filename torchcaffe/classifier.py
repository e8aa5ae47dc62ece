"""pycaffe's Classifier: pictures in, scores of classes out."""
from typing import Any, Dict, Optional, Sequence

import numpy as np

from . import io
from .net import Net
from .proto.caffe_pb2 import TEST


def prepare(net: Net, mean: Any, input_scale: Optional[float], raw_scale: Optional[float],
            channel_swap: Optional[Sequence[int]]) -> io.Transformer:
    """Return what makes pictures ready for a net's only input."""
    name, = net.inputs
    transformer = io.Transformer({name: net.blobs[name].data.shape})
    transformer.set_transpose(name, (2, 0, 1))
    for kind, value in (("mean", mean), ("input_scale", input_scale), ("raw_scale", raw_scale), ("channel_swap", channel_swap)):
        if value is not None:
            getattr(transformer, f"set_{kind}")(name, value)
    return transformer


class Classifier(Net):
    """A net that classifies pictures.

    Parameters
    ----------
    model_file, pretrained_file : str
        Deploy prototxt and weights.
    image_dims : (int, int)
        Height and width to which pictures are brought before crops are taken; the net's own by default.
    mean, input_scale, raw_scale, channel_swap
        As of `io.Transformer`.
    """

    def __init__(self, model_file: str, pretrained_file: str, image_dims: Optional[Sequence[int]] = None, mean: Any = None,
                 input_scale: Optional[float] = None, raw_scale: Optional[float] = None,
                 channel_swap: Optional[Sequence[int]] = None) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = prepare(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims: Any = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        self.image_dims: Any = image_dims or self.crop_dims

    def predict(self, inputs: Sequence[Any], oversample: bool = True) -> Any:
        """Return the scores, N x classes, of pictures H x W x K.

        With `oversample` they are means over four corners, the centre, and these mirrored, else those of the centre.
        """
        if not len(inputs):
            raise io.ArrayError("no pictures to classify; give at least one")
        resized: Any = np.stack([io.resize_image(picture, self.image_dims) for picture in inputs])
        if oversample:
            crops = io.oversample(resized, self.crop_dims)
        else:
            top, left = (np.array(self.image_dims) - self.crop_dims) // 2
            if min(top, left) < 0:
                raise io.ArrayError(f"image_dims {list(self.image_dims)} are smaller than the input {self.crop_dims.tolist()}")
            crops = resized[:, top:top + self.crop_dims[0], left:left + self.crop_dims[1]]
        name = self.inputs[0]
        given: Dict[str, Any] = {name: np.stack([self.transformer.preprocess(name, crop) for crop in crops])}
        found = self.forward_all(**given)[self.outputs[0]]
        return found.reshape(len(inputs), -1, *found.shape[1:]).mean(1) if oversample else found

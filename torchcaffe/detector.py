"""pycaffe's Detector: scores of windows of pictures, as in R-CNN."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from . import io
from .classifier import prepare
from .errors import CaffeError
from .net import Net
from .proto.caffe_pb2 import TEST


class Detector(Net):
    """A net that scores windows of pictures.

    Parameters
    ----------
    model_file, pretrained_file : str
        Deploy prototxt and weights.
    mean, input_scale, raw_scale, channel_swap
        As of `io.Transformer`.
    context_pad : int
        Pixels of the net's input, at each side, that show what lies around a window.
    """

    def __init__(self, model_file: str, pretrained_file: str, mean: Any = None, input_scale: Optional[float] = None,
                 raw_scale: Optional[float] = None, channel_swap: Optional[Sequence[int]] = None,
                 context_pad: int = 0) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = prepare(self, mean, input_scale, raw_scale, channel_swap)
        self.context_pad = context_pad or 0
        name = self.inputs[0]
        size = self.blobs[name].data.shape[1:]
        around = self.transformer.mean.get(name, np.zeros(1)) / self.transformer.raw_scale.get(name, 1)
        around = np.broadcast_to(around, size).transpose(1, 2, 0)  # the mean, as a picture, is what lies outside of pictures
        swap = self.transformer.channel_swap.get(name)
        self.outside = around if swap is None else around[:, :, np.argsort(swap)]

    def detect_windows(self, images_windows: Sequence[Tuple[Any, Any]]) -> List[Dict[str, Any]]:
        """Return window, scores (`prediction`) and `filename` of each window.

        Parameters
        ----------
        images_windows : list of (str, windows)
            Picture files, each with its windows (ymin, xmin, ymax, xmax).
        """
        name, inputs, found = self.inputs[0], [], []
        for path, windows in images_windows:
            picture = io.load_image(path).astype(np.float32)
            for window in windows:
                inputs.append(self.transformer.preprocess(name, self.crop(picture, window)))
                found.append({"window": window, "filename": path})
        given: Dict[str, Any] = {name: np.stack(inputs)}
        scores = self.forward_all(**given)[self.outputs[0]]
        flat = scores.reshape(len(inputs), -1)
        return [{**item, "prediction": row} for item, row in zip(found, flat)]

    def detect_selective_search(self, image_fnames: Sequence[str]) -> List[Dict[str, Any]]:
        """Raise CaffeError: the program that proposes windows, in Matlab, is not part of Caffe."""
        raise CaffeError("detect_selective_search needs windows from elsewhere (cv2.ximgproc.segmentation); "
                         "give them to detect_windows")

    def crop(self, im: Any, window: Sequence[float]) -> Any:
        """Return a window of a picture, with its surroundings where `context_pad` asks for them, in the net's input size."""
        ymin, xmin, ymax, xmax = (round(float(v)) for v in window)
        if not self.context_pad:
            return im[ymin:ymax, xmin:xmax]
        height, width = self.blobs[self.inputs[0]].data.shape[2:]
        scale = [side / (side - 2 * self.context_pad) for side in (height, width)]
        centre = (ymin + ymax) / 2, (xmin + xmax) / 2
        half = (ymax - ymin) / 2 * scale[0], (xmax - xmin) / 2 * scale[1]
        low = [round(c - h) for c, h in zip(centre, half)]
        high = [round(c + h) for c, h in zip(centre, half)]
        inside = [slice(max(lo, 0), min(hi, n)) for lo, hi, n in zip(low, high, im.shape)]
        found = self.outside.astype(np.float32).copy()
        target = []
        for lo, hi, part, side in zip(low, high, inside, (height, width)):
            ratio = side / max(hi - lo, 1)
            start = round((part.start - lo) * ratio)
            target.append(slice(start, min(side, start + max(1, round((part.stop - part.start) * ratio)))))
        shape = [part.stop - part.start for part in target]
        found[target[0], target[1]] = io.resize_image(im[inside[0], inside[1]], shape)
        return found

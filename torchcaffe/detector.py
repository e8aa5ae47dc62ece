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
        if not 0 <= 2 * self.context_pad < min(size[1:]):
            raise CaffeError(f"context_pad {context_pad} leaves nothing of an input of {size[1]} x {size[2]} pixels")
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
        if not inputs:
            return []
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
        ymin, xmin, ymax, xmax = (float(v) for v in window)
        if not self.context_pad:
            return im[round(ymin):round(ymax), round(xmin):round(xmax)]
        found = self.outside.astype(np.float32).copy()
        rows, to_rows = _with_surroundings(ymin, ymax, im.shape[0], found.shape[0], self.context_pad)
        columns, to_columns = _with_surroundings(xmin, xmax, im.shape[1], found.shape[1], self.context_pad)
        part, place = im[rows, columns], found[to_rows, to_columns]
        if not part.size or not place.size:
            raise CaffeError(f"window {tuple(window)} lies outside of its picture, {im.shape[0]} x {im.shape[1]}")
        place[...] = io.resize_image(part, place.shape[:2])
        return found


def _with_surroundings(low: float, high: float, length: int, side: int, pad: int) -> Tuple[slice, slice]:
    """Return which part of an axis of a picture a window and `pad` pixels around it show, and its place in the net's input.

    Both ends of a window count, as in Caffe (detector.py), which takes the input's width for both axes.
    """
    half = (high - low + 1) / 2
    wide = half * side / (side - 2 * pad)
    start, stop = round(low + half - wide), round(low + half + wide)
    scale = side / (stop - start + 1)
    before = round(max(0, -start) * scale)
    first, last = (min(max(end, 0), length) for end in (start, stop))
    return slice(first, last), slice(before, min(side, before + round((last - first + 1) * scale)))

"""Find in the graph of a network what its maps are made of: last convolution, global average, classifier."""
import difflib
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from data_tools.errors import unknown
from torchcaffe.netparam import read_net

from .errors import CamError

NEAR = 6  # layers that a message names
METHODS = ("auto", "cam", "gradcam")
INPUT_BLOB, CAM_BLOB, CAM_LAYER, PROB_BLOB = "data", "CAM_conv", "CAM_fc3", "prob"  # names in prototxt/
_SAME = ("Dropout", "Flatten", "Reshape", "Softmax", "ArgMax")  # what may stand around the classifier: it changes no weight
_EACH = ("ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "BNLL", "Power", "Clip", "BatchNorm", "Scale", "Bias", "LRN", "Dropout")
_SPATIAL = ("Convolution", "Deconvolution", "Concat", "Eltwise")  # whose tops have places


class Parts(NamedTuple):
    """Names in a network; the defaults are those of ``prototxt/``.

    Attributes
    ----------
    data : str
        The input blob.
    features : str
        The blob whose channels are weighted and summed.
    classifier : str
        The layer that holds a weight for each class and channel. Empty where every channel is the map of a class already
        (convolution, global average, softmax), and for Grad-CAM.
    scores : str
        The blob of the classes' scores, before the softmax.
    probs : str
        The blob of their probabilities.
    method : str
        ``cam`` or ``gradcam``.
    """

    data: str = INPUT_BLOB
    features: str = CAM_BLOB
    classifier: str = CAM_LAYER
    scores: str = CAM_LAYER
    probs: str = PROB_BLOB
    method: str = "cam"


OURS = Parts()


def find_parts(path: Path, method: str = "auto", cam_layer: Optional[str] = None, fc_layer: Optional[str] = None) -> Parts:
    """Find the parts of a network that ends in convolution, global average and classifier, or in anything for Grad-CAM.

    Parameters
    ----------
    path : Path
        Deploy prototxt, in the current syntax or in V1.
    method : str
        ``cam``, ``gradcam``, or ``auto``: CAM where the classifier works on averages of the features, else Grad-CAM.
    cam_layer : str, optional
        The layer whose output is mapped. Left out, it is what is averaged, or the last convolution with its activation.
    fc_layer : str, optional
        The classifier. Left out, it is the last layer with weights.

    Raises
    ------
    CamError
        When a layer is not there, or CAM is asked of a network that does not average the features.
    """
    layers = list(read_net(str(path)).layer)
    names = [layer.name for layer in layers]
    for name in filter(None, (cam_layer, fc_layer)):
        if name not in names:
            raise CamError(f"{path}: layer {unknown(name, difflib.get_close_matches(name, names, NEAR, 0))}")
    chain = _chain(layers)
    softmax = next((layer for layer in chain if layer.type == "Softmax"), None)
    probs, scores = (softmax.top[0], softmax.bottom[0]) if softmax else (layers[-1].top[0], layers[-1].top[0])
    if fc_layer:
        chain = _chain(layers[:names.index(fc_layer) + 1])
        scores = chain[0].top[0]
    classifier, averaged = _head(chain, fc_layer)
    features = next(layer.top[0] for layer in layers if layer.name == cam_layer) if cam_layer else averaged or _last(path, chain)
    named = bool(cam_layer and fc_layer)
    if method == "cam" and features != averaged and not named:
        raise CamError(f"{path}: the classifier does not work on the global average of {features}, so a class has no weight for "
                       "each channel of it; use the method gradcam, or name --cam-layer and --fc-layer")
    if method == "auto":
        method = "cam" if features == averaged or named else "gradcam"
    return Parts(layers[0].top[0], features, classifier if method == "cam" else "", scores, probs, method)


def _chain(layers: Sequence[Any]) -> List[Any]:
    """List the layers on the way down from the top of the last one, each time through the first bottom."""
    wanted, found = layers[-1].top[0], []
    for layer in reversed(layers):
        if wanted in layer.top:
            found.append(layer)
            wanted = layer.bottom[0] if layer.bottom else ""
    return found


def _head(chain: Sequence[Any], fc_layer: Optional[str]) -> Tuple[str, Optional[str]]:
    """Return the classifier's name, empty without one, and the blob that is averaged below it, None where none is."""
    classifier = ""
    for layer in chain:
        if layer.type == "Pooling" and layer.pooling_param.pool == layer.pooling_param.AVE:
            return classifier, layer.bottom[0]
        if layer.type in ("InnerProduct", "Convolution") and not classifier:
            classifier = layer.name
        elif layer.type not in _SAME:
            break
    return fc_layer or classifier, None


def _last(path: Path, chain: Sequence[Any]) -> str:
    """Return the blob of the last convolution (or sum, or concatenation) after the layers that work on each value alone."""
    above: Optional[str] = None
    for layer in chain:
        if layer.type in _SPATIAL:
            return str(above or layer.top[0])
        above = (above or layer.top[0]) if layer.type in _EACH else None
    raise CamError(f"{path}: no convolution below {chain[0].name}; name the layer to be mapped with --cam-layer")

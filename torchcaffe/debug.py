"""The log lines of `debug_info` (net.cpp)."""
from typing import Any

from torch import Tensor

from .glog import log, number


def forward(net: Any, i: int) -> None:
    """Print the mean magnitudes of a layer's tops and parameters."""
    layer = net._engine[i]
    for b in net._ids["top"][i]:
        log("net.cpp:581", f"    [Forward] Layer {layer.name}, top blob {net._blob_names[b]} data: "
                           f"{_mean_abs(net._blobs[b].tensor)}")
    for j, blob in enumerate(layer.blobs):
        log("net.cpp:593", f"    [Forward] Layer {layer.name}, param blob {_label(layer, j)} data: "
                           f"{_mean_abs(blob.tensor)}")


def backward(net: Any, i: int) -> None:
    """Print the mean magnitudes of the gradients that a layer made."""
    layer = net._engine[i]
    for b, wanted in zip(net._ids["bottom"][i], layer.propagate_down):
        if wanted:
            log("net.cpp:609", f"    [Backward] Layer {layer.name}, bottom blob {net._blob_names[b]} diff: "
                               f"{_mean_abs(net._blobs[b].grad)}")
    for j, blob in enumerate(layer.blobs):
        if layer.param_wanted[j]:
            log("net.cpp:620", f"    [Backward] Layer {layer.name}, param blob {_label(layer, j)} diff: "
                               f"{_mean_abs(blob.grad)}")


def params(net: Any) -> None:
    """Print the norms of all parameters and gradients, after a whole backward pass."""
    norms = [[sum(float(getattr(param.blob, kind).norm(p)) ** p for param in net.learnable) ** (1 / p)
              for kind in ("tensor", "grad")] for p in (1, 2)]
    log("net.cpp:524", "    [Backward] All net params (data, diff): " + "; ".join(
        f"L{p} norm = ({number(data)}, {number(diff)})" for p, (data, diff) in enumerate(norms, 1)))


def _label(layer: Any, i: int) -> str:
    return (layer.param.param[i].name if i < len(layer.param.param) else "") or str(i)


def _mean_abs(tensor: Tensor) -> str:
    return number(float(tensor.abs().mean()) if tensor.numel() else 0.0)

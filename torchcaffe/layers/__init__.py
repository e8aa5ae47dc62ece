"""Layer types, one class each with Caffe's rule for it; `LAYERS` maps Caffe's type names to them.

``from torchcaffe import layers as L`` finds this package once a net was made; ``L.Convolution`` is then still net_spec's.
"""
from typing import Any

from . import arrays, dense, inputs, loss, neuron, python, shaping, spatial
from .base import LAYERS, Layer

__all__ = ["LAYERS", "Layer", "arrays", "dense", "inputs", "loss", "neuron", "python", "shaping", "spatial"]


def __getattr__(name: str) -> Any:
    from .. import net_spec
    return getattr(net_spec.layers, name)

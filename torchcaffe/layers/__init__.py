"""Layer types, one class each beside its Caffe rule; `LAYERS` maps Caffe's type names to them."""
from . import dense, inputs, loss, neuron, python, shaping, spatial
from .base import LAYERS, Layer

__all__ = ["LAYERS", "Layer", "dense", "inputs", "loss", "neuron", "python", "shaping", "spatial"]

"""Layers that a user writes in Python: `type: "Python"` names a class derived from `caffe.Layer`."""
import importlib
from typing import Any, List

from ..blob import Blob, Blobs, Shape
from .base import ALWAYS, EACH_TIME, register
from .base import Layer as EngineLayer


class Layer:
    """Base of user layers, as pycaffe's: `setup`, `reshape`, `forward(bottom, top)`, `backward(top, propagate_down, bottom)`.

    `reshape` calls `top[i].reshape(...)` for every top, `forward` sets `top[i].data`, `backward` sets `bottom[i].diff` where
    `propagate_down[i]`; a layer whose gradient nobody asks for needs no `backward`.

    Attributes `param_str`, `phase` and `blobs` are there from the start; `blobs.add_blob(*shape)` adds a parameter.
    """

    type = "Python"
    param_str = ""
    phase = 0
    blobs: Blobs

    def __init__(self, p_object: Any = None, *args: Any, **kwargs: Any) -> None:
        """Take the layer's LayerParameter, as pycaffe's layers do."""

    def setup(self, bottom: List[Blob], top: List[Blob]) -> None:
        """Read `param_str`, add parameters."""


@register
class Python(EngineLayer):
    """Runs a user's layer."""

    in_place, reshapes = ALWAYS, EACH_TIME
    bottoms, tops = (0, None), (0, None)

    def setup(self, shapes: List[Shape]) -> None:
        p = self.param.python_param
        try:
            kind = getattr(importlib.import_module(p.module), p.layer)
        except (ImportError, AttributeError) as error:
            caffe = isinstance(error, ImportError) and (error.name or "").split(".")[0] == "caffe"
            hint = 'write "import torchcaffe as caffe" there' if caffe else "is it on PYTHONPATH?"
            self.fail(f"cannot load {p.layer!r} of module {p.module!r}: {error}; {hint}")
        for name in ("reshape", "forward"):
            self.check(hasattr(kind, name), f"its class {p.layer!r} has no method {name}")
        self.user: Any = kind(self.param)
        self.user.param_str, self.user.phase, self.user.blobs = p.param_str, self.phase, self.blobs
        self.started = False

    @property
    def public(self) -> Any:
        return self.user

    def reshape(self, bottoms: List[Blob], tops: List[Blob]) -> None:
        """Let the user's layer set itself up (once) and shape its tops."""
        if not self.started:
            self.user.setup(bottoms, tops)
            self.started = True
        self.user.reshape(bottoms, tops)

    def forward(self, bottoms: List[Blob], tops: List[Blob], keep_graph: bool) -> None:
        self.user.forward(bottoms, tops)

    def backward(self, bottoms: List[Blob], tops: List[Blob], retain: bool) -> None:
        self.check(hasattr(self.user, "backward"), "its class has no method backward, which the gradient needs")
        self.user.backward(tops, self.propagate_down, bottoms)

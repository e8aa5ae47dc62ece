"""Class activation maps, stage-2 crops, predictions, scores and the report, written against pycaffe's interface.

The functions named here are the public ones (docs/api.md). They are loaded when first used: `import pycam` loads no numpy, OpenCV
or torch.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from data_tools import __version__ as __version__

if TYPE_CHECKING:
    from .api import (
        Answer,
        Box,
        CamError,
        Network,
        Region,
        Stages,
        class_maps,
        classify,
        load_net,
        load_stages,
        locate,
        overlay,
        predict,
        read_image,
        remove_hair,
        score,
    )

__all__ = ["Answer", "Box", "CamError", "Network", "Region", "Stages", "class_maps", "classify", "load_net", "load_stages",
           "locate", "overlay", "predict", "read_image", "remove_hair", "score"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pycam' has no attribute {name!r}")
    return getattr(import_module("pycam.api"), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})

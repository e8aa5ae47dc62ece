"""pycaffe's interface on PyTorch: `import torchcaffe as caffe`.

Names are loaded when first used, so that `torchcaffe.proto` needs no torch.
"""
import importlib
from typing import Any

from . import alias, threads  # noqa: F401  (threads watches from now on what others leave free)

__version__ = "1.0.0"  # the Caffe whose rules this follows

_WHERE = {
    "blob": ["Blob"],
    "classifier": ["Classifier"],
    "context": ["set_device", "set_mode_cpu", "set_mode_gpu", "set_precision", "set_random_seed", "set_multiprocess",
                "set_solver_count", "set_solver_rank", "solver_count", "solver_rank"],
    "detector": ["Detector"],
    "errors": ["CaffeError"],
    "layers.python": ["Layer"],
    "net": ["Net"],
    "net_spec": ["NetSpec", "layers", "params", "to_proto"],
    "proto.caffe_pb2": ["TEST", "TRAIN"],
    "solver": ["get_solver"],
    "timer": ["Timer"],
}
_SOURCE = {name: module for module, names in _WHERE.items() for name in names}
_MODULES = ("_caffe", "classifier", "coord_map", "detector", "draw", "io", "net_spec", "proto", "pycaffe")
_SOLVERS = ("SGDSolver", "NesterovSolver", "AdaGradSolver", "RMSPropSolver", "AdaDeltaSolver", "AdamSolver")

__all__ = sorted([*_SOURCE, *_SOLVERS, "has_nccl", "init_log", "io", "layer_type_list", "log", "proto"])


def layer_type_list() -> "list[str]":
    """Return the layer types that nets may use."""
    from .layers import LAYERS
    return sorted(LAYERS)


def has_nccl() -> bool:
    """Return False: several GPUs work through torch.distributed, not through NCCL objects."""
    return False


def init_log(level: int = 0, stderr: bool = False) -> None:
    """Do nothing: log lines go to standard error from the start, and GLOG_minloglevel says which."""


def log(message: str) -> None:
    """Write a log line."""
    from .glog import log as write
    write("_caffe.cpp:68", message)


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__, *_MODULES})


def __getattr__(name: str) -> Any:
    if name in _SOURCE:
        return getattr(importlib.import_module(f".{_SOURCE[name]}", __name__), name)
    if name in _SOLVERS:
        return importlib.import_module(".solver", __name__).SOLVERS[name[:-len("Solver")]]
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name == "NCCL":
        raise AttributeError("torchcaffe has no NCCL; write `torchcaffe train -gpu 0,1`, or start it by torchrun")
    raise AttributeError(f"module 'torchcaffe' has no attribute {name!r}")

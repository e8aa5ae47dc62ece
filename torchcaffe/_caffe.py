"""The names of pycaffe's compiled module: `from caffe._caffe import BlobVec`."""
from . import init_log, layer_type_list, log
from .blob import Blob, Blobs
from .context import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from .layers.python import Layer
from .net import Net
from .solver import SOLVERS, Solver, get_solver
from .timer import Timer

AdaDeltaSolver, AdaGradSolver, AdamSolver = SOLVERS["AdaDelta"], SOLVERS["AdaGrad"], SOLVERS["Adam"]
NesterovSolver, RMSPropSolver, SGDSolver = SOLVERS["Nesterov"], SOLVERS["RMSProp"], SOLVERS["SGD"]
BlobVec = RawBlobVec = Blobs

__all__ = ["AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Blob", "BlobVec", "Layer", "NesterovSolver", "Net", "RMSPropSolver",
           "RawBlobVec", "SGDSolver", "Solver", "Timer", "get_solver", "init_log", "layer_type_list", "log", "set_device",
           "set_mode_cpu", "set_mode_gpu", "set_random_seed"]

"""The module in which pycaffe has its classes: `from caffe.pycaffe import Net`."""
from .net import Net
from .solver import SOLVERS
from .timer import Timer

AdaDeltaSolver, AdaGradSolver, AdamSolver = SOLVERS["AdaDelta"], SOLVERS["AdaGrad"], SOLVERS["Adam"]
NesterovSolver, RMSPropSolver, SGDSolver = SOLVERS["Nesterov"], SOLVERS["RMSProp"], SOLVERS["SGD"]

__all__ = ["AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "Net", "RMSPropSolver", "SGDSolver", "Timer"]

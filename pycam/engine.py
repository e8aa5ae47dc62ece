"""The engine behind pycaffe's interface: real BVLC Caffe or torchcaffe. The only file that says ``import caffe``."""
import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from google.protobuf import text_format

from data_tools.files import listing
from torchcaffe import snapshot
from torchcaffe.errors import CaffeError
from torchcaffe.netparam import read_text
from torchcaffe.proto import caffe_pb2

from .errors import CamError

ENGINES = ("auto", "caffe", "torch")
PRECISIONS = ("fp32", "tf32", "bf16")
NAMES = {"caffe": "BVLC Caffe", "torchcaffe": "torchcaffe"}  # by module
GLOG_WARNING = "1"  # real Caffe prints a page of layers for every network below this level
FINAL_WEIGHTS = "final.caffemodel"

_MISSING = {
    "caffe": "this Python cannot import caffe: use a Python that has BVLC Caffe (make caffe), or --engine torch",
    "torch": "this Python cannot import torch: pip install '.[torch]' in the project's folder, or --engine caffe",
}
_TRY_NET = "import sys, caffe; caffe.Net(sys.argv[1], caffe.TEST)"
_TRY_GPU = "import sys, caffe; caffe.set_mode_gpu(); caffe.set_device(int(sys.argv[1]))"
_announced: List[str] = []


class Backend(NamedTuple):
    """Which engine computes, on which device, in which arithmetic; see `load`."""

    engine: str = "auto"
    gpu: Optional[int] = None
    precision: str = "fp32"

    def parameters(self) -> Dict[str, str]:
        """Return what results depend on, for the record of a step: the engine that `auto` finds, the kind of device."""
        return {"engine": choose(*self), "device": "CPU" if self.gpu is None else "GPU", "precision": self.precision}


DEFAULT = Backend()


def backend(args: argparse.Namespace) -> Backend:
    """Return what the arguments of `add_arguments` say."""
    return Backend(args.engine, args.gpu, args.precision)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--engine``, ``--gpu`` and ``--precision`` to a command."""
    parser.add_argument("--engine", choices=ENGINES, default="auto",
                        help="real Caffe, torchcaffe, or whichever this Python has, Caffe first (default: auto)")
    parser.add_argument("--gpu", type=int, metavar="ID", help="compute on this GPU (default: the CPU)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32",
                        help="what torchcaffe's layers compute in; real Caffe knows only fp32 (default: fp32)")


def load(engine: str = "auto", gpu: Optional[int] = None, precision: str = "fp32") -> Any:
    """Return the module that implements pycaffe's interface, set to a device; name it once on stderr.

    Parameters
    ----------
    engine : str
        ``caffe``, ``torch``, or ``auto``: real Caffe where this Python imports it, else torchcaffe.
    gpu : int, optional
        Device number; the CPU when left out.
    precision : str
        ``fp32``, or ``tf32`` or ``bf16`` for the nets that torchcaffe makes from now on.

    Raises
    ------
    CamError
        When the engine cannot be imported, the device is negative, or tf32 or bf16 is requested from real Caffe.
    """
    engine = choose(engine, gpu, precision)
    module = _import(engine)
    if engine == "torch":
        module.set_precision(precision)
    if gpu is None:
        module.set_mode_cpu()
    else:
        if engine == "caffe":
            _check_gpu(gpu)
        try:
            module.set_mode_gpu()
            module.set_device(gpu)
        except CaffeError as error:
            raise _no_gpu(gpu, "torchcaffe", str(error).partition(";")[0]) from error
    return module


def choose(engine: str, gpu: Optional[int], precision: str) -> str:
    """Return the engine that `load` takes, ``caffe`` or ``torch``, without importing it."""
    if gpu is not None and gpu < 0:
        raise CamError(f"--gpu {gpu} (GPU= of make): expected a device number of 0 or more (leave it out for the CPU)")
    if engine == "auto":
        engine = "caffe" if _finds_caffe() else "torch"
    if engine == "caffe" and precision != "fp32":
        raise CamError(f"--precision {precision}: BVLC Caffe computes in fp32 only; use --engine torch, or leave it out")
    return engine


def _finds_caffe() -> bool:
    """Tell whether `import caffe` is BVLC Caffe with its compiled part, and not any folder of that name."""
    spec = importlib.util.find_spec("caffe")
    return any(list(Path(folder).glob("_caffe*.so")) for folder in (spec and spec.submodule_search_locations) or ())


def version(engine: str) -> str:
    """Return the name and version of an engine, ``caffe`` or ``torch``."""
    os.environ.setdefault("GLOG_minloglevel", GLOG_WARNING)
    module = importlib.import_module("caffe" if engine == "caffe" else "torchcaffe")
    return f"{NAMES[module.__name__]} {getattr(module, '__version__', '')}".rstrip()


def _check_gpu(gpu: int) -> None:
    reason = _reason_of_abort(_TRY_GPU, str(gpu))
    if reason:
        raise _no_gpu(gpu, NAMES["caffe"], reason)


def _no_gpu(gpu: int, name: str, reason: str) -> CamError:
    return CamError(f"--gpu {gpu} (GPU= of make): {name} cannot use this device ({reason}); leave it out for the CPU")


def _reason_of_abort(program: str, argument: str) -> Optional[str]:
    """Try something in a process of its own, since real Caffe aborts the process; return its last words, or None."""
    tried = subprocess.run([sys.executable, "-c", program, argument], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           check=False)
    if tried.returncode == 0:
        return None
    fatal = (line.split("] ", 1)[-1] for line in tried.stderr.decode(errors="replace").splitlines() if line.startswith("F"))
    return next(fatal, f"exit status {tried.returncode}")[:200]


def _import(engine: str) -> Any:
    os.environ.setdefault("GLOG_minloglevel", GLOG_WARNING)
    try:
        if engine == "caffe":
            if not _finds_caffe():
                raise ImportError("no package caffe with its compiled _caffe")
            import caffe as module
        else:
            import torchcaffe as module
            importlib.import_module("torchcaffe.net")  # which needs torch
    except ImportError as error:
        raise CamError(f"engine {engine}: {_MISSING[engine]} ({error})") from error
    if engine not in _announced:
        _announced.append(engine)
        print(f"engine: {version(engine)}", file=sys.stderr)
    return module


def weights_file(path: Path) -> Path:
    """Return the weights file of a path: the file itself, or ``final.caffemodel`` in a folder."""
    found = path / FINAL_WEIGHTS if path.is_dir() else path
    if not found.is_file():
        raise CamError(f"{found}: no such weights file; train first, or name a .caffemodel")
    return found


def deploy_net(caffe: Any, net: Path, weights: Path, gradients: bool = False) -> Any:
    """Return a network in TEST phase with every parameter filled from a weights file.

    Parameters
    ----------
    caffe : module
        What `load` returned.
    net : Path
        Deploy prototxt.
    weights : Path
        A ``.caffemodel``, or the folder that holds ``final.caffemodel``.
    gradients : bool
        Let its ``backward`` compute, which does nothing where there is no loss.

    Raises
    ------
    CamError
        When a file is missing or not what its name says, or a layer of the network is not in the weights or has
        another shape there. Real Caffe would leave such a layer at its filler in silence, or abort the process.
    """
    check_prototxt(net)
    weights = weights_file(weights)
    shapes = weight_shapes(weights)
    reason = _reason_of_abort(_TRY_NET, str(net)) if caffe.__name__ == "caffe" else None
    if reason:
        raise CamError(f"{net}: BVLC Caffe cannot build this network: {reason}")
    loaded = _with_gradients(caffe, net) if gradients else caffe.Net(str(net), caffe.TEST)
    check_weights(loaded, shapes, where=f"{weights} does not fit {net}")
    loaded.copy_from(str(weights))
    loaded.frugal = not gradients  # torchcaffe then keeps only requested blobs in memory; real Caffe ignores it
    return loaded


def _with_gradients(caffe: Any, net: Path) -> Any:
    """Return a network that computes gradients without a loss; pycaffe takes it as a file only."""
    message = read_text(str(net), caffe_pb2.NetParameter())
    message.force_backward = True
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt", encoding="utf-8") as file:
        file.write(text_format.MessageToString(message))
        file.flush()
        return caffe.Net(file.name, caffe.TEST)


def check_prototxt(path: Path) -> None:
    """Raise a CamError unless the file is a network in protobuf's text format with an input to fill."""
    if not path.is_file():
        raise CamError(f"{path}: no such network file; expected a deploy prototxt")
    try:
        parsed = read_text(str(path), caffe_pb2.NetParameter())
    except CaffeError as error:
        raise CamError(f"{error}; expected a network in protobuf text format") from error
    if not (parsed.input or any(layer.type == "Input" for layer in parsed.layer)):
        raise CamError(f"{path}: the network has no Input layer; expected a deploy prototxt, not a training net")


def weight_shapes(path: Path) -> Dict[str, List[Tuple[int, ...]]]:
    """Return the shapes of the parameters in a weights file by layer name."""
    try:
        return snapshot.read_shapes(str(path))
    except CaffeError as error:
        raise CamError(f"{error}; expected a whole .caffemodel") from error


def significant(shape: Sequence[int]) -> Tuple[int, ...]:
    """Drop leading ones: old files store every blob with four dimensions."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return tuple(shape)


def check_weights(net: Any, shapes: Dict[str, List[Tuple[int, ...]]], where: str) -> None:
    """Raise a CamError unless every parameter of a network is among the shapes of a weights file."""
    wanted = {name: [tuple(blob.shape) for blob in blobs] for name, blobs in net.params.items()}
    absent = [name for name in wanted if name not in shapes]
    if absent:
        raise CamError(f"{where}: no weights for the layers {listing(absent)}; they would stay random")
    other = [name for name in wanted
             if [significant(s) for s in shapes[name]] != [significant(s) for s in wanted[name]]]
    if other:
        raise CamError(f"{where}: other shapes in {listing(other)} ({other[0]} has {shapes[other[0]]}, the network "
                       f"wants {wanted[other[0]]}); use the deploy file of the network that was trained")

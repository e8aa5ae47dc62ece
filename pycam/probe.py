"""Try an engine in a process of its own, since real Caffe aborts on what it does not like: does it compute, what do nets need.

The process, ``python -m pycam.probe``, reads a request as JSON and prints a line of JSON for everything that went well: the
versions, the error of a small convolution on the device, then each net. Its memory is free again when it ends.
"""
import json
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from torchcaffe.errors import CaffeError

from . import engine
from .errors import CamError

Shapes = Dict[str, List[Tuple[int, ...]]]
REASON = re.compile(r"^(?:error: |F\d{4} \S+ +\d+ \S+\] )(.*)")  # our line, or glog's, that says why a process ended
VERSIONS = ("numpy", "google.protobuf", "cv2", "lmdb", "torch")
SMOKE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
"""
LARGEST_ERROR = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}  # of that convolution, relative to its largest value


class Wanted(NamedTuple):
    """A net to make: its text, its phase (``TRAIN`` or ``TEST``), its stage."""

    text: str
    phase: str
    stage: str = ""


class Net(NamedTuple):
    """What a net needs: the shapes of its parameters by layer, and how many numbers its blobs hold."""

    params: Shapes
    numbers: int


class NotTriedError(CamError):
    """The process ended before it came to this."""


class Probe:
    """What a tried engine said: `lines` of what went well, and the `problem` that ended it, if any."""

    def __init__(self, lines: Sequence[Dict[str, Any]], problem: str) -> None:
        self.lines, self.problem = lines, problem

    def _line(self, place: int, what: str) -> Dict[str, Any]:
        if place > len(self.lines):
            raise NotTriedError("not tried: the engine's process ended before")
        if place == len(self.lines):
            raise CamError(f"{what}{self.problem}")
        return self.lines[place]

    def versions(self) -> str:
        """Return the engine and the versions of what it stands on."""
        return ", ".join(f"{name} {version}" for name, version in self._line(0, "").items())

    def error(self) -> float:
        """Return the largest error of a small convolution, relative to its largest value."""
        return float(self._line(1, "the engine cannot compute: ")["error"])

    def net(self, place: int) -> Net:
        """Return what the net at a place of the request needs."""
        line = self._line(2 + place, "the net cannot be made: ")
        return Net({layer: [tuple(shape) for shape in blobs] for layer, blobs in line["params"].items()}, line["numbers"])


def probe(name: str, gpu: Optional[int], precision: str, nets: Sequence[Wanted]) -> Probe:
    """Try the engine `name` (``caffe`` or ``torch``) on a device with nets; never raises for what it finds."""
    request = {"engine": name, "gpu": gpu, "precision": precision, "nets": [list(net) for net in nets]}
    tried = subprocess.run([sys.executable, "-m", "pycam.probe"], input=json.dumps(request).encode(), check=False,
                           capture_output=True)
    lines = [json.loads(line) for line in tried.stdout.splitlines() if line.startswith(b"{")]
    said = tried.stderr.decode(errors="replace").splitlines() or [""]
    last = next((line for line in said if REASON.match(line)), said[-1])
    return Probe(lines, re.sub(r"\S*/probe\w*\.prototxt", "its prototxt", reason(last, tried.returncode)))


def reason(line: str, status: int) -> str:
    """Return why an engine's process ended, from its exit status and the line that tells most."""
    found = REASON.match(line)
    if found:
        return found.group(1).split(" (known types")[0]  # real Caffe lists all layers
    if "Optimization stopped early" in line:
        return "somebody interrupted the engine; the same command goes on from its snapshot"
    return f"exit status {status}, last line: {line}" if status >= 0 else f"ended by signal {-status}, last line: {line}"


# ---------------------------------------------------------------- in the process
def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    caffe = engine.load(request["engine"], request["gpu"], request["precision"])
    _say(_versions(caffe))
    _say({"error": _convolution_error(caffe)})
    for text, phase, stage in request["nets"]:
        net = _make(caffe, text, phase, stage)
        numbers = sum(int(np.prod(blob.shape)) for blob in net.blobs.values())
        params = {layer: [list(blob.data.shape) for blob in blobs] for layer, blobs in net.params.items()}
        _say({"params": params, "numbers": numbers})


def _say(line: Dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _versions(caffe: Any) -> Dict[str, str]:
    found = {engine.NAMES[caffe.__name__]: getattr(caffe, "__version__", ""), "Python": sys.version.split()[0]}
    for name in VERSIONS if caffe.__name__ != "caffe" else VERSIONS[:-1]:
        found[name.split(".")[-1]] = str(import_module(name).__version__)
    return found


def _make(caffe: Any, text: str, phase: str, stage: str) -> Any:
    with tempfile.NamedTemporaryFile("w", prefix="probe", suffix=".prototxt", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return caffe.Net(file.name, getattr(caffe, phase), stages=[stage] if stage else None)


def _convolution_error(caffe: Any) -> float:
    net, random = _make(caffe, SMOKE, "TEST", ""), np.random.RandomState(1)
    pictures, weights, bias = (random.randn(*shape).astype(np.float32) for shape in ((2, 3, 6, 6), (4, 3, 3, 3), (4,)))
    net.blobs["data"].data[...] = pictures
    for blob, values in zip(net.params["conv"], (weights, bias)):
        blob.data[...] = values
    wanted = np.empty((2, 4, 4, 4))
    for y in range(4):
        for x in range(4):
            patch = pictures[:, :, y:y + 3, x:x + 3].astype(float)
            wanted[:, :, y, x] = np.tensordot(patch, weights.astype(float), ((1, 2, 3), (1, 2, 3))) + bias
    return float(np.abs(net.forward()["conv"] - wanted).max() / np.abs(wanted).max())


if __name__ == "__main__":
    try:
        main()
    except (CaffeError, CamError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")

"""Try an engine in a process of its own, since real Caffe aborts on what it does not like: does it compute, what do nets need.

The process, ``python -m pycam.probe``, reads a request as JSON and prints a line of JSON for everything that went well: the
versions, the error of a small convolution on the device, then each net or its time. Its memory is free again when it ends.
"""
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np
from google.protobuf import text_format

from torchcaffe.errors import CaffeError, sentence
from torchcaffe.netparam import parse_text
from torchcaffe.proto import caffe_pb2

from . import engine
from .errors import CamError

REASON = re.compile(r"^(?:error: |F\d{4} \S+ +\d+ \S+\] )(.*)")  # our line, or glog's, that says why a process ended
VERSIONS = ("numpy", "google.protobuf", "cv2", "lmdb", "torch")
SMOKE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 5 } }
"""
PROBE_SECONDS, PASSES = 8, 4  # that the timing of a training takes, about, and how many times at most
LARGEST_ERROR = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}  # of that convolution, relative to its largest value


class Request(NamedTuple):
    """A net under a name: its text, and its phase, ``TRAIN`` or ``TEST``, or else ``TIME``: the time of the training net."""

    name: str
    text: str
    phase: str


class NotTriedError(CamError):
    """Something before it failed."""


class Probe(NamedTuple):
    """What a tried engine said: what went well, by name, and the name and the reason of what did not, if any."""

    found: Dict[str, Any]
    failed: str = ""
    problem: str = ""

    def get(self, name: str, failure: Optional[str] = None) -> Any:
        """Return what is known of something; of the checks that need it, the one that gives a `failure` tells why it failed."""
        if failure is not None and name == self.failed:
            raise CamError(f"{failure}{self.problem}")
        if name not in self.found:
            raise NotTriedError(f"not looked at, needs: {self.failed}")
        return self.found[name]


def probe(backend: engine.Backend, requests: Sequence[Request]) -> Probe:
    """Try an engine on a device with nets; never raises for what it finds."""
    tried = subprocess.run([sys.executable, "-m", "pycam.probe"], check=False, capture_output=True,
                           input=json.dumps([list(backend), [list(request) for request in requests]]).encode())
    lines = [json.loads(line)["well"] for line in tried.stdout.splitlines() if line.startswith(b'{"well"')]
    names = ["engine", "device", *(request.name for request in requests)]
    said = tried.stderr.decode(errors="replace").splitlines() or [""]
    last = next((line for line in said if REASON.match(line)), said[-1])
    problem = re.sub(r"\S*/probe\w*\.prototxt", "its prototxt", reason(last, tried.returncode))
    return Probe(dict(zip(names, lines)), *((names[len(lines)], problem) if len(lines) < len(names) else ()))


def reason(line: str, status: int) -> str:
    """Return why an engine's process ended, from its exit status and its most informative line."""
    found = REASON.match(line)
    if found:
        return found.group(1).split(" (known types")[0]  # real Caffe lists all layers
    if "Optimization stopped early" in line:
        return "somebody interrupted the engine; the same command goes on from its snapshot"
    return f"exit status {status}, last line: {line}" if status >= 0 else f"ended by signal {-status}, last line: {line}"


# ---------------------------------------------------------------- in the process
def main() -> None:
    """Answer the request on stdin."""
    backend, requests = json.load(sys.stdin)
    caffe = engine.load(*backend)
    _say(_versions(caffe))
    _say(_convolution_error(caffe))
    for _, text, phase in requests:
        _say(_seconds(caffe, text) if phase == "TIME" else _needs(_make(caffe, text, phase)))


def _say(found: Any) -> None:
    print(json.dumps({"well": found}), flush=True)


def _needs(net: Any) -> Dict[str, Any]:
    """Return the shapes of a net's parameters by layer, and how many numbers they and the blobs hold."""
    shapes = {layer: [list(blob.data.shape) for blob in blobs] for layer, blobs in net.params.items()}
    return {"shapes": shapes, "parameters": sum(int(np.prod(shape)) for blobs in shapes.values() for shape in blobs),
            "values": sum(int(np.prod(blob.shape)) for blob in net.blobs.values())}


def _versions(caffe: Any) -> Dict[str, str]:
    found = {engine.NAMES[caffe.__name__]: getattr(caffe, "__version__", ""), "Python": sys.version.split()[0]}
    for name in VERSIONS if caffe.__name__ != "caffe" else VERSIONS[:-1]:
        found[name.split(".")[-1]] = str(import_module(name).__version__)
    return found


def _make(caffe: Any, text: str, phase: str) -> Any:
    with tempfile.NamedTemporaryFile("w", prefix="probe", suffix=".prototxt", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return caffe.Net(file.name, getattr(caffe, phase))


def _seconds(caffe: Any, text: str) -> float:
    """Return the seconds of a batch forward and backward, measured with as many pictures as there is time for."""
    net = parse_text(text, caffe_pb2.NetParameter(), "net")
    batch = max((shape.dim[0] for layer in net.layer for shape in layer.dummy_data_param.shape), default=1)
    one = _pass(caffe, net, 1)
    some = max(1, min(batch, int(PROBE_SECONDS / PASSES / one)))
    return float(batch / some * (_pass(caffe, net, some) if some > 1 else one))


def _pass(caffe: Any, net: Any, pictures: int) -> float:
    """Return the seconds of a pass with a number of pictures."""
    for layer in net.layer:
        for shape in layer.dummy_data_param.shape:
            shape.dim[0] = pictures
    made, seconds = _make(caffe, text_format.MessageToString(net), "TRAIN"), [0.0]
    while len(seconds) <= PASSES and sum(seconds) < PROBE_SECONDS / 2:
        began = time.monotonic()
        made.forward()
        made.backward()
        float(list(made.params.values())[-1][0].diff.flat[0])  # waits for a GPU
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds[1:])


def _convolution_error(caffe: Any) -> float:
    net, random = _make(caffe, SMOKE, "TEST"), np.random.RandomState(1)
    pictures, weights, bias = (random.randn(*shape).astype(np.float32) for shape in ((2, 3, 5, 5), (4, 3, 5, 5), (4,)))
    net.blobs["data"].data[...] = pictures
    for blob, values in zip(net.params["conv"], (weights, bias)):
        blob.data[...] = values
    wanted = np.tensordot(pictures.astype(float), weights.astype(float), ((1, 2, 3), (1, 2, 3))) + bias
    return float(np.abs(net.forward()["conv"].reshape(wanted.shape) - wanted).max() / np.abs(wanted).max())


if __name__ == "__main__":
    try:
        main()
    except (CaffeError, CamError) as error:
        sys.exit(f"error: {sentence(error)}")

"""Run whole published nets on both engines: a deploy net forward, a training net a few iterations from made-up batches.

`prepare` makes a job folder of a folder with prototxt files, `python -m tests.parity.zoo ENGINE JOB OUT.npz` runs it on one
engine. A deploy net is read as it is; in a training net the layers that read data become Input layers of the same shape,
and Dropout, whose random stream is not Caffe's, is left out.
"""

import importlib
import json
import os
import subprocess
import sys
import zlib
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from .live import environment

Arrays = Dict[str, np.ndarray]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BATCH, ITERATIONS = 2, 5
FORWARD_BOUND, TRAIN_BOUND = 1e-5, 1e-4
READERS = ("Data", "ImageData", "HDF5Data", "MemoryData", "WindowData")
SOLVER = 'net: "{net}" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 max_iter: 100 random_seed: 1\n'


class Row(NamedTuple):
    """One net's result; `error` is NaN and `note` says why where it did not run."""

    name: str
    what: str
    error: float
    bound: float
    note: str


# ------------------------------------------------------------ jobs, made with torchcaffe
def prepare(models: str, job: str, shapes: Dict[str, Tuple[int, ...]]) -> List[Row]:
    """Write the nets, solvers and weights of a job; return a row for each file that is refused.

    Parameters
    ----------
    models : str
        Folder with the prototxt files; solvers among them are skipped.
    shapes : dict
        Shape of one picture by a part of the file's name, for training nets without a crop_size.
    """
    entries, refused = [], []
    for file in sorted(f for f in os.listdir(models) if f.endswith(".prototxt") and "solver" not in f):
        import torchcaffe
        name = file[:-len(".prototxt")]
        try:
            entries.append(_entry(name, os.path.join(models, file), job, shapes))
        except torchcaffe.CaffeError as error:
            refused.append(Row(name, "", float("nan"), 0, str(error).replace(models + os.sep, "")))
    with open(os.path.join(job, "job.json"), "w") as out:
        json.dump(entries, out)
    return refused


def _entry(name: str, path: str, job: str, shapes: Dict[str, Tuple[int, ...]]) -> Dict[str, Any]:
    """Make one net ready and write its random weights."""
    import torchcaffe
    from torchcaffe.netparam import read_net
    text = read_net(path)
    trains = any(layer.type in READERS for layer in text.layer)
    if trains:
        path = _train_text(text, name, job, shapes)
        with open(os.path.join(job, name + ".solver"), "w") as out:
            out.write(SOLVER.format(net=path))
    torchcaffe.set_random_seed(1)
    net = torchcaffe.Net(path, torchcaffe.TRAIN if trains else torchcaffe.TEST)
    if not trains:  # a deploy net names no fillers, so that its weights are zero
        _draw_weights(net, np.random.RandomState(zlib.crc32(name.encode())))
    net.save(os.path.join(job, name + ".caffemodel"))
    return {"name": name, "path": path, "trains": trains, "classes": _classes(net)}


def _draw_weights(net: Any, random: np.random.RandomState) -> None:
    for blobs in net.params.values():
        for blob in blobs:
            fan = max(1, int(np.prod(blob.shape[1:])))
            blob.data[...] = random.randn(*blob.shape) * (np.sqrt(2 / fan) if len(blob.shape) > 1 else 0.1)


def _train_text(text: Any, name: str, job: str, shapes: Dict[str, Tuple[int, ...]]) -> str:
    """Write a training net that reads no files and draws no random numbers; return its path."""
    import torchcaffe
    known = [shape for part, shape in shapes.items() if part in name]
    for layer in list(text.layer):
        if layer.type == "Dropout" and layer.bottom[0] == layer.top[0]:
            text.layer.remove(layer)
        elif layer.type == "Dropout":
            layer.type = "Power"  # x to the power of 1
            layer.ClearField("dropout_param")
        if layer.type in READERS:
            crop = layer.transform_param.crop_size
            if not known and not crop:
                raise torchcaffe.CaffeError(f"layer {layer.name!r}: no crop_size; the size of its pictures must be given")
            one = known[0] if known else (3, crop, crop)
            for field in ("transform_param", "data_param", "image_data_param", "hdf5_data_param", "memory_data_param"):
                layer.ClearField(field)
            layer.type = "Input"
            for shape in [(BATCH, *one), (BATCH,)][:len(layer.top)]:
                layer.input_param.shape.add(dim=shape)
    path = os.path.join(job, name + ".prototxt")
    with open(path, "w") as out:
        out.write(str(text))
    return path


def _classes(net: Any) -> int:
    """Return the fewest classes that a loss of the net takes."""
    bottoms = net.bottom_names
    losses = [name for name, layer in zip(net._layer_names, net.layers) if layer.type in ("SoftmaxWithLoss", "HingeLoss")]
    return min((net.blobs[bottoms[name][0]].shape[1] for name in losses), default=2)


# ------------------------------------------------------------ running, on either engine
def _fill(net: Any, entry: Dict[str, Any]) -> None:
    random = np.random.RandomState(3)
    for name in net.inputs:
        blob = net.blobs[name]
        if len(blob.data.shape) == 1:
            blob.data[...] = random.randint(0, entry["classes"], blob.data.shape)
        else:
            blob.data[...] = random.randn(*blob.data.shape)


def forward(caffe: Any, entry: Dict[str, Any], weights: str) -> Arrays:
    """Return the outputs of a deploy net for a few random pictures."""
    net = caffe.Net(str(entry["path"]), caffe.TEST)
    net.copy_from(weights)
    for name in net.inputs:
        shape = net.blobs[name].data.shape
        net.blobs[name].reshape(min(shape[0], BATCH), *shape[1:])
    net.reshape()
    _fill(net, entry)
    return {name: value.copy() for name, value in net.forward().items()}


def train(caffe: Any, entry: Dict[str, Any], weights: str) -> Arrays:
    """Return the losses of a few iterations on one random batch."""
    solver = caffe.get_solver(weights.replace(".caffemodel", ".solver"))
    net = solver.net
    net.copy_from(weights)
    _fill(net, entry)
    names = [name for name in net.outputs if net.blob_loss_weights[name]]
    losses: Dict[str, List[float]] = {name: [] for name in names}
    for _ in range(ITERATIONS):
        solver.step(1)
        for name in names:
            losses[name].append(float(net.blobs[name].data))
    return {name: np.array(values) for name, values in losses.items()}


def run(caffe: Any, job: str) -> Arrays:
    """Run a job on an engine."""
    caffe.set_mode_cpu()
    found: Arrays = {}
    with open(os.path.join(job, "job.json")) as file:
        entries = json.load(file)
    for entry in entries:
        weights = os.path.join(job, entry["name"] + ".caffemodel")
        results = (train if entry["trains"] else forward)(caffe, entry, weights)
        found.update({f"{entry['name']}:{name}": value for name, value in results.items()})
    return found


def run_caffe(python: str, job: str, **more: str) -> Arrays:
    """Run a job in real Caffe's Python."""
    out = os.path.join(job, "caffe.npz")
    command = [python, "-m", "tests.parity.zoo", "caffe", job, out]
    done = subprocess.run(command, cwd=ROOT, env=environment(**more), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"real Caffe ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-3000:]}")
    with np.load(out) as arrays:
        return dict(arrays)


def compare(python: str, job: str) -> Iterator[Row]:
    """Yield a row for every net of a job."""
    import torchcaffe
    ours, theirs = run(torchcaffe, job), run_caffe(python, job)
    with open(os.path.join(job, "job.json")) as file:
        entries = json.load(file)
    for entry in entries:
        keys = [key for key in theirs if key.startswith(entry["name"] + ":")]
        mine = [key for key in ours if key.startswith(entry["name"] + ":")]
        assert sorted(keys) == sorted(mine), entry["name"]
        if not keys:  # a training net whose loss has no top
            yield Row(entry["name"], "", float("nan"), 0, "no blob to compare")
            continue
        trains = entry["trains"]
        worst = max(_error(ours[key], theirs[key], trains) for key in keys)
        what = f"{ITERATIONS} iterations" if trains else "forward"
        yield Row(entry["name"], what, worst, TRAIN_BOUND if trains else FORWARD_BOUND, "")


def _error(found: np.ndarray, wanted: np.ndarray, each: bool) -> float:
    """Return the largest difference, relative to each value (losses) or to the largest one."""
    if found.shape != wanted.shape or not np.isfinite(found).all() or not np.abs(wanted).max():
        return float("inf")
    scale = np.maximum(np.abs(wanted), 1e-6) if each else np.abs(wanted).max()
    return float((np.abs(found - wanted) / scale).max())


if __name__ == "__main__":
    np.savez(sys.argv[3], **run(importlib.import_module(sys.argv[1]), sys.argv[2]))

"""What is looked at before hours of training. Each check returns what it saw, or raises an error that says what to do.

Further lines of what a check returns are details: the table of the weights, notes.
"""
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
from google.protobuf import text_format

from data_tools import manifest
from data_tools.augment import PATCH_SIZE
from data_tools.errors import DataError
from data_tools.files import listing

from . import engine, preprocess, weights
from .errors import CamError
from .job import Job, named_files
from .probe import LARGEST_ERROR, Probe, Request, probe
from .snapshots import newest_state

HISTORIES = {"Adam": 2, "AdaDelta": 2}  # arrays of a solver's state for each parameter; the other types have one
COLOURS = 3
FLOAT = 4  # bytes
ENGINE_BYTES = 400e6  # of memory that an engine takes before its first net
SCRATCH = 1.5  # an engine's working space; the narrow net in batches of 32 peaks at 0.9 GB in Caffe, 1.3 in torchcaffe, 1.3 here
MEMORY = Path("/proc/meminfo")


def check_training(job: Job, start: Optional[Path], instead: str, backend: engine.Backend, checked: bool) -> List[str]:
    """Make the checks before one training, but those of its folder and its sources; return notes and the table of the weights.

    `start` are the weights that it starts from; where it starts from something else, `instead` says from what. What the doctor
    has `checked` is left out, but for what may have changed since.
    """
    found = [check_records(job), check_fillers(job, start, instead)]
    if not checked:
        tried = probe(backend, requests(job))
        found += [check_mean(job), check_engine(tried), check_device(tried, backend), check_net(job, tried),
                  check_start(job, tried, start, instead), check_memory(job, tried, backend.gpu), check_disk(job, tried)]
    return [line for text in found for line in text.splitlines()[1:]]


def check_folder(job: Job) -> str:
    """See that files can be written where the training keeps its snapshots."""
    for folder in (job.folder, job.prefix.parent):
        try:
            with tempfile.TemporaryFile(dir=_nearest(folder)):
                pass
        except OSError as error:
            raise CamError(f"{folder}: cannot be written ({error.strerror}); training keeps its snapshots there: choose another "
                           f"--run (RUN of make), or change its permissions") from error
    return f"{job.prefix.parent} can be written"


def _nearest(folder: Path) -> Path:
    """Return the folder, or what is there of the way to it."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


# ---------------------------------------------------------------- records
def data_layers(job: Job) -> Iterator[Tuple[Any, bool]]:
    """Yield the Data layers of the training net, then of the test nets, and whether each is of the training net."""
    for net in (job.training, *job.testing):
        for layer in net.layer:
            if layer.type == "Data":
                yield layer, net is job.training


def check_sources(job: Job, waiting: bool) -> str:
    """See that every file is there that the nets name; LMDBs that make makes first may be missing while `waiting`."""
    named = {getattr(part, name): None for net in (job.training, *job.testing) for layer in net.layer
             for part, name in named_files(layer) if name in ("source", "mean_file")}
    absent = [source for source in named if not Path(source).exists()]
    to_come = [str(job.folder.parent / "lmdb" / f"{job.stage}_{split}") for split in ("train", "val")] if waiting else []
    wrong = [source for source in absent if source not in to_come]
    if wrong:
        raise CamError(f"{job.solver.net}: names {listing(wrong)}, which cannot be read; correct source: in the net, or make the "
                       f"LMDBs (make {job.stage} does)")
    return f"{len(named) - len(absent)} of {len(named)} there" + (f", make {job.stage} makes the others" if absent else "")


def check_records(job: Job) -> str:
    """See that the stage's LMDBs are whole by their manifests and fit the net."""
    outputs = [layer.inner_product_param.num_output for layer in job.training.layer if layer.type == "InnerProduct"]
    found = [(layer, manifest.read(Path(layer.data_param.source)), training) for layer, training in data_layers(job)
             if Path(layer.data_param.source).exists()]  # check_sources lets those pass that make makes
    for layer, made, _ in found:
        if outputs and len(made.per_class) > outputs[-1]:
            raise CamError(f"{layer.data_param.source}: {len(made.per_class)} classes, the net has {outputs[-1]} outputs; set "
                           f"num_output")
        if made.channel_order != "BGR":
            raise CamError(f"{layer.data_param.source}: channels {made.channel_order}, the predictor's are BGR; make the LMDB "
                           f"again")
    said = ", ".join(f"{Path(layer.data_param.source).name} {made.records}" for layer, made, _ in found)
    notes = [note for layer, made, training in found for note in _notes(job, layer, training, made.records)]
    return "\n".join([f"{said} records, whole, BGR, classes within num_output" if said else "none yet", *notes])


def _notes(job: Job, layer: Any, training: bool, records: int) -> Iterator[str]:
    """Yield what is legal, but seldom meant."""
    source, batch, (height, width) = layer.data_param.source, layer.data_param.batch_size, _input_size(layer)
    if (height, width) != (job.patch, job.patch):
        yield f"note: records of {source} are {height} x {width}, predictions are made from {job.patch} x {job.patch}"
    if not training and job.solver.test_iter[0] * batch != records:
        yield (f"note: test_iter {job.solver.test_iter[0]} x batch_size {batch} is not the {records} records of {source}: "
               f"each test sees other ones, or some twice")


def check_mean(job: Job) -> str:
    """See that the net subtracts from its records what the predictor subtracts from pictures (D04)."""
    for layer, _ in data_layers(job):
        transform = layer.transform_param
        found, wanted = [round(value, 4) for value in transform.mean_value], list(preprocess.MEAN_BGR)
        if len(found) != COLOURS or not np.allclose(found, wanted, atol=1e-3) or transform.scale != 1 or transform.mean_file:
            raise CamError(f"{job.solver.net}: layer {layer.name} of {layer.data_param.source} has mean_value {found}, scale "
                           f"{transform.scale:g}; the predictor subtracts {wanted}: make them equal (pycam/preprocess.py)")
    return f"{', '.join(f'{value:g}' for value in preprocess.MEAN_BGR)} (BGR), as the predictor's"


# ---------------------------------------------------------------- the engine
def check_engine(tried: Probe) -> str:
    """Check that the engine can be loaded; return the versions of its libraries."""
    return ", ".join(f"{name} {version}" for name, version in tried.get("engine", "").items())


def check_device(tried: Probe, backend: engine.Backend) -> str:
    """See that the engine computes on the device what numpy does."""
    error = tried.get("device", "the engine cannot compute: ")
    if not error <= LARGEST_ERROR[backend.precision]:
        raise CamError(f"a convolution is wrong by {error:.1g} of its largest value: the engine was not built for this device, "
                       f"take another one (docs/docker.md)")
    return f"{'CPU' if backend.gpu is None else f'GPU {backend.gpu}'}: a convolution agrees with numpy to {error:.0e}"


def requests(job: Job) -> List[Request]:
    """Return the nets of a training to be made, with empty blobs in place of its records."""
    return [Request(f"{job.name} {name}", text_format.MessageToString(_without_records(net)), phase)
            for name, net, phase in zip(("training", "testing"), (job.training, *job.testing), ("TRAIN", "TEST"))]


def timing(job: Job) -> Request:
    """Return the training net to be timed."""
    return requests(job)[0]._replace(name=f"{job.name} time", phase="TIME")


def _without_records(net: Any) -> Any:
    bare = type(net)()
    bare.CopyFrom(net)
    bare.ClearField("state")
    for layer in bare.layer:
        layer.ClearField("include")
        layer.ClearField("exclude")
        if layer.type == "Data":
            batch, (height, width) = layer.data_param.batch_size, _input_size(layer)
            layer.type = "DummyData"
            for shape in ((batch, COLOURS, height, width), (batch,))[:len(layer.top)]:
                layer.dummy_data_param.shape.add().dim.extend(shape)
            layer.ClearField("data_param")
            layer.ClearField("transform_param")
    return bare


def _input_size(layer: Any) -> Tuple[int, int]:
    """Return (height, width) of what a Data layer puts out."""
    side = layer.transform_param.crop_size or PATCH_SIZE
    with contextlib.suppress(DataError):  # which check_records raises again
        if not layer.transform_param.crop_size:
            height, width = manifest.read(Path(layer.data_param.source)).shape
            return height, width
    return side, side


# ---------------------------------------------------------------- nets and weights
def check_net(job: Job, tried: Probe) -> str:
    """See that the engine makes the training net and the test net."""
    net, *_ = (tried.get(request.name, "the net cannot be made: ") for request in requests(job))
    return f"{len(net['shapes'])} layers, {net['parameters'] / 1e6:.2f} million parameters"


def check_fillers(job: Job, start: Optional[Path], instead: str) -> str:
    """Refuse to start from nothing a net whose layers name no filler."""
    bare = [layer.name for layer in job.training.layer
            if layer.type == "Convolution" and not layer.convolution_param.HasField("weight_filler")]
    if bare and start is None and not instead:
        raise CamError(f"{job.net.name}: {bare[0]} and others have no filler, they come from pretrained weights: "
                       f"give --weights (INIT= of make), or train the scratch network")
    return f"{len(bare)} layers without, they come from weights" if bare else "every convolution has one"


def check_start(job: Job, tried: Probe, start: Optional[Path], instead: str) -> str:
    """See which layers the weights fill; refuse weights that would end or spoil the training later."""
    shapes = tried.get(f"{job.name} training")["shapes"]
    if instead or start is None:
        return instead or "none: every layer starts from its filler"
    rows = weights.compare(shapes, engine.weight_shapes(engine.weights_file(start)))
    weights.check_start(rows, engine.weights_file(start))
    counts = [sum(row.state == state for row in rows) for state in (weights.COPIED, weights.FRESH)]
    return f"{engine.weights_file(start)}: {counts[0]} layers copied, {counts[1]} fresh\n{weights.table(rows)}"


# ---------------------------------------------------------------- room and time
def memory_needed(job: Job, tried: Probe) -> float:
    """Estimate a training's bytes: values and gradients of the training net, values of the test net, parameters."""
    training, testing = tried.get(f"{job.name} training"), tried.found.get(f"{job.name} testing", {"values": 0})
    copies = 2 + HISTORIES.get(job.solver.type, 1)  # values, gradients, the solver's history
    numbers = 2 * training["values"] + testing["values"] + copies * training["parameters"]
    return float(SCRATCH * FLOAT * numbers + ENGINE_BYTES)


def check_memory(job: Job, tried: Probe, gpu: Optional[int]) -> str:
    """Hold an estimate of what the batch needs against the memory that is free on the device."""
    needed, (free, where) = memory_needed(job, tried), free_memory(gpu)
    text = f"about {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free {where}"
    if needed > free:
        raise CamError(f"{text}; compute fewer pictures at a time: --batch (BATCH= of make) divides the batch, results stay the "
                       f"same")
    return text


def free_memory(gpu: Optional[int]) -> Tuple[float, str]:
    """Return the free bytes of a device and its name; infinite where they are unknown."""
    if gpu is None:
        kibibytes = re.search(r"MemAvailable: *(\d+)", MEMORY.read_text() if MEMORY.exists() else "")
        return (1024.0 * int(kibibytes.group(1)) if kibibytes else np.inf), "in main memory"
    free, name = _ask_driver(gpu)
    return (1048576.0 * int(free) if free.isdecimal() else np.inf), f"on GPU {gpu} ({name or 'nvidia-smi does not tell'})"


def device(gpu: Optional[int]) -> str:
    """Return the name of a device, for a CPU with the number of threads, since sums depend on it in their last bits."""
    if gpu is not None:
        return _ask_driver(gpu)[1] or f"GPU {gpu}"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return f"CPU (threads: {threads})" if threads.isdigit() else "CPU"


def _ask_driver(gpu: int) -> Tuple[str, str]:
    """Return nvidia-smi's words for the free MiB and the name of the GPU that CUDA counts as number `gpu`."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    command = ["nvidia-smi", f"--id={visible[gpu] if gpu < len(visible) else gpu}", "--query-gpu=memory.free,name",
               "--format=csv,noheader,nounits"]
    try:
        free, _, name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().partition(", ")
    except (OSError, subprocess.CalledProcessError):
        return "", ""
    return free, name


def check_disk(job: Job, tried: Probe) -> str:
    """Hold the size of the snapshots that are still to come against the disk."""
    parameters = tried.get(f"{job.name} training")["parameters"]
    pairs = -(-to_come(job) // job.solver.snapshot)
    pair = FLOAT * parameters * (1 + HISTORIES.get(job.solver.type, 1))
    needed = pairs * pair + FLOAT * parameters  # and the final weights once more
    free = shutil.disk_usage(_nearest(job.prefix.parent)).free
    text = f"{pairs} snapshots of {pair / 1e6:.0f} MB, {needed / 1e9:.2f} GB; {free / 1e9:.1f} GB free in {job.prefix.parent}"
    if needed > free:
        raise CamError(f"{text}; make room, choose another --run (RUN of make), or raise snapshot: in {job.source}")
    return text


def to_come(job: Job) -> int:
    """Return how many iterations are still to come."""
    state = newest_state(job.prefix)
    return max(0, int(job.solver.max_iter) - (state[0] if state else 0))


def check_time(job: Job, tried: Probe) -> str:
    """Tell how long the training will take, tests and reading aside."""
    seconds: float = job.solver.iter_size * tried.get(f"{job.name} time", "an iteration cannot be computed: ")
    total = seconds * to_come(job)
    told = f"{total / 3600:.1f} h" if total > 3600 else f"{total / 60:.0f} min" if total > 60 else f"{total:.0f} s"
    return f"about {told} for {to_come(job)} iterations ({seconds:.3g} s each), without tests"

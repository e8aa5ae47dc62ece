"""What is looked at before hours of training. Each check returns what it saw, or raises an error that says what to do.

Further lines of what a check returns are details: the table of the weights, notes.
"""
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from google.protobuf import text_format

from data_tools import manifest
from data_tools.augment import PATCH_SIZE
from data_tools.files import listing
from torchcaffe.proto import caffe_pb2

from . import engine, preprocess, weights
from .errors import CamError
from .probe import LARGEST_ERROR, Net, Probe, Wanted
from .snapshots import newest_state
from .texts import Job

HISTORIES = {"Adam": 2, "AdaDelta": 2}  # arrays of a solver's state for each parameter; the other types have one
COLOURS = 3
FLOAT = 4  # bytes
ENGINE_BYTES = 400e6  # of memory that an engine takes before its first net
SCRATCH = 1.5  # an engine's working space; the narrow net in batches of 32 peaks at 0.9 GB in Caffe, 1.3 in torchcaffe, 1.3 here


MEMORY = Path("/proc/meminfo")


class Check(NamedTuple):
    """Something to look at: its title, what looks, the titles of those that must be well before."""

    title: str
    look: Callable[[], str]
    needs: Tuple[str, ...] = ()


class Given(NamedTuple):
    """What the checks of one training go by.

    `start` are the weights that it starts from; where they come from something else that needs no check, `instead` says from
    what. `waiting`: LMDBs that make makes first may still be missing. `nets` gives what its training net and its test net
    need, or raises.
    """

    job: Job
    start: Optional[Path]
    instead: str
    waiting: bool
    gpu: Optional[int]
    nets: Callable[[], Tuple[Net, Net]]


def of_files(given: Given) -> List[Check]:
    """Return the quick checks of one training."""
    job = given.job
    return [
        Check("folder", lambda: check_folder(job)),
        Check("sources", lambda: check_sources(job, given.waiting)),
        Check("records", lambda: check_data(job), ("sources",)),
        Check("mean", lambda: check_mean(job)),
        Check("fillers", lambda: check_fillers(given)),
    ]


def of_engine(tried: Callable[[], Probe], gpu: Optional[int], precision: str) -> List[Check]:
    """Return the checks of an engine that was tried."""
    return [
        Check("engine", lambda: tried().versions()),
        Check("device", lambda: check_device(tried(), gpu, precision), ("engine",)),
    ]


def of_nets(given: Given) -> List[Check]:
    """Return the checks of one training that need its nets made."""
    job, nets = given.job, given.nets
    return [
        Check("net", lambda: f"{len(nets()[0].params)} layers, {count(nets()[0]) / 1e6:.2f} million parameters", ("device",)),
        Check("weights", lambda: check_start(nets()[0], given), ("fillers", "net")),
        Check("memory", lambda: check_memory(job, *nets(), given.gpu), ("net",)),
        Check("disk", lambda: check_disk(job, count(nets()[0])), ("net", "folder")),
    ]


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
    """Yield the Data layers of the training's stage, and whether each is of the training net."""
    for layer in job.net.layer:
        if layer.type == "Data" and any(job.stage in rule.stage for rule in layer.include):
            yield layer, any(rule.phase == caffe_pb2.TRAIN for rule in layer.include)


def check_sources(job: Job, waiting: bool) -> str:
    """See that everything is there that a `source:` or a `mean_file:` of the stage names; LMDBs are opened later."""
    named = [layer.data_param.source for layer, _ in data_layers(job)]
    named += [getattr(layer, field).source for layer in job.net.layer
              for field in ("image_data_param", "hdf5_data_param", "window_data_param") if getattr(layer, field).source]
    named += [layer.transform_param.mean_file for layer in job.net.layer if layer.transform_param.mean_file]
    absent = [source for source in named if not Path(source).exists()]
    to_come = [str(job.folder.parent / "lmdb" / f"{job.stage}_{split}") for split in ("train", "val")] if waiting else []
    wrong = [source for source in absent if source not in to_come]
    if wrong:
        raise CamError(f"{job.solver.net}: names {listing(wrong)}, which cannot be read; correct source: in the net, or make the "
                       f"LMDBs (make {job.stage} does)")
    return f"{len(named) - len(absent)} of {len(named)} there" + (f", make {job.stage} makes the others" if absent else "")


def check_data(job: Job) -> str:
    """See that the stage's LMDBs are whole by their manifests and fit the net."""
    outputs = [layer.inner_product_param.num_output for layer in job.net.layer if layer.type == "InnerProduct"]
    said, notes = [], []
    for layer, training in data_layers(job):
        source, batch = layer.data_param.source, layer.data_param.batch_size
        if not Path(source).exists():  # and check_sources let it pass
            continue
        made = manifest.read(Path(source))
        if outputs and len(made.per_class) > outputs[-1]:
            raise CamError(f"{source}: {len(made.per_class)} classes, the net has {outputs[-1]} outputs; set num_output")
        if made.channel_order != "BGR":
            raise CamError(f"{source}: channels {made.channel_order}, the predictor's are BGR; make the LMDB again")
        said.append(f"{Path(source).name} {made.records}")
        height, width = _input_size(layer)
        if (height, width) != (PATCH_SIZE, PATCH_SIZE):
            notes.append(f"note: records of {source} are {height} x {width}, predictions are made from "
                         f"{PATCH_SIZE} x {PATCH_SIZE}")
        if not training and job.solver.test_iter and job.solver.test_iter[0] * batch != made.records:
            notes.append(f"note: test_iter {job.solver.test_iter[0]} x batch_size {batch} is not the {made.records} records of "
                         f"{source}: each test sees other ones, or some twice")
    seen = f"{', '.join(said)} records, whole, BGR, classes within num_output" if said else "none yet"
    return "\n".join([seen, *notes])


def check_mean(job: Job) -> str:
    """See that the net subtracts from its records what the predictor subtracts from pictures (D04)."""
    for layer, _ in data_layers(job):
        transform = layer.transform_param
        found, wanted = [round(value, 4) for value in transform.mean_value], list(preprocess.MEAN_BGR)
        if len(found) != COLOURS or not np.allclose(found, wanted, atol=1e-3) or transform.scale != 1 or transform.mean_file:
            raise CamError(f"{job.solver.net}: layer {layer.name} of {layer.data_param.source} has mean_value {found}, scale "
                           f"{transform.scale:g}; the predictor subtracts {wanted}: make them equal (pycam/preprocess.py)")
    return f"{', '.join(f'{value:g}' for value in preprocess.MEAN_BGR)} (BGR), as the predictor's"


# ---------------------------------------------------------------- weights
def check_fillers(given: Given) -> str:
    """Refuse to start from nothing a net whose layers name no filler."""
    bare = [layer.name for layer in given.job.net.layer
            if layer.type == "Convolution" and not layer.convolution_param.HasField("weight_filler")]
    if bare and given.start is None and not given.instead:
        raise CamError(f"{given.job.net.name}: {bare[0]} and others have no filler, they come from pretrained weights: "
                       f"give --weights (INIT= of make), or train the scratch network")
    return f"{len(bare)} layers without, they come from weights" if bare else "every convolution has one"


def check_start(net: Net, given: Given) -> str:
    """See which layers the weights fill; refuse weights that would end or spoil the training later."""
    if given.instead:
        return given.instead
    if given.start is None:
        return "none: every layer starts from its filler"
    start = engine.weights_file(given.start)
    rows = weights.compare(net.params, engine.weight_shapes(start))
    weights.check_start(rows, start)
    counts = [sum(row.state == state for row in rows) for state in (weights.COPIED, weights.FRESH)]
    return f"{start}: {counts[0]} layers copied, {counts[1]} fresh\n{weights.table(rows)}"


# ---------------------------------------------------------------- room
def count(net: Net) -> int:
    """Return the number of a net's parameters."""
    return sum(int(np.prod(shape)) for blobs in net.params.values() for shape in blobs)


def memory_needed(job: Job, training: Net, testing: Net) -> float:
    """Estimate a training's bytes: values and gradients of the training net, values of the test net, parameters."""
    copies = 2 + HISTORIES.get(job.solver.type, 1)  # values, gradients, the solver's history
    return SCRATCH * FLOAT * (2 * training.numbers + testing.numbers + copies * count(training)) + ENGINE_BYTES


def check_memory(job: Job, training: Net, testing: Net, gpu: Optional[int]) -> str:
    """Hold an estimate of what the batch needs against the memory that is free on the device."""
    needed, (free, where) = memory_needed(job, training, testing), free_memory(gpu)
    text = f"about {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free {where}"
    if needed > free:
        raise CamError(f"{text}; compute fewer pictures at a time: --batch (BATCH= of make) divides the batch, results stay the "
                       f"same")
    return text


def free_memory(gpu: Optional[int]) -> Tuple[float, str]:
    """Return the bytes that are free on a device, and its name; without bound where nobody tells."""
    if gpu is None:
        kibibytes = re.search(r"MemAvailable: *(\d+)", MEMORY.read_text() if MEMORY.exists() else "")
        return (1024.0 * int(kibibytes.group(1)) if kibibytes else np.inf), "in main memory"
    command = ["nvidia-smi", f"--id={_nvidia_id(gpu)}", "--query-gpu=memory.free,name", "--format=csv,noheader,nounits"]
    try:
        free, _, name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().partition(", ")
    except (OSError, subprocess.CalledProcessError):
        free, name = "", ""
    return (1048576.0 * int(free) if free.isdecimal() else np.inf), f"on GPU {gpu} ({name or 'nvidia-smi does not tell'})"


def _nvidia_id(gpu: int) -> str:
    """Return nvidia-smi's name of the GPU that CUDA counts as number `gpu`."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[gpu] if gpu < len(visible) else str(gpu)


def check_disk(job: Job, parameters: int) -> str:
    """Hold the size of the snapshots that are still to come against the disk."""
    state = newest_state(job.prefix)
    to_come = job.solver.max_iter - (state[0] if state else 0)
    pairs = -(-to_come // job.solver.snapshot)
    pair = FLOAT * parameters * (1 + HISTORIES.get(job.solver.type, 1))
    needed = pairs * pair + FLOAT * parameters  # and the final weights once more
    free = shutil.disk_usage(_nearest(job.prefix.parent)).free
    text = f"{pairs} snapshots of {pair / 1e6:.0f} MB, {needed / 1e9:.2f} GB; {free / 1e9:.1f} GB free in {job.prefix.parent}"
    if needed > free:
        raise CamError(f"{text}; make room, choose another --run (RUN of make), or raise snapshot: in {job.source}")
    return text


# ---------------------------------------------------------------- the engine
def check_device(tried: Probe, gpu: Optional[int], precision: str) -> str:
    """See that the engine computes on the device what numpy does."""
    error = tried.error()
    if not error <= LARGEST_ERROR[precision]:
        raise CamError(f"a convolution is wrong by {error:.1g} of its largest value: the engine was not built for this device, "
                       f"take another one (docs/docker.md)")
    return f"{'CPU' if gpu is None else f'GPU {gpu}'}: a convolution agrees with numpy to {error:.0e}"


def wanted_nets(job: Job) -> List[Wanted]:
    """Return the training and the test net of a training, with empty blobs in place of its LMDBs."""
    net = type(job.net)()
    net.CopyFrom(job.net)
    for layer in net.layer:
        if layer.type == "Data":
            batch, (height, width) = layer.data_param.batch_size, _input_size(layer)
            layer.type = "DummyData"
            for shape in ((batch, COLOURS, height, width), (batch,))[:len(layer.top)]:
                layer.dummy_data_param.shape.add().dim.extend(shape)
            layer.ClearField("data_param")
            layer.ClearField("transform_param")
    text = text_format.MessageToString(net)
    return [Wanted(text, phase, job.stage) for phase in ("TRAIN", "TEST")]


def _input_size(layer: Any) -> Tuple[int, int]:
    """Return (height, width) of what a Data layer puts out."""
    side = layer.transform_param.crop_size
    if not side and (Path(layer.data_param.source) / manifest.NAME).is_file():
        height, width = manifest.read(Path(layer.data_param.source)).shape
        return height, width
    return (side or PATCH_SIZE,) * 2

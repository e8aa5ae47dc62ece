"""What is looked at before a training: folders, records, weights. Each error says what to do."""
import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional

from data_tools import manifest
from torchcaffe.proto import caffe_pb2

from . import engine, weights
from .errors import CamError


def make_folder(folder: Path) -> None:
    """Make a folder and see that files can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CamError(f"{folder}: cannot be written ({error.strerror}); training keeps its snapshots there") from error


def check_data(net: Any, solver: Any, stage: str) -> Dict[str, str]:
    """Raise unless the stage's LMDBs are whole and fit the net; return the hashes of those that are trained on."""
    outputs = [la.inner_product_param.num_output for la in net.layer if la.type == "InnerProduct"]
    hashes = {}
    for layer in net.layer:
        if layer.type != "Data" or not any(stage in rule.stage for rule in layer.include):
            continue
        source = layer.data_param.source
        made = manifest.read(Path(source))
        if outputs and len(made.per_class) > outputs[-1]:
            raise CamError(f"{source}: {len(made.per_class)} classes, the net has {outputs[-1]} outputs")
        if any(rule.phase == caffe_pb2.TRAIN for rule in layer.include):
            hashes[Path(source).name] = made.data_sha256
        elif solver.test_iter and solver.test_iter[0] * layer.data_param.batch_size != made.records:
            print(f"note: test_iter {solver.test_iter[0]} x batch_size {layer.data_param.batch_size} is not the "
                  f"{made.records} records of {source}: each test sees other ones, or some twice", file=sys.stderr)
    return hashes


def check_start(caffe: Any, net: Any, net_text: str, stage: str, start: Optional[Path]) -> None:
    """Raise a CamError for weights that would end or spoil the training later; print what the weights fill."""
    fillers = [la for la in net.layer if la.type == "Convolution" and not la.convolution_param.HasField("weight_filler")]
    if start is None:
        if fillers:
            raise CamError(f"{net.name}: {fillers[0].name} and others have no filler, they come from pretrained weights: "
                           f"give --weights (INIT= of make), or train the scratch network")
        return
    name = "caffe" if caffe.__name__ == "caffe" else "torch"
    rows = weights.compare(weights.training_shapes(name, net_text, stage), engine.weight_shapes(start))
    print(weights.table(rows), file=sys.stderr)
    weights.check_start(rows, start)

"""Time the Data layer alone, and the share of a training that waits for it: JPEG pictures of 256 x 256, random crops and mirrors.

example: python benchmarks/feeding.py --json benchmarks/results/feeding.json
"""
import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Dict

import cv2
import lmdb
import numpy as np
from speed import ROOT, about

import torchcaffe as caffe
from torchcaffe.proto import caffe_pb2

os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112  (glog spells it so)
PICTURES, BATCH = 400, 16
DATA = """layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ mirror: true crop_size: 224 mean_value: 104 mean_value: 117 mean_value: 124 }}
  data_param {{ source: "{}" batch_size: {} backend: LMDB }} }}
"""
SOLVER = 'net: "{}" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 train_state {{ stage: "stage1" }}'


def write_lmdb(path: Path) -> None:
    """Write smooth noise as JPEG Datums."""
    rng = np.random.RandomState(0)
    env = lmdb.open(str(path), map_size=1 << 30)
    with env.begin(write=True) as txn:
        for i in range(PICTURES):
            picture = cv2.resize(rng.randint(0, 256, (32, 32, 3), np.uint8), (256, 256))
            data = cv2.imencode(".jpg", picture)[1].tobytes()
            datum = caffe_pb2.Datum(channels=3, height=256, width=256, encoded=True, data=data, label=i % 3)
            txn.put(f"{i:08d}".encode(), datum.SerializeToString())
    env.close()


def write_net(folder: Path, rest: str) -> Path:
    """Write a net that begins with the Data layer; return its path."""
    path = folder / "net.prototxt"
    path.write_text(DATA.format(folder / "lmdb", BATCH) + rest)
    return path


def alone(folder: Path, batches: int) -> float:
    """Return how many pictures a second the layer gives when nothing else runs."""
    silence = 'layer { name: "end" type: "Silence" bottom: "data" bottom: "label" }'
    net = caffe.Net(str(write_net(folder, silence)), caffe.TRAIN)
    for _ in range(5):  # what was read ahead
        net.forward()
    start = time.perf_counter()
    for _ in range(batches):
        net.forward()
    return batches * BATCH / (time.perf_counter() - start)


def share_of_waiting(folder: Path, iterations: int) -> Dict[str, float]:
    """Return how long a training of the narrow network takes, and how much of that it waits for batches."""
    text = (ROOT / "prototxt/vgg_gap_narrow_train_val.prototxt").read_text()
    net = write_net(folder, text[text.index('layer {\n  name: "conv1_1"'):])
    (folder / "solver.prototxt").write_text(SOLVER.format(net))
    solver = caffe.get_solver(str(folder / "solver.prototxt"))
    layer, waited = solver.net.layers[0], 0.0
    forward = layer.forward

    def timed(*args: Any) -> None:
        nonlocal waited
        start = time.perf_counter()
        forward(*args)
        waited += time.perf_counter() - start
    layer.forward = timed
    solver.step(2)
    waited, start = 0.0, time.perf_counter()
    solver.step(iterations)
    total = time.perf_counter() - start
    return {"seconds": total, "seconds waited": waited, "share": waited / total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--json", type=Path, help="store the numbers there")
    args = parser.parse_args()
    result: Dict[str, Any] = {"about": about()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lmdb(folder / "lmdb")
        result["pictures a second, alone"] = alone(folder, args.iterations)
        result["training"] = share_of_waiting(folder, args.iterations)
    print(f"Data layer alone: {result['pictures a second, alone']:.0f} pictures/s")
    print("narrow network, batch {}: waits {:.1%} of the time (must be <= 5 %)".format(BATCH, result["training"]["share"]))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

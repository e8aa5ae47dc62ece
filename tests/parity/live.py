"""Run the cases on one engine and store what it gives: `python -m tests.parity.live ENGINE FOLDER first,second OUT.npz`.

The same program runs on both engines, real Caffe's in a Python of its own, since Caffe ends the process on bad input.
FOLDER is one that `prepare` filled.
"""

import importlib
import os
import subprocess
import sys
import zlib
from typing import Any, Dict, List, Optional

import numpy as np

from . import cases

Arrays = Dict[str, np.ndarray]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNELS = {"NEHALEM": {"sse4_2"}, "SANDYBRIDGE": {"avx"}, "HASWELL": {"avx2", "fma"},  # a kernel -> the instructions it needs
           "SKYLAKEX": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}}


def error(found: Any, wanted: Any) -> float:
    """Return the largest difference relative to the largest value."""
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12)) if wanted.size else 0.0


def kernels(*names: str) -> List[str]:
    """Return those of some kernels of OpenBLAS that this processor has the instructions for; others end Caffe by a signal."""
    with open("/proc/cpuinfo") as file:
        flags = set(file.read().split())
    return [name for name in names if KERNELS[name.upper()] <= flags]


def environment(**more: str) -> Dict[str, str]:
    """Return the environment for real Caffe: one thread and, where the processor can, the BLAS kernel that torchcaffe follows."""
    kernel = {"OPENBLAS_CORETYPE": "HASWELL"} if kernels("HASWELL") else {}
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return {**inherited, "GLOG_minloglevel": "2", "OPENBLAS_NUM_THREADS": "1", **kernel, **more}


# ------------------------------------------------------------ files that both engines read
def _write(path: str, text: str) -> str:
    """Write a text file and return its path."""
    with open(path, "w") as file:
        file.write(text)
    return path


def _pictures() -> np.ndarray:
    """Return small pictures N x 3 x 20 x 20, uint8, whose colour depends on their class, the number modulo 3."""
    random, colours = np.random.RandomState(5), np.array([[90, 120, 150], [150, 100, 90], [110, 140, 100]])
    classes = np.arange(cases.RECORDS) % 3
    noise = random.randn(cases.RECORDS, 3, 20, 20) * 70
    return np.clip(colours[classes][:, :, None, None] + noise, 0, 255).astype(np.uint8)


def _write_lmdb(folder: str, datums: List[Any]) -> None:
    import lmdb
    with lmdb.open(folder, map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for i, datum in enumerate(datums):
            transaction.put(b"%08d" % i, datum.SerializeToString())


def _write_pictures(folder: str, pb: Any) -> None:
    """Write LMDBs, raw and JPEG, picture files with a list of them, and a mean."""
    import cv2
    pictures = _pictures()
    _write_lmdb(os.path.join(folder, "lmdb"), [
        pb.Datum(channels=3, height=20, width=20, data=x.tobytes(), label=i % 3) for i, x in enumerate(pictures)])
    files = [cv2.imencode(".jpg", x.transpose(1, 2, 0))[1].tobytes() for x in pictures]
    _write_lmdb(os.path.join(folder, "lmdb_jpg"), [
        pb.Datum(data=data, encoded=True, label=i % 3) for i, data in enumerate(files)])
    for i, data in enumerate(files):
        with open(os.path.join(folder, f"{i}.jpg"), "wb") as file:
            file.write(data)
    _write(os.path.join(folder, "files.txt"), "".join(f"{i}.jpg {i % 3}\n" for i in range(len(files))))
    _write_hdf5(folder)
    matrix = pb.BlobProto(num=1, channels=1, height=4, width=4, data=np.random.RandomState(4).rand(16))
    with open(os.path.join(folder, "infogain.binaryproto"), "wb") as file:
        file.write(matrix.SerializeToString())
    mean = pb.BlobProto(num=1, channels=3, height=20, width=20, data=pictures.mean(0).ravel())
    with open(os.path.join(folder, "mean.binaryproto"), "wb") as file:
        file.write(mean.SerializeToString())


def _write_hdf5(folder: str) -> None:
    """Write two HDF5 files, of five rows and of two, and their list."""
    import h5py
    random = np.random.RandomState(8)
    paths = [os.path.join(folder, f"{rows}.h5") for rows in (5, 2)]
    for path, rows in zip(paths, (5, 2)):
        with h5py.File(path, "w") as file:
            file["data"], file["label"] = random.randn(rows, 3, 4).astype(np.float32), np.arange(rows, dtype=np.float64)
    _write(os.path.join(folder, "hdf5.txt"), "\n".join(paths))


def _solver(folder: str, name: str, fields: str, transform: str, iterations: int) -> None:
    """Write a solver and its net; one solver file an engine, as the snapshots go beside each other."""
    source = os.path.join(folder, "lmdb")
    net = _write(os.path.join(folder, name + "_net.prototxt"), cases.NET.format(source=source, transform=transform))
    for engine in ("caffe", "torchcaffe"):
        more = "" if "max_iter" in fields else f" max_iter: {iterations}"
        _write(os.path.join(folder, f"{name}_{engine}.prototxt"),
               f'net: "{net}" {fields}{more} random_seed: 7 display: 0 snapshot_after_train: false solver_mode: CPU '
               f'snapshot: 10 snapshot_prefix: "{folder}/{name}_{engine}"\n')


def prepare(folder: str) -> None:
    """Write pictures, nets, solvers and the weights that all runs start from."""
    import torchcaffe
    _write_pictures(folder, torchcaffe.proto.caffe_pb2)
    for name, (fields, iterations) in cases.SOLVERS.items():
        _solver(folder, name, fields, "crop_size: 16 mirror: true", iterations)
    for name, fields in cases.RESUMED.items():
        _solver(folder, "resumed_" + name, fields, "", 20)
    random = np.random.RandomState(11)
    net = torchcaffe.Net(os.path.join(folder, "SGD_net.prototxt"), torchcaffe.TEST)
    for blobs in net.params.values():
        for blob in blobs:
            fan = max(1, int(np.prod(blob.shape[1:])))
            blob.data[...] = random.randn(*blob.shape) * (np.sqrt(2 / fan) if len(blob.shape) > 1 else 0.1)
    net.save(os.path.join(folder, "start.caffemodel"))


# ------------------------------------------------------------ what an engine does with them
def run_layer(caffe: Any, name: str, folder: str) -> Arrays:
    """Return outputs and gradients of one layer, for random input, parameters and top gradients."""
    case, random = cases.LAYERS[name], np.random.RandomState(zlib.crc32(name.encode()))
    inputs = [draw(random) for draw in case.inputs]
    text = cases.layer_net(case, [x.shape for x in inputs]).replace("FOLDER", folder)
    path = _write(os.path.join(folder, "layer.prototxt"), text)
    net = caffe.Net(path, getattr(caffe, case.phase))
    for i, x in enumerate(inputs):
        net.blobs[f"x{i}"].data[...] = x
    for blob in net.params.get("layer", []):
        draw = random.rand if case.positive else random.randn
        blob.data[...] = draw(*blob.data.shape) * 0.5 + 0.1 * case.positive
    net.forward()
    found = {f"forward:{top}": net.blobs[top].data.copy() for top in net.outputs}
    found.update({f"forward:param{i}": b.data.copy() for i, b in enumerate(net.params.get("layer", []))})
    if case.phase == "TRAIN":
        found.update(_gradients(net, random))
    return found


def _gradients(net: Any, random: np.random.RandomState) -> Arrays:
    for top in net.outputs:
        if not net.blob_loss_weights[top]:
            net.blobs[top].diff[...] = random.randn(*net.blobs[top].data.shape)
    net.clear_param_diffs()
    net.backward()
    found = {f"backward:param{i}": b.diff.copy() for i, b in enumerate(net.params.get("layer", []))}
    found.update({f"backward:{x}": net.blobs[x].diff.copy() for x in net.inputs if _has_gradient(net, x)})
    return found


def _has_gradient(net: Any, name: str) -> bool:
    kind = net.layers[len(net.layers) - 1].type
    if kind == "ContrastiveLoss":
        return name != "x2"
    return name == "x0" or kind not in ("SoftmaxWithLoss", "InfogainLoss", "HingeLoss", "SigmoidCrossEntropyLoss", "Crop")


def run_data(caffe: Any, name: str, folder: str) -> Arrays:
    """Return three batches of a data layer."""
    text, phase = cases.DATA[name]
    layer = 'layer { name: "data" top: "data" top: "label" ' + text.format(folder=folder) + " }"
    caffe.set_random_seed(1234)
    net = caffe.Net(_write(os.path.join(folder, "data.prototxt"), layer), getattr(caffe, phase))
    found: Dict[str, List[np.ndarray]] = {"data": [], "label": []}
    for _ in range(3):
        net.forward()
        for blob, batches in found.items():
            batches.append(net.blobs[blob].data.copy())
    return {blob: np.concatenate(batches) for blob, batches in found.items()}


def train(solver: Any, iterations: int) -> Arrays:
    """Return the loss of each iteration and the weights at the end."""
    losses = []
    for _ in range(iterations):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    found = {"loss": np.array(losses)}
    found.update({f"weights:{name}{i}": b.data.copy() for name, bs in solver.net.params.items() for i, b in enumerate(bs)})
    return found


def run_solvers(caffe: Any, engine: str, folder: str) -> Arrays:
    """Return what the six solvers give from the same weights and pictures, and the straight runs to iteration 20."""
    found: Arrays = {}
    runs = {name: iterations for name, (_, iterations) in cases.SOLVERS.items()}
    runs.update({"resumed_" + name: 20 for name in cases.RESUMED})
    for name, iterations in runs.items():
        solver = caffe.get_solver(os.path.join(folder, f"{name}_{engine}.prototxt"))
        solver.net.copy_from(os.path.join(folder, "start.caffemodel"))
        found.update({f"train/{name}/{k}": v for k, v in train(solver, iterations).items()})
    return found


def resume(caffe: Any, engine: str, folder: str, source: str) -> Arrays:
    """Return what follows when this engine goes on from another's state at iteration 10."""
    found: Arrays = {}
    for name in cases.RESUMED:
        solver = caffe.get_solver(os.path.join(folder, f"resumed_{name}_{engine}.prototxt"))
        solver.restore(os.path.join(folder, f"resumed_{name}_{source}_iter_10.solverstate"))
        found.update({f"resume/{name}/{source}/{k}": v for k, v in train(solver, 10).items()})
    return found


def score(caffe: Any, folder: str, weights: str) -> Arrays:
    """Return parameters and probabilities of the small net with somebody's weights."""
    net = caffe.Net(os.path.join(folder, "SGD_net.prototxt"), caffe.TEST, weights=os.path.join(folder, weights))
    net.blobs["data"].data[...] = np.random.RandomState(3).randn(4, 3, 16, 16)
    found = {f"{name}{i}": b.data.copy() for name, bs in net.params.items() for i, b in enumerate(bs)}
    found["prob"] = net.forward()["prob"].copy()
    return {f"weights/{weights}/{k}": v for k, v in found.items()}


def run_python(caffe: Any) -> Arrays:
    """Return what the parts of pycaffe that need no net give: io and NetSpec."""
    random = np.random.RandomState(9)
    picture, mean = random.rand(11, 17, 3).astype(np.float32), random.rand(3, 5, 6) * 100
    found = {f"resize_{h}x{w}": caffe.io.resize_image(picture, (h, w)) for h, w in ((7, 9), (22, 30), (11, 8))}
    found["resize_channels"] = caffe.io.resize_image(random.rand(8, 9, 5).astype(np.float32), (12, 5))
    found["oversample"] = caffe.io.oversample([picture, picture[::-1]], (6, 8))
    found.update(_cropped(caffe))
    transformer = caffe.io.Transformer({"data": (1, 3, 10, 12)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", mean)
    transformer.set_input_scale("data", 0.017)
    found["preprocess"] = transformer.preprocess("data", picture.copy())
    found["deprocess"] = transformer.deprocess("data", found["preprocess"])
    found["net_spec"] = np.frombuffer(_lenet(caffe).SerializeToString(), np.uint8)
    return {f"python/{k}": v for k, v in found.items()}


def _cropped(caffe: Any) -> Arrays:
    """Return what coord_map makes of a net that shrinks and grows again, as those for segmentation do."""
    coord_map, make, n = importlib.import_module(caffe.__name__ + ".coord_map"), caffe.layers, caffe.NetSpec()
    n.data = make.Input(shape={"dim": [1, 3, 50, 60]})
    n.conv = make.ReLU(make.Convolution(n.data, kernel_size=3, pad=100, num_output=2), in_place=True)
    n.pool = make.Pooling(n.conv, kernel_size=2, stride=2)
    n.wide = make.Convolution(n.pool, num_output=2, kernel_size=4, dilation=2)
    n.up = make.Deconvolution(n.wide, convolution_param={"num_output": 2, "kernel_size": 4, "stride": 2, "bias_term": False})
    n.score = coord_map.crop(n.up, n.data)
    n.fused = make.Eltwise(n.score, coord_map.crop(n.conv, n.data))
    axis, scale, shift = coord_map.coord_map_from_to(n.wide, n.data)
    return {"coord_map_net": np.frombuffer(n.to_proto().SerializeToString(), np.uint8),
            "coord_map": np.concatenate([[axis], np.ravel(scale), np.ravel(shift)])}


def _lenet(caffe: Any) -> Any:
    make, values, n = caffe.layers, caffe.params, caffe.NetSpec()
    n.data, n.label = make.DummyData(shape=[{"dim": [4, 1, 28, 28]}, {"dim": [4]}], ntop=2)
    n.conv = make.Convolution(n.data, kernel_size=5, num_output=20, weight_filler={"type": "xavier"}, param=[{"lr_mult": 2}])
    n.pool = make.Pooling(make.ReLU(n.conv, in_place=True), kernel_size=2, stride=2, pool=values.Pooling.AVE)
    n.sum = make.Eltwise(make.Power(n.pool, scale=2), make.Power(n.pool, scale=3), operation=values.Eltwise.SUM, coeff=[1, 2])
    n.loss = make.SoftmaxWithLoss(make.InnerProduct(n.sum, num_output=10), n.label, loss_weight=0.5)
    n.quiet = make.Silence(n.label, ntop=0)
    return n.to_proto()


def save_weights(caffe: Any, engine: str, folder: str) -> None:
    """Write random weights as .caffemodel and as HDF5."""
    net = caffe.Net(os.path.join(folder, "SGD_net.prototxt"), caffe.TEST)
    random = np.random.RandomState(len(engine))
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.randn(*blob.data.shape) * 0.3
    net.save(os.path.join(folder, engine + ".caffemodel"))
    net.save_hdf5(os.path.join(folder, engine + ".caffemodel.h5"))


def first(caffe: Any, engine: str, folder: str) -> Arrays:
    """Do what needs nothing from the other engine."""
    caffe.set_mode_cpu()
    save_weights(caffe, engine, folder)
    found = {f"layer/{name}/{k}": v for name in cases.LAYERS for k, v in run_layer(caffe, name, folder).items()}
    found.update({f"data/{name}/{k}": v for name in cases.DATA for k, v in run_data(caffe, name, folder).items()})
    found.update(run_solvers(caffe, engine, folder))
    found.update(run_python(caffe))
    return found


def second(caffe: Any, engine: str, folder: str) -> Arrays:
    """Go on from what both engines wrote."""
    found: Arrays = {}
    for source in ("caffe", "torchcaffe"):
        found.update(resume(caffe, engine, folder, source))
        for end in (".caffemodel", ".caffemodel.h5"):
            found.update(score(caffe, folder, source + end))
    return found


def run_caffe(python: str, folder: str, kernel: Optional[str] = None, parts: str = "first,second") -> Arrays:
    """Run parts in real Caffe's Python, optionally with another kernel of its BLAS; return the results."""
    out = os.path.join(folder, "caffe.npz")
    command = [python, "-m", "tests.parity.live", "caffe", folder, parts, out]
    more = {"OPENBLAS_CORETYPE": kernel} if kernel else {}
    done = subprocess.run(command, cwd=ROOT, env=environment(**more), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"real Caffe ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-3000:]}")
    with np.load(out) as arrays:
        return dict(arrays)


def compare(python: str, folder: str) -> Dict[str, Arrays]:
    """Return the results of both engines."""
    import torchcaffe
    prepare(folder)
    ours = first(torchcaffe, "torchcaffe", folder)
    theirs = run_caffe(python, folder)
    ours.update(second(torchcaffe, "torchcaffe", folder))
    return {"torchcaffe": ours, "caffe": theirs}


def main(argv: List[str]) -> None:
    """Run parts on an engine and store the results."""
    engine, folder, parts, out = argv
    caffe = importlib.import_module(engine)
    found: Arrays = {}
    for part in parts.split(","):
        found.update({"first": first, "second": second, "trainings": run_solvers}[part](caffe, engine, folder))
    np.savez(out, **found)


if __name__ == "__main__":
    main(sys.argv[1:])

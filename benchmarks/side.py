"""One side of a timing: set up a network in an engine, then run a step for each line on standard input and print its seconds.

`speed.py` starts it, in the Python of the engine. After the last line it prints the largest memory that the process had.
"""
import argparse
import os
import resource
import sys
import time
from typing import Any, Callable, Tuple

import numpy as np

os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112  (glog spells it so)


def batch(args: argparse.Namespace) -> Tuple[Any, Any]:
    """Return N pictures around 0 and N labels, the same on each side."""
    pictures = np.random.RandomState(0).standard_normal((args.batch, *args.shape)) * (1 if args.net else 50)
    return pictures.astype(np.float32), (np.arange(args.batch) % args.classes).astype(np.float32)


def pycaffe(args: argparse.Namespace) -> Callable[[], Any]:
    """Return a step of Caffe or torchcaffe."""
    if args.side == "caffe":
        import caffe
    else:
        import torchcaffe as caffe
        caffe.set_precision(args.precision)
    if args.gpu:
        caffe.set_mode_gpu()
    data, labels = batch(args)
    if args.mode == "forward":
        net = caffe.Net(args.text, caffe.TEST)
        net.blobs["data"].reshape(*data.shape)
        net.reshape()
        net.blobs["data"].data[...] = data
        net.frugal = True  # as `pycam predict` does; real Caffe ignores it
        if args.side == "torchcaffe":
            from torchcaffe import heap
            net.forward()
            heap.keep()  # as `torchcaffe test` does
        return net.forward  # type: ignore[no-any-return]
    if args.side == "caffe":
        solver = caffe.get_solver(args.text)
    else:  # as `torchcaffe train` does
        from torchcaffe import heap
        solver = caffe.get_solver(args.text, frugal=True)
        solver.add_callback(lambda: None, heap.keep)
    if not args.lmdb:
        solver.net.blobs["data"].data[...], solver.net.blobs["label"].data[...] = data, labels
    return lambda: solver.step(1)


def handwritten(args: argparse.Namespace) -> Callable[[], Any]:
    """Return a step of the plain PyTorch loop."""
    import torch
    from handwritten import Predictor, Trainer
    low, device = args.precision == "bf16", "cuda" if args.gpu else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    data, labels = batch(args)
    if args.net:
        from handwritten_small import one_batch, predictor, records, trainer

        from torchcaffe import heap
        heap.keep()  # what is compared is the work around torch's kernels, not malloc's settings
        layout = getattr(torch, args.layout)
        if args.mode == "forward":
            return predictor(args.net, data, layout)
        fed = records(args.lmdb, args.batch, args.scale, layout) if args.lmdb else one_batch(data, labels, layout)
        return trainer(args.net, fed, layout)
    if args.mode == "forward":
        return Predictor(data, low, device).step
    return Trainer(data, labels, args.mode == "finetune", low, device).step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("side", choices=("caffe", "torchcaffe", "hand"))
    parser.add_argument("mode", choices=("finetune", "all", "forward", "lmdb"))
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--text", help="solver or deploy prototxt")
    parser.add_argument("--net", help="a net of handwritten_small.py")
    parser.add_argument("--lmdb", help="where the hand-written loop reads; a solver's net names its own")
    parser.add_argument("--scale", type=float, default=1, help="of its values")
    parser.add_argument("--layout", default="channels_last", help="of its pictures and weights in memory")
    parser.add_argument("--shape", type=int, nargs=3, default=[3, 224, 224])
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=1, help="steps a measurement")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    args = parser.parse_args()
    step = (handwritten if args.side == "hand" else pycaffe)(args)
    clock = time.process_time if args.cpu_time else time.perf_counter
    for _ in sys.stdin:
        step()  # wakes the threads up
        start = clock()
        for _ in range(args.repeat):
            step()
        if args.gpu:
            import torch
            torch.cuda.synchronize()
        print(clock() - start, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


if __name__ == "__main__":
    main()

"""Several processes that train one net, each on its GPU and its own records (Caffe's NCCL mode, parallel.cpp).

The processes find each other through the variables that torchrun sets; ``-gpu 0,1`` starts them without torchrun. N processes
with batches of B take the same steps as one with batches of N * B: each reads every N-th record, and gradients and losses are
averaged. Dropout draws different numbers in each process. Only rank 0 tests, logs and writes snapshots.
"""
import contextlib
import datetime
import os
import socket
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List

import torch
import torch.distributed as dist

from . import context
from .errors import CaffeError

PATIENCE = datetime.timedelta(days=1)  # the others wait while rank 0 tests
QUIET = "4"  # no log lines from the other ranks
CHOICES = ("none", "snapshot", "stop")  # actions that a signal may request, in rising order of strength


def launched() -> bool:
    """Return whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def devices(gpu: str) -> List[int]:
    """Return the GPUs of a -gpu flag: none, numbers separated by commas, or all."""
    if not gpu:
        return []
    if gpu == "all":
        found = list(range(torch.cuda.device_count()))
        if not found:
            raise CaffeError("-gpu all: PyTorch sees no CUDA device; leave -gpu out for the CPU")
        return found
    if not all(part.isdecimal() and len(part) < 10 for part in gpu.split(",")):
        raise CaffeError(f"-gpu is {gpu!r}; give a number, numbers separated by commas, or all")
    return [int(part) for part in gpu.split(",")]


def join(gpus: List[int]) -> str:
    """Meet the other processes; return which of this machine's `gpus` is this one's, nothing for the CPU."""
    rank, count, place = (int(os.environ.get(name) or 0) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if gpus and place >= len(gpus):
        raise CaffeError(f"-gpu names {len(gpus)} GPUs, this is process {place + 1} on this machine; name one for each process")
    alone = len(set(gpus)) == len(gpus)  # NCCL refuses two processes on one GPU
    with _peers():
        dist.init_process_group("nccl" if gpus and alone else "gloo", timeout=PATIENCE)
    context.set_solver_rank(rank)
    context.set_solver_count(count)
    if rank:
        os.environ["GLOG_minloglevel"] = QUIET  # noqa: SIM112  (glog spells it so)
    return str(gpus[place]) if gpus else ""


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise CaffeError(f"rank {os.environ['RANK']}: lost the other processes: {str(error).splitlines()[0][:200]}") from None


class Team:
    """Keeps the solvers of all processes in step."""

    def __init__(self) -> None:
        self.count = dist.get_world_size()
        with _peers():
            self._signals = dist.new_group(backend="gloo", timeout=PATIENCE)  # numbers of the host: no wait for a GPU

    def share(self, net: Any) -> None:
        """Give the parameters of all processes the values that they have in rank 0."""
        with _peers():
            for layer in net._engine:
                for blob in layer.blobs:
                    dist.broadcast(blob.tensor, 0)

    def mean(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the mean of a loss over all processes."""
        total = loss.detach().clone()
        with _peers():
            dist.all_reduce(total)
        return total / self.count

    def average_gradients(self, net: Any) -> None:
        """Replace the gradients by their means over all processes."""
        grads = [q.blob.grad for q in net.learnable if q.lr_mult]
        if not grads:
            return
        whole = torch.cat([g.reshape(-1) for g in grads])
        with _peers():
            dist.all_reduce(whole)
        pieces = torch.split(whole / self.count, [g.numel() for g in grads])
        torch._foreach_copy_(grads, [piece.view(g.shape) for piece, g in zip(pieces, grads)])

    def agree(self, request: str) -> str:
        """Return the strongest request of a signal to any process, so that all stop at the same iteration."""
        level = torch.tensor(CHOICES.index(request))
        with _peers():
            dist.all_reduce(level, dist.ReduceOp.MAX, group=self._signals)
        return CHOICES[int(level)]


# ---------------------------------------------------------------- without torchrun
def start(words: List[str], count: int) -> None:
    """Run a command in `count` processes that find each other; raise CaffeError when one of them fails, and end the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [subprocess.Popen(words, env={**common, "RANK": str(i), "LOCAL_RANK": str(i)}) for i in range(count)]
    try:
        _watch(dict(enumerate(ranks)))
    finally:
        for process in ranks:
            process.kill()
            process.wait()


def _watch(running: Dict[int, Any]) -> None:
    count = len(running)
    while running:
        for rank, process in list(running.items()):
            try:
                status = process.poll()
                if status:
                    raise CaffeError(f"rank {rank} of {count} ended with exit status {status}; the others were stopped")
                if status == 0:
                    del running[rank]
            except KeyboardInterrupt:  # reached them too: they stop by themselves, with a snapshot
                continue
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(0.05)


def command(argv: List[str]) -> List[str]:
    """Return the words that run torchcaffe's command line with these arguments."""
    return [sys.executable, "-m", "torchcaffe", *argv]

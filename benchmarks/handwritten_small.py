"""Classic small nets as plain PyTorch, written by hand: what torchcaffe is held against in small_nets.py."""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

import lmdb
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def lenet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(800, 500), nn.ReLU(inplace=True), nn.Linear(500, 10))


def cifar_quick() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(inplace=True),
        nn.Conv2d(32, 32, 5, padding=2), nn.ReLU(inplace=True), nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(inplace=True), nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Flatten(), nn.Linear(1024, 64), nn.Linear(64, 10))


def narrow() -> nn.Module:
    layers, channels = [], 3
    for block, widths in enumerate(((8, 8), (16, 16), (32, 32, 32), (64, 64, 64), (64, 64, 64, 128))):
        for at, width in enumerate(widths):
            layers += [nn.Conv2d(channels, width, 3, padding=0 if block == 4 and at >= 2 else 1), nn.ReLU(inplace=True)]
            channels = width
        if block < 4:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


class _Block(nn.Module):
    """Two convolutions and what goes around them."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.short = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)), inplace=True)))
        return F.relu(y + (x if self.short is None else self.short(x)), inplace=True)


def resnet20() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    inputs = 16
    for width in (16, 32, 64):
        for block in range(3):
            layers.append(_Block(inputs, width, 2 if width > 16 and block == 0 else 1))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


MODELS: Dict[str, Callable[[], nn.Module]] = {
    "lenet": lenet, "cifar_quick": cifar_quick, "narrow": narrow, "resnet20": resnet20}


Batches = Callable[[], Tuple[Tensor, Tensor]]


def one_batch(data: Any, labels: Any, layout: torch.memory_format) -> Batches:
    """Return a function that always gives the same pictures, laid out beforehand, and labels."""
    found = torch.from_numpy(data).to(memory_format=layout), torch.from_numpy(labels).long()
    return lambda: found


def records(path: Path, batch: int, scale: float, layout: torch.memory_format) -> Batches:
    """Return a function that gives the next batch of an LMDB of raw records, which a thread reads beforehand."""
    from torchcaffe.proto import caffe_pb2

    def endless() -> Iterator[Any]:
        with lmdb.open(str(path), readonly=True, lock=False).begin() as view:
            while True:
                yield from view.cursor().iternext(keys=False, values=True)

    def read() -> Tuple[Tensor, Tensor]:
        datums = [caffe_pb2.Datum.FromString(next(values)) for _ in range(batch)]
        pictures = np.stack([np.frombuffer(d.data, np.uint8).reshape(d.channels, d.height, d.width) for d in datums])
        x = torch.from_numpy(pictures).to(dtype=torch.float32, memory_format=layout).mul_(scale)
        return x, torch.tensor([d.label for d in datums])

    def following() -> Tuple[Tensor, Tensor]:
        waiting.append(pool.submit(read))
        return waiting.pop(0).result()
    values, pool = endless(), ThreadPoolExecutor(1)
    waiting = [pool.submit(read)]
    return following


def trainer(name: str, batches: Batches, layout: torch.memory_format) -> Callable[[], None]:
    """Return a step of SGD with momentum and weight decay."""
    model = MODELS[name]().train().to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)

    def step() -> None:
        x, y = batches()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return step


def predictor(name: str, data: Any, layout: torch.memory_format) -> Callable[[], None]:
    """Return a forward pass."""
    model = MODELS[name]().eval().to(memory_format=layout)
    x = torch.from_numpy(data).to(memory_format=layout)

    @torch.inference_mode()
    def step() -> None:
        F.softmax(model(x), 1)
    return step

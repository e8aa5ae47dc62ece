"""The full VGG-GAP as a plain PyTorch loop, written by hand in the fastest form that we know: what torchcaffe is held against.

Channels last, ReLU in place, no gradient below the lowest trained layer, one fused update; bf16 is autocast around the
forward pass with float32 weights, or a bfloat16 copy of the model for inference.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512, 1024))
FROZEN = 4  # blocks that fine-tuning leaves as they are (D10)


def vgg_gap(classes: int = 3) -> nn.Sequential:
    """Return the network up to its scores; the last two convolutions have no padding."""
    layers, channels = [], 3
    for block, widths in enumerate(WIDTHS):
        for at, width in enumerate(widths):
            padding = 0 if block == 4 and at >= 2 else 1
            layers += [nn.Conv2d(channels, width, 3, padding=padding), nn.ReLU(inplace=True)]
            channels = width
        if block < 4:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels, classes))


class Trainer:
    """Trains, with SGD as Caffe's solver files say."""

    def __init__(self, data: Any, labels: Any, finetune: bool, low: bool, device: str = "cpu") -> None:
        self.model = vgg_gap().train().to(device, memory_format=torch.channels_last)
        if finetune:
            pools = [i for i, layer in enumerate(self.model) if isinstance(layer, nn.MaxPool2d)]
            self.model[:pools[FROZEN - 1]].requires_grad_(False)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)
        self.data = torch.from_numpy(data).to(device, memory_format=torch.channels_last)
        self.labels, self.low, self.device = torch.from_numpy(labels).long().to(device), low, device
        self.run = torch.compile(self.model) if device == "cuda" else self.model  # on a CPU it gives nothing

    def step(self) -> None:
        """Take one step."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.low):
            scores = self.run(self.data)
        F.cross_entropy(scores.float(), self.labels).backward()
        self.optimizer.step()


class Predictor:
    """Runs forward only."""

    def __init__(self, data: Any, low: bool, device: str = "cpu") -> None:
        kind = torch.bfloat16 if low else torch.float32
        self.model = vgg_gap().eval().to(device, kind, memory_format=torch.channels_last)
        self.data = torch.from_numpy(data).to(device, kind, memory_format=torch.channels_last)

    @torch.inference_mode()
    def step(self) -> None:
        """Compute the probabilities of the batch."""
        self.probs = F.softmax(self.model(self.data).float(), 1)

"""pycaffe's Timer."""
import time

import torch


class Timer:
    """Measures the milliseconds between `start` and `stop`; waits for the GPU's work if there is a GPU."""

    ms = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._began = _now()

    def stop(self) -> None:
        """End; the time is in `ms`."""
        self.ms = (_now() - self._began) * 1e3


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

"""Products, sums and functions of random shapes in real Caffe's Python: `python -m tests.parity.blas_cases OUT.npz`.

Its numpy hands them to the BLAS that Caffe uses, its libm is Caffe's. Whoever compares draws the same arrays again.
"""

import ctypes
import sys
from typing import Dict, Iterator, Tuple

import numpy as np

COUNT, SEED = 250, 9
# no length is 1: numpy does not call sgemm then
SIDES = [2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 23, 24, 27, 36, 44, 64, 108]
LENGTHS = [2, 3, 5, 8, 9, 16, 27, 49, 64, 72, 100, 144, 196, 320, 321, 400, 576, 641, 784, 1000, 4100]
FUNCTIONS = {"exp": ("expf", -20, 3), "log": ("logf", 1e-6, 4), "root": ("powf", 0, 9), "square": ("powf", 0, 9)}
EXPONENTS = {"root": 0.5, "square": 2.0}


def shapes() -> Iterator[Tuple[str, np.ndarray, np.ndarray]]:
    """Yield a name and the two factors of each case, float32."""
    r = np.random.RandomState(SEED)
    for i in range(COUNT):
        n, m, k = int(r.choice(SIDES)), int(r.choice(LENGTHS)), int(r.choice(LENGTHS))
        yield f"{i} {n} x {k} x {m}", r.randn(n, k).astype(np.float32), r.randn(k, m).astype(np.float32)


def arguments(name: str) -> np.ndarray:
    """Return the values that a function is tried on."""
    low, high = FUNCTIONS[name][1:]
    return np.random.RandomState(SEED).uniform(low, high, 20000).astype(np.float32)


def _apply(name: str, values: np.ndarray) -> np.ndarray:
    function = getattr(ctypes.CDLL("libm.so.6"), FUNCTIONS[name][0])
    more = [ctypes.c_float(EXPONENTS[name])] if name in EXPONENTS else []
    function.restype = ctypes.c_float
    return np.array([function(ctypes.c_float(v), *more) for v in values.tolist()], np.float32)


def wanted() -> Dict[str, np.ndarray]:
    """Return what BLAS and libm make of them."""
    found = {name: _apply(name, arguments(name)) for name in FUNCTIONS}
    for name, a, b in shapes():
        ones = np.ones(len(b), np.float32)
        found.update({f"{name} product": a.dot(b), f"{name} transposed": a.dot(np.ascontiguousarray(b.T).T),
                      f"{name} rows": a.dot(ones), f"{name} columns": b.T.dot(ones),
                      f"{name} squares": b.ravel().dot(b.ravel())})
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **wanted())

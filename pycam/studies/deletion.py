"""The deletion curve: if a map shows what a prediction rests on, hiding its top cells makes the probability fall fast."""
import zlib
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from data_tools.files import read_image, write_atomic

from ..cam import Grid, row_weights, select
from ..forward import Network, predict
from ..region_rule import RegionRule
from .maps import Maps

BLOCKS = 14  # a side: a patch of 224 pixels is hidden in blocks of 16 x 16
ORDERS = ("map", "random", "shifted")


def block_values(cam: np.ndarray, placement: str, grid: Grid) -> np.ndarray:
    """Return a centre patch's map (h x w) at the middles of its blocks, `BLOCKS` x `BLOCKS`."""
    side = grid.patch / BLOCKS
    middles = side * np.arange(BLOCKS) + (side - 1) / 2
    rows, columns = (row_weights(middles, cells, placement, grid) for cells in cam.shape)
    return np.asarray(rows @ cam @ columns.T)


def orders(values: np.ndarray, image_id: str) -> Dict[str, np.ndarray]:
    """Return the orders in which blocks are hidden, as flat block numbers.

    ``map``: the most activated first. ``random``: any. ``shifted``: as the map, wrapped around and moved elsewhere, so
    that what is hidden hangs together in the same way; scattered holes alone disturb a network. Both are drawn by the
    image id, so that they are the same in every run.
    """
    random = np.random.RandomState(zlib.crc32(image_id.encode()))
    shift = random.randint(BLOCKS // 4, BLOCKS - BLOCKS // 4, 2)
    moved = np.roll(values, tuple(shift), axis=(0, 1))
    return {"map": _falling(values), "random": random.permutation(values.size), "shifted": _falling(moved)}


def _falling(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.argsort(-values, axis=None, kind="stable"))


def hide(patch: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Return a copy of a patch (S x S x 3) in which some blocks have the patch's median colour, which is mostly skin."""
    hidden = np.zeros(BLOCKS * BLOCKS, bool)
    hidden[blocks] = True
    block = np.arange(len(patch)) * BLOCKS // len(patch)
    changed: np.ndarray = patch.copy()
    changed[hidden.reshape(BLOCKS, BLOCKS)[np.ix_(block, block)]] = np.median(patch, axis=(0, 1))
    return changed


def curves(network: Network, patch: np.ndarray, values: np.ndarray, number: int, image_id: str, steps: int,
           batch: int) -> Dict[str, np.ndarray]:
    """Return the probability of a class while a patch is hidden in `steps` equal steps, for each of `ORDERS`.

    Parameters
    ----------
    network : Network
        Deploy network.
    patch : ndarray
        S x S x 3 uint8 BGR.
    values : ndarray
        From `block_values`.
    number : int
        The class.
    image_id : str
        Seed of the random orders.
    steps, batch : int
        Number of steps to the wholly hidden patch; patches in a pass.

    Returns
    -------
    dict
        Order -> steps + 1 probabilities, the first of the untouched patch.
    """
    counts = np.rint(np.linspace(0, values.size, steps + 1)).astype(int)
    probs: Dict[str, np.ndarray] = {}
    for name, order in orders(values, image_id).items():
        patches: List[np.ndarray] = [hide(patch, order[:count]) for count in counts]
        parts = [predict(network, [[patch] for patch in patches[start:start + batch]])[:, number]
                 for start in range(0, len(patches), batch)]
        probs[name] = np.concatenate(parts)
    return probs


def area(curve: np.ndarray) -> float:
    """Return the area under a curve over the hidden share, 0 to 1 (trapezoids)."""
    return float((curve[:-1] + curve[1:]).mean() / 2)


def follow(network: Network, lesions: Sequence[Tuple[str, Optional[int], Path, Path]], maps: Maps, rule: RegionRule,
           steps: int, batch: int, out: Path) -> None:
    """Follow the predicted class of every picture; write every curve to `out` and print the mean areas."""
    lines = [",".join(("image_id", "class", "order", "area", *map(str, range(steps + 1))))]
    areas: Dict[str, List[float]] = {name: [] for name in ORDERS}
    for (image_id, label, path, _), probs, cams in zip(tqdm(lesions, "delete", unit="picture", disable=None), *maps):
        of_patch = cams[-1]  # of ten views, the last is the mirrored centre patch
        cam = select(rule.class_rule, of_patch, probs, label, network.classes)[0]
        number = int(probs.argmax())
        patch = network.views(read_image(path), rule.views)[-1]
        values = block_values(cam, rule.placement, network.grid)
        found = curves(network, patch, values, number, image_id, steps, batch)
        for name, curve in found.items():
            areas[name].append(area(curve))
            lines.append(",".join((image_id, network.classes[number], name, repr(area(curve)), *(repr(float(p)) for p in curve))))
    write_atomic(out, "".join(f"{line}\n" for line in lines).encode())
    means = ", ".join(f"{name} {np.mean(values):.4f}" for name, values in areas.items())
    print(f"area under the predicted class' probability while {len(lesions)} pictures are hidden, by order: {means}")

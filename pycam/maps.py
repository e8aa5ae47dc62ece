"""Compute the maps of many pictures once and keep them as .npy files, so that many box rules can be tried on them."""
import argparse
import hashlib
import io
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from data_tools.files import read_image, write_atomic

from . import engine
from .predict import ahead, check_finite, open_net, predict_views
from .preprocess import VIEWS, views


class Way(NamedTuple):
    """One way from maps to boxes; its fields are the options of `pycam.crops.add_region_arguments`."""

    class_rule: str
    rule: str
    ground: str
    threshold: float
    placement: str
    views: str


class Maps(NamedTuple):
    """What a network says of N pictures: their probabilities, N x C, and their maps, N x V x C x h x w, both float32."""

    probs: np.ndarray
    cams: np.ndarray


def hashes(net: Path, weights: Path) -> Dict[str, str]:
    """Return the SHA-256 of a network file and of its weights."""
    engine.check_prototxt(net)
    return {key: hashlib.sha256(path.read_bytes()).hexdigest()
            for key, path in (("net", net), ("weights", engine.weights_file(weights)))}


def stamps(paths: Iterable[Path]) -> str:
    """Return a hash of the names, sizes and times of files."""
    known = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr(known).encode()).hexdigest()


def get_maps(args: argparse.Namespace, pictures: Sequence[Tuple[str, Path]], which: str, folder: Path) -> Maps:
    """Return the maps of pictures, computed now or read from a folder where an earlier call wrote the same ones.

    The folder gets ``probs_<views>.npy``, ``cams_<views>.npy`` and, last, ``maps_<views>.json`` with the ids in order and
    hashes of network, weights and pictures: where one of these differs, the maps are computed anew.

    Parameters
    ----------
    args : Namespace
        With what `pycam.predict.open_net` reads, and ``batch``.
    pictures : sequence of (str, Path)
        Image ids and files.
    which : str
        ``centre`` or ``ten`` views.
    folder : Path
        Where the maps are kept.
    """
    state = {**hashes(args.net, args.weights), "precision": args.precision, "pictures": stamps(path for _, path in pictures),
             "ids": [image_id for image_id, _ in pictures]}
    about, files = folder / f"maps_{which}.json", [folder / f"{kind}_{which}.npy" for kind in Maps._fields]
    if about.is_file() and json.loads(about.read_text(encoding="utf-8")) == state and all(path.is_file() for path in files):
        return Maps(*(np.load(path) for path in files))
    maps = _compute(open_net(args), pictures, which, args.batch)
    folder.mkdir(parents=True, exist_ok=True)
    for path, array in zip(files, maps):
        content = io.BytesIO()
        np.save(content, array)
        write_atomic(path, content.getvalue())
    write_atomic(about, (json.dumps(state, indent=2) + "\n").encode())
    return maps


def _compute(net: Any, pictures: Sequence[Tuple[str, Path]], which: str, batch: int) -> Maps:
    def cut(picture: Tuple[str, Path]) -> List[np.ndarray]:
        return views(read_image(picture[1]), which)

    parts: List[Maps] = []
    for part in ahead(cut, pictures, max(1, batch // VIEWS[which])):
        parts.append(Maps(*predict_views(net, [patches for _, patches in part])))
        check_finite([image_id for (image_id, _), _ in part], parts[-1].probs)
    return Maps(*(np.concatenate(arrays) for arrays in zip(*parts)))

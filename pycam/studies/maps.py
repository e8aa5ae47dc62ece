"""Compute the maps of many pictures once and keep them as .npy files, so that many region rules can be tried on them."""
import io
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from data_tools.files import read_image, write_atomic
from data_tools.steps import Step, code, run

from ..engine import Backend
from ..forward import CODE, Views, ahead, check_finite, net_inputs, open_net, predict_with_maps
from ..preprocess import VIEWS, views


class Maps(NamedTuple):
    """What a network says of N pictures: their probabilities, N x C, and their maps, N x V x C x h x w."""

    probs: np.ndarray
    cams: np.ndarray


def get_maps(net: Path, weights: Path, backend: Backend, pictures: Dict[str, Path], which: str, folder: Path,
             batch: int) -> Maps:
    """Return the maps of pictures, computed now or read from a folder where an earlier call wrote the same ones.

    Parameters
    ----------
    net, weights, backend, batch
        As in `pycam.forward.open_net`; patches a pass.
    pictures : dict
        Files by image id.
    which : str
        ``centre`` or ``ten`` views.
    folder : Path
        Gets ``probs_<views>.npy``, ``cams_<views>.npy`` and their record, ``maps_<views>.json``.
    """
    files = [folder / f"{kind}_{which}.npy" for kind in Maps._fields]

    def work() -> List[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        for path, array in zip(files, _compute(open_net(net, weights, backend), pictures, which, batch)):
            content = io.BytesIO()
            np.save(content, array)
            write_atomic(path, content.getvalue())
        return files

    run(Step(f"maps/{which}", folder / f"maps_{which}", folder / f"maps_{which}.json",
             {**backend.parameters(), "views": which, "code": code(*CODE, "pycam.cam")},
             {**net_inputs(net, weights), **pictures}, work))
    return Maps(*(np.load(path) for path in files))


def _compute(net: Any, pictures: Dict[str, Path], which: str, batch: int) -> Maps:
    def cut(picture: Tuple[str, Path]) -> Views:
        return views(read_image(picture[1]), which)

    parts: List[Maps] = []
    for part in ahead(cut, list(pictures.items()), max(1, batch // VIEWS[which])):
        parts.append(Maps(*predict_with_maps(net, [patches for _, patches in part])))
        check_finite([image_id for (image_id, _), _ in part], parts[-1].probs)
    return Maps(*(np.concatenate(arrays) for arrays in zip(*parts)))

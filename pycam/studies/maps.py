"""Compute the maps of many pictures once and keep them as .npy files, so that many region rules can be tried on them."""
import io
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from data_tools.files import read_image, write_atomic
from data_tools.steps import Step, code, run

from ..forward import CODE, Network, Views, ahead, check_finite, predict_with_maps
from ..preprocess import VIEWS


class Maps(NamedTuple):
    """What a network says of N pictures: their probabilities, N x C, and their maps, N x V x C x h x w."""

    probs: np.ndarray
    cams: np.ndarray


def get_maps(network: Network, files: Dict[str, Path], parameters: Dict[str, Any], pictures: Dict[str, Path], which: str,
             folder: Path, batch: int) -> Maps:
    """Return the maps of pictures, computed now or read from a folder where an earlier call wrote the same ones.

    Parameters
    ----------
    network : Network
        From `pycam.forward.load_net`.
    files, parameters : dict
        What it was loaded of, and how.
    pictures : dict
        Files by image id.
    which : str
        ``centre`` or ``ten`` views.
    folder : Path
        Gets ``probs_<views>.npy``, ``cams_<views>.npy`` and their record, ``maps_<views>.json``.
    batch : int
        Patches a pass.
    """
    written = [folder / f"{kind}_{which}.npy" for kind in Maps._fields]

    def work() -> List[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        for path, array in zip(written, _compute(network, pictures, which, batch)):
            content = io.BytesIO()
            np.save(content, array)
            write_atomic(path, content.getvalue())
        return written

    run(Step(f"maps/{which}", folder / f"maps_{which}", folder / f"maps_{which}.json",
             {**parameters, "views": which, "code": code(*CODE, "pycam.cam", "pycam.parts")}, {**files, **pictures}, work))
    return Maps(*(np.load(path) for path in written))


def _compute(network: Network, pictures: Dict[str, Path], which: str, batch: int) -> Maps:
    def cut(picture: Tuple[str, Path]) -> Views:
        return network.views(read_image(picture[1]), which)

    parts: List[Maps] = []
    for part in ahead(cut, list(pictures.items()), max(1, batch // VIEWS[which])):
        parts.append(Maps(*predict_with_maps(network, [patches for _, patches in part])))
        check_finite([image_id for (image_id, _), _ in part], parts[-1].probs)
    return Maps(*(np.concatenate(arrays) for arrays in zip(*parts)))

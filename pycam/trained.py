"""The networks that come with the package, models/: where they are, and what they score on validation pictures."""
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .errors import CamError
from .init import source
from .table1 import FIGURES, STAGE2, cell, read_metrics

RESEARCH = "for research, no diagnosis"


class Weights(NamedTuple):
    """The weights files of both stages, and what is said with every answer of theirs."""

    stage1: Path
    stage2: Path
    about: str


def choose(stage1: Any = None, stage2: Any = None, folder: Optional[Path] = None) -> Weights:
    """Return the weights that are named, or where none are those of the package.

    Parameters
    ----------
    stage1, stage2 : path, optional
        A ``.caffemodel`` each, or the folder that holds ``final.caffemodel``.
    folder : Path, optional
        Holds ``stage1.caffemodel``, ``stage2.caffemodel``, the record of stage 2's pictures, ``origin.json``, and the scores on
        validation pictures, ``metrics.json``; left out, that of the package.

    Raises
    ------
    CamError
        When one stage is named and the other is not, or the package has no networks.
    """
    if stage1 and stage2:
        return Weights(Path(stage1), Path(stage2), RESEARCH)
    if stage1 or stage2:
        raise CamError("stage 1 without stage 2, or the reverse; name the weights of both, or of none for the networks that come "
                       "with the package")
    folder = folder or source("models")
    return Weights(folder / "stage1.caffemodel", folder / "stage2.caffemodel", f"{RESEARCH}; {scores(folder / 'metrics.json')}")


def scores(path: Path) -> str:
    """Return in words what a metrics.json says of both stages together."""
    metrics = read_metrics(path)
    found = metrics["scores"][STAGE2]
    *classes, mean = (cell(*(found[figure][end] for end in ("auc", "auc_low", "auc_high"))) for figure in FIGURES)
    return (f"validation AUC {mean}: melanoma {classes[0]}, seborrheic keratosis {classes[1]}; {metrics['pictures']} pictures "
            f"({metrics['data']})")

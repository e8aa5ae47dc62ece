"""Figures of a run: loss curves, ROC curves, class activation maps over their pictures. No display is needed."""
import io
from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from data_tools.files import write_atomic
from data_tools.isic import CLASSES

from .drawing import outline, overlay
from .gallery import Example
from .intervals import wins
from .predictions import SCORED
from .trainlog import Curve, TrainLog

INK = "#7a808c"  # readable on white and on black: the figures have no background of their own
LINES = ("#d9713c", "#3c8fd9", "#4ca864", "#9a6cd0")
STYLE: Any = {
    "text.color": INK, "axes.titlecolor": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none",
    "figure.facecolor": "none", "font.size": 9, "legend.frameon": False, "lines.linewidth": 1.6,
    "figure.autolayout": True,
}
DPI = 160
SHEET_HEAD = 0.5  # inches
SHEET_COLUMNS = ("picture, box", *(name.replace("_", " ") for name in CLASSES), "crop")


def save(figure: Figure, path: Path) -> bytes:
    """Write a figure as PNG and return the file's bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    write_atomic(path, file.getvalue())
    return file.getvalue()


def _panels(width: float, height: float, rows: int, columns: int) -> Tuple[Figure, Any]:
    """Return a figure (inches) and its rows x columns array of axes."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


@rc_context(STYLE)
def loss_curves(logs: Mapping[str, TrainLog]) -> Figure:
    """Draw training and test loss, and test accuracy, of one or several runs (Fig. 3 of the paper)."""
    figure, ((left, right),) = _panels(8, 3.2, 1, 2)
    for number, (name, log) in enumerate(logs.items()):
        colour = LINES[number % len(LINES)]
        _draw(left, log.loss, f"{name}, training", color=colour, alpha=0.45, linewidth=1)
        _draw(left, log.test.get("loss", {}), f"{name}, test", color=colour, marker=".")
        _draw(right, log.test.get("accuracy", {}), name, color=colour, marker=".")
    for axis, label in ((left, "loss"), (right, "test accuracy")):
        axis.set_xlabel("iteration")
        axis.set_ylabel(label)
        if axis.lines:
            axis.legend()
    return figure


def _draw(axis: Any, curve: Curve, label: str, **style: Any) -> None:
    if curve:
        axis.plot(list(curve), list(curve.values()), label=label, **style)


@rc_context(STYLE)
def roc_curves(labels: np.ndarray, stages: Mapping[str, np.ndarray]) -> Figure:
    """Draw the ROC curves of both questions.

    Parameters
    ----------
    labels : ndarray
        N class numbers.
    stages : mapping
        Name -> N x 2 probabilities of melanoma and seborrheic keratosis.
    """
    figure, (axes,) = _panels(8, 3.9, 1, len(SCORED))
    for number, (axis, name) in enumerate(zip(axes, SCORED)):
        truth = labels == number
        for colour, (stage, probs) in zip(LINES, stages.items()):
            falsely, truly, _ = roc_curve(truth, probs[:, number], drop_intermediate=False)
            axis.plot(falsely, truly, color=colour, label=f"{stage}  {wins(truth, probs[:, number]).mean():.3f}")
        axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        axis.set_title(f"{name.replace('_', ' ')} or not")
        axis.set_xlabel("1 - specificity")
        axis.set_ylabel("sensitivity")
        axis.set_aspect("equal")
        axis.legend(title="AUC", loc="lower right")
    return figure


def tiles(example: Example) -> List[np.ndarray]:
    """Return what is shown of an example, in the order of `SHEET_COLUMNS`: H x W x 3 uint8 BGR each."""
    top = float(example.cams.max())
    maps = [overlay(example.image, cam, top) for cam in example.cams]
    return [outline(example.image, example.box), *maps, example.crop]


@rc_context({**STYLE, "figure.autolayout": False})
def sheet(examples: Sequence[Example]) -> Figure:
    """Draw examples as rows: picture with box, a map for each class, crop (Fig. 2 and Fig. 4 of the paper)."""
    height = 1.95 * len(examples) + SHEET_HEAD
    figure, axes = _panels(9, height, len(examples), len(SHEET_COLUMNS))
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - SHEET_HEAD / height, 0.03, 0.12)
    for example, row in zip(examples, axes):
        for axis, tile in zip(row, tiles(example)):
            axis.imshow(tile[..., ::-1])
            axis.set_axis_off()
        row[0].set_title(f"{example.image_id}: {CLASSES[example.label].replace('_', ' ')}", fontsize=7)
        for axis, prob in zip(row[1:-1], example.probs):
            axis.set_title(f"{prob:.2f}", fontsize=7)
    for column, title in enumerate(SHEET_COLUMNS):
        figure.text((column + 0.5) / len(SHEET_COLUMNS), 1 - 0.2 / height, title, ha="center", fontsize=9)
    return figure

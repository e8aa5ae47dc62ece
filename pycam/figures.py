"""Diagrams of a run: loss curves and ROC curves. No display is needed."""
import io
import itertools
import re
import warnings
from pathlib import Path
from typing import Any, Dict, Iterable, Mapping, Tuple

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_tools.files import write_atomic

from .clinical import brier, calibration
from .drawing import INK, STAGES
from .errors import CamError
from .intervals import auc, roc_band
from .predictions import SCORED

OTHERS = ("#4ca864", "#9a6cd0", "#b89b3a", "#cf6394")  # colours of curves that are of no stage
_STAGE = re.compile(r"stage[ _]?(?:1\+)?([12])(?![\d+]|_scratch|, from scratch)", re.IGNORECASE)
STYLE: Any = {
    "text.color": INK, "axes.titlecolor": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none",
    "figure.facecolor": "none", "font.size": 9, "axes.titlesize": 10, "legend.frameon": False, "lines.linewidth": 1.6,
    "figure.autolayout": True, "svg.fonttype": "none", "svg.hashsalt": "pycam",
}
OWN_LAYOUT: Any = {**STYLE, "figure.autolayout": False}  # for figures that place their axes themselves
DPI = 160
FORMATS = (".png", ".pdf", ".svg")

Curve = Mapping[int, float]  # iteration -> value


def plain(name: str) -> str:
    """Return a file's name as matplotlib writes it letter by letter: no mathematics, and not left out of a legend."""
    text = name.encode(errors="replace").decode().replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def render(figure: Figure, suffix: str) -> bytes:
    """Return a figure as a PNG, PDF or SVG file; the same figure always gives the same bytes."""
    file = io.BytesIO()
    undated = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}[suffix]
    with rc_context(OWN_LAYOUT), warnings.catch_warnings():  # which a figure without a layout engine takes over
        # a name's letter that the font lacks is drawn as a box; one that is longer than the figure goes beyond it
        warnings.filterwarnings("ignore", "Glyph .* missing|Tight layout not applied")
        figure.savefig(file, format=suffix[1:], dpi=DPI, metadata=undated)
    return file.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix."""
    if path.suffix not in FORMATS:
        raise CamError(f"{path}: the suffix is {path.suffix!r}; expected {', '.join(FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render(figure, path.suffix))


def panels(width: float, height: float, rows: int, columns: int, **more: Any) -> Tuple[Figure, Any]:
    """Return a figure (inches) and its rows x columns array of axes."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def colours(names: Iterable[str]) -> Dict[str, str]:
    """Return a colour for each name: that of the stage which it names, else one of those that no stage has.

    A training from scratch, and the second of two runs of one stage, are other curves than that of the stage.
    """
    chosen: Dict[str, str] = {}
    others = itertools.cycle(OTHERS)
    for name in names:
        numbers = _STAGE.findall(name)
        own = STAGES[int(numbers[-1]) - 1] if numbers else ""
        chosen[name] = own if own and own not in chosen.values() else next(others)
    return chosen


@rc_context(STYLE)
def loss_curves(logs: Mapping[str, Tuple[Curve, Mapping[str, Curve]]]) -> Figure:
    """Draw training and test loss, and test accuracy, of one or several runs (Fig. 3 of the paper).

    Parameters
    ----------
    logs : mapping
        Name of a run -> its training loss, and the outputs ``loss`` and ``accuracy`` of its test net (`pycam.trainlog`).
    """
    figure, ((left, right),) = panels(8, 3.3, 1, 2)
    for (name, colour), (loss, test) in zip(colours(logs).items(), logs.values()):
        tested = test.get("loss", {})
        _draw(left, loss, "" if tested else name, color=colour, alpha=0.5, linewidth=1)
        _draw(left, tested, name, color=colour, marker=".")
        _draw(right, test.get("accuracy", {}), name, color=colour, marker=".")
    for axis, title in ((left, "loss: thin in training, with points on the test net"), (right, "accuracy on the test net")):
        axis.set_title(title, loc="left")
        axis.set_xlabel("iteration")
    left.legend()
    return figure


def _draw(axis: Any, curve: Curve, label: str, **style: Any) -> None:
    if curve:
        axis.plot(list(curve), list(curve.values()), label=plain(label) or None, **style)


@rc_context(STYLE)
def roc_curves(labels: np.ndarray, stages: Mapping[str, np.ndarray]) -> Figure:
    """Draw the ROC curves of both questions, with their pointwise 95 % bands.

    Parameters
    ----------
    labels : ndarray
        N class numbers.
    stages : mapping
        Name -> N x 2 probabilities of melanoma and seborrheic keratosis.
    """
    from sklearn.metrics import roc_curve

    figure, (axes,) = panels(8, 4.1, 1, len(SCORED))
    for number, (axis, name) in enumerate(zip(axes, SCORED)):
        truth = labels == number
        for (stage, colour), probs in zip(colours(stages).items(), stages.values()):
            axis.fill_between(*roc_band(labels, probs[:, number], number), color=colour, alpha=0.15, linewidth=0)
            falsely, truly, _ = roc_curve(truth, probs[:, number], drop_intermediate=False)
            axis.plot(falsely, truly, color=colour, label=f"{plain(stage)}: {auc(truth, probs[:, number]):.3f}")
        axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        axis.set_title(f"{name.replace('_', ' ')} against the rest", loc="left")
        axis.set_xlabel("1 - specificity")
        axis.set_ylabel("sensitivity")
        axis.set_aspect("equal")
        axis.legend(title="AUC", loc="lower right")
    return figure


@rc_context(STYLE)
def precision_recall(labels: np.ndarray, stages: Mapping[str, np.ndarray]) -> Figure:
    """Draw precision against recall for both questions; the dotted line is the share of the class. As `roc_curves`."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, (axes,) = panels(8, 3.7, 1, len(SCORED))
    for number, (axis, name) in enumerate(zip(axes, SCORED)):
        truth = labels == number
        for (stage, colour), probs in zip(colours(stages).items(), stages.values()):
            precision, recall, _ = precision_recall_curve(truth, probs[:, number])
            label = f"{stage}: {average_precision_score(truth, probs[:, number]):.3f}"
            axis.plot(recall, precision, color=colour, drawstyle="steps-post", label=label)
        axis.axhline(truth.mean(), color=INK, linewidth=0.8, linestyle=":")
        _frame(axis, name, "recall (sensitivity)", "precision")
        axis.legend(title="average precision")
    return figure


@rc_context(STYLE)
def calibration_curves(labels: np.ndarray, stages: Mapping[str, np.ndarray]) -> Figure:
    """Draw how often a probability comes true, for both questions, in bins of equal numbers of pictures. As `roc_curves`."""
    figure, (axes,) = panels(8, 3.7, 1, len(SCORED))
    for number, (axis, name) in enumerate(zip(axes, SCORED)):
        truth = labels == number
        for (stage, colour), probs in zip(colours(stages).items(), stages.values()):
            axis.plot(*calibration(truth, probs[:, number]), color=colour, marker=".", clip_on=False,
                      label=f"{stage}: {brier(truth, probs[:, number])[0]:.3f}")
        axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        _frame(axis, name, "mean probability", "share of the class")
        axis.legend(title="Brier score", loc="upper left")
    return figure


def _frame(axis: Any, name: str, across: str, up: str) -> None:
    """Name an axis and its sides, both from 0 to 1."""
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel=across, ylabel=up)
    axis.set_title(f"{name.replace('_', ' ')} against the rest", loc="left")

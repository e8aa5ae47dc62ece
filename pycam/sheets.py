"""Figures of a run's pictures: maps over their pictures (Fig. 2 and 4 of the paper), one picture through both stages (Fig. 1)."""
from typing import Any, List, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from data_tools.isic import CLASSES

from .drawing import INK, SHORT, STAGES, colour_bar, outline, overlay
from .examples import STAGES as RESULTS
from .examples import Example
from .figures import OWN_LAYOUT, panels

HEAD, FOOT = 0.55, 0.3  # inches
LONGEST = 30  # letters of an id in a title
COLUMNS = ("picture, box", *(name.replace("_", " ") for name in CLASSES), "crop")
STEPS = ("picture", RESULTS[0], "map of {}", "crop", RESULTS[1])


def tiles(example: Example) -> List[np.ndarray]:
    """Return what is shown of an example, in the order of `COLUMNS`: H x W x 3 uint8 BGR each."""
    top = float(example.cams.max())
    maps = [overlay(example.image, cam, top, example.cells) for cam in example.cams]
    return [outline(example.image, example.box), *maps, example.crop]


@rc_context(OWN_LAYOUT)
def sheet(examples: Sequence[Example]) -> Figure:
    """Draw examples as rows: picture with box, a map for each class, crop (Fig. 2 and Fig. 4 of the paper)."""
    height = 1.95 * len(examples) + HEAD + FOOT
    figure, axes = panels(9, height, len(examples), len(COLUMNS))
    figure.subplots_adjust(0.005, FOOT / height, 0.995, 1 - HEAD / height, 0.03, 0.12)
    _bar(figure.add_axes((0.35, 0.4 * FOOT / height, 0.3, 0.3 * FOOT / height)))
    for example, row in zip(examples, axes):
        for axis, tile in zip(row, tiles(example)):
            axis.imshow(tile[..., ::-1])
            axis.set_axis_off()
        name = example.image_id if len(example.image_id) <= LONGEST else f"...{example.image_id[-LONGEST:]}"
        title = f"{name}\n{CLASSES[example.label].replace('_', ' ')}"
        row[0].set_title(title.replace("$", r"\$"), fontsize=7)
        for axis, name, prob in zip(row[1:-1], CLASSES, example.probs):
            axis.set_title(f"{prob:.2f}", fontsize=7, fontweight="bold" if name == example.row.followed else "normal")
    for column, title in enumerate(COLUMNS):
        figure.text((column + 0.5) / len(COLUMNS), 1 - 0.2 / height, title, ha="center", fontsize=9)
    return figure


@rc_context(OWN_LAYOUT)
def overview(example: Example) -> Figure:
    """Draw one picture through both stages (Fig. 1 of the paper), from left to right."""
    figure, (axes,) = panels(9, 2.1, 1, len(STEPS), gridspec_kw={"width_ratios": [1, 0.75, 1, 1, 0.75]})
    figure.subplots_adjust(0.01, 0.09, 0.99, 0.87, 0.36)
    _bar(axes[2].inset_axes((0.3, -0.1, 0.4, 0.05)))
    top = float(max(example.cams.max(), example.followed.max()))
    mapped = overlay(example.image, example.followed, top, example.cells)
    shown = {0: outline(example.image, example.box), 2: mapped, 3: example.crop}
    bars = {1: (example.probs, STAGES[0]), 4: (example.final, STAGES[1])}
    for column, (axis, title) in enumerate(zip(axes, STEPS)):
        axis.set_title(title.format(example.map_name), fontsize=9)
        if column in shown:
            axis.imshow(shown[column][..., ::-1])
            axis.set_axis_off()
        else:
            _bars(axis, *bars[column])
        if column:
            axis.annotate("", (-0.06, 0.5), (-0.22, 0.5), xycoords="axes fraction",
                          arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.4})
    return figure


def _bar(axis: Any) -> None:
    """Draw the colours of a map between the words for its ends."""
    axis.imshow(colour_bar(256, 1)[..., ::-1], aspect="auto")
    axis.set_axis_off()
    for place, side, word in ((-0.03, "right", "none"), (1.03, "left", "most")):
        axis.text(place, 0.5, word, transform=axis.transAxes, ha=side, va="center", fontsize=7, color=INK)


def _bars(axis: Any, probs: Sequence[float], colour: str) -> None:
    """Draw class probabilities as three bars with their names and values."""
    axis.barh(range(len(probs)), probs, color=colour, height=0.6)
    axis.set_xlim(0, 1.9)  # room for the values behind the bars
    axis.invert_yaxis()
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines["bottom"].set_visible(False)
    for place, (name, prob) in enumerate(zip(SHORT, probs)):
        axis.text(prob + 0.05, place, f"{name} {prob:.2f}", va="center", fontsize=8, color=INK)

"""Draw maps and boxes on pictures."""
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

from data_tools.isic import CLASSES

from .cells import Cells
from .regions import Box

PALE = 0.55  # weight of the picture where a map has no cells; the rest is white
OVERLAY = 0.7  # weight of the colour where a map is at its top
BAND = 256  # rows that are coloured at a time: the numbers between need 150 bytes a pixel
Colour = Tuple[int, int, int]  # BGR
WHITE, DARK = (255, 255, 255), (30, 30, 30)
SHORT = ("M", "SK", "N")  # the classes where there is little room
CARD = 360  # height of the pictures on a card
WIDEST = 4  # width of a picture on a card, over the card's height
LINE = 26  # height of a line of text on it
NOTICE = "research, no diagnosis"  # on every card, which may be passed on alone
INK = "#7a808c"  # of lines and words, readable on white and on black: figures have no background of their own
STAGES = ("#d9713c", "#3c8fd9")  # colours of stage 1 and stage 2, wherever they are drawn
BARS: Tuple[Colour, ...] = tuple((int(rgb[5:], 16), int(rgb[3:5], 16), int(rgb[1:3], 16)) for rgb in STAGES)


def overlay(image: np.ndarray, cam: np.ndarray, top: float, cells: Optional[Cells] = None) -> np.ndarray:
    """Lay a map in colour over its picture; where the map is not positive the picture stays as it is.

    Parameters
    ----------
    image : ndarray
        H x W x 3 uint8 BGR.
    cam : ndarray
        H x W float.
    top : float
        Value of the strongest colour: use one for all maps of a picture, so that they can be compared.
    cells : Cells, optional
        Where the map's cells lie: it is drawn smoothly between them, and the picture is pale outside, where the network gives
        no map.

    Returns
    -------
    ndarray
        H x W x 3 uint8 BGR.
    """
    shown = cells.smooth(cam) if cells else cam
    bands = [slice(start, start + BAND) for start in range(0, len(image), BAND)]
    drawn = np.concatenate([blend(image[band], scale(shown[band], top)) for band in bands])
    return drawn if cells is None else pale(drawn, image, cells.box((image.shape[0], image.shape[1])))


def scale(cam: np.ndarray, top: float) -> np.ndarray:
    """Return a map as levels from 0, no evidence, to 1, the strongest colour."""
    return np.clip(cam / top, 0, 1) if top > 0 else np.zeros(cam.shape)


def blend(image: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Lay the colours of levels (H x W in [0, 1]) over a picture, the stronger the higher."""
    colours = cv2.applyColorMap(np.rint(level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    weight = OVERLAY * level[..., None]
    return np.asarray(np.rint(image * (1 - weight) + colours * weight), np.uint8)


def pale(drawn: np.ndarray, image: np.ndarray, known: Box) -> np.ndarray:
    """Return a drawing inside a box, framed, and the picture in pale colours around it."""
    around = np.asarray(cv2.convertScaleAbs(image, alpha=PALE, beta=255 * (1 - PALE)))
    around[known.y0:known.y1, known.x0:known.x1] = known.cut(drawn)
    cv2.rectangle(around, (known.x0, known.y0), (known.x1 - 1, known.y1 - 1), WHITE, 1)
    return around


def colour_bar(width: int, height: int) -> np.ndarray:
    """Return the colours of a map from none to the strongest, as they are laid over white; height x width x 3 uint8 BGR."""
    return blend(np.full((height, width, 3), WHITE, np.uint8), np.tile(np.linspace(0, 1, width), (height, 1)))


def outline(image: np.ndarray, box: Box) -> np.ndarray:
    """Return a copy of an H x W x 3 picture with a box drawn on it: white on a dark edge, seen on any skin."""
    drawn: np.ndarray = image.copy()
    for colour, thickness in ((DARK, 4), (WHITE, 2)):
        cv2.rectangle(drawn, (box.x0 + 2, box.y0 + 2), (box.x1 - 3, box.y1 - 3), colour, thickness)
    return drawn


def contour(image: np.ndarray, region: np.ndarray, colour: Colour = WHITE) -> np.ndarray:
    """Return a copy of an H x W x 3 picture with the outlines of a region (H x W bool) drawn on it, on a dark edge."""
    drawn: np.ndarray = image.copy()
    lines = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2]
    for shade, thickness in ((DARK, 3), (colour, 1)):
        cv2.drawContours(drawn, lines, -1, shade, thickness, cv2.LINE_AA)
    return drawn


def card(image: np.ndarray, cam: np.ndarray, lowest: float, box: Box, stages: Sequence[Tuple[str, np.ndarray]],
         name: str = "", cells: Optional[Cells] = None) -> np.ndarray:
    """Draw what two stages made of a picture: the picture with the crop's box, the map, the crop, and bars below.

    Parameters
    ----------
    image : ndarray
        H x W x 3 uint8 BGR.
    cam : ndarray
        H x W float, the map that the crop follows; its region, above `lowest`, is outlined.
    lowest : float
        See `pycam.regions.level`.
    box : Box
        Of the crop.
    stages : sequence of (str, ndarray)
        Name and probabilities of each stage.
    name, cells
        What the map is of; where its cells lie, see `overlay`.

    Returns
    -------
    ndarray
        h x w x 3 uint8 BGR.
    """
    coloured = fit(contour(overlay(image, cam, float(cam.max()), cells), cam > lowest))
    small = fit(image)
    factor = small.shape[0] / image.shape[0]
    boxed = outline(small, Box(*(round(edge * factor) for edge in box)))
    tiles = np.hstack([labelled(boxed, "picture, box"), labelled(coloured, f"map of {name.replace('_', ' ')}", bar=True),
                       labelled(box.cut(image), "crop")])
    return np.vstack([tiles, bars(stages, tiles.shape[1])])


def fit(image: np.ndarray, height: int = CARD) -> np.ndarray:
    """Resize a picture to a height, or to less where it would become wider than `WIDEST` times the height."""
    factor = min(height / image.shape[0], WIDEST * height / image.shape[1])
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    shrinks = height < image.shape[0]
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))


def labelled(image: np.ndarray, text: str, bar: bool = False) -> np.ndarray:
    """Return a picture at the height of a card with a line of text below, and a colour bar; CARD + LINE x w x 3 uint8 BGR."""
    small = fit(image)
    small = np.vstack([small, np.full((CARD - len(small), small.shape[1], 3), WHITE, np.uint8)])
    strip = np.full((LINE, small.shape[1], 3), WHITE, np.uint8)
    if bar and small.shape[1] > 32:
        width = small.shape[1] // 4
        strip[6:-6, -width - 8:-8] = colour_bar(width, LINE - 12)
    _write(strip, text, 8, 0)
    return np.vstack([small, strip])


def bars(stages: Sequence[Tuple[str, np.ndarray]], width: int) -> np.ndarray:
    """Draw a line for each class, with the probability of each stage as a bar; LINE * (C + 1) x width x 3 uint8 BGR."""
    strip = np.full((LINE * (len(CLASSES) + 1), width, 3), WHITE, np.uint8)
    first, column = round(0.28 * width), round(0.72 * width / len(stages))
    _write(strip, NOTICE, 8, 0)
    for place, ((name, probs), colour) in enumerate(zip(stages, BARS)):
        left = first + place * column
        _write(strip, name, left, 0)
        for row, prob in enumerate(probs, start=1):
            end = left + round(0.7 * column * float(prob))
            cv2.rectangle(strip, (left, LINE * row + 5), (end, LINE * (row + 1) - 6), colour, cv2.FILLED)
            _write(strip, f"{prob:.2f}", end + 6, row)
    for row, name in enumerate(CLASSES, start=1):
        _write(strip, name.replace("_", " "), 8, row)
    return strip


def _write(strip: np.ndarray, text: str, left: int, row: int) -> None:
    cv2.putText(strip, text, (left, LINE * (row + 1) - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, DARK, 1, cv2.LINE_AA)

"""Paint hair of known place on pictures: width, taper, bend, colour, sheen, focus, number and JPEG quality vary.

A picture's hairs are alike, as one person's are; `Look` says how. Lengths are pixels of a picture whose shorter side has
512 pixels, and scale with it; no hair is narrower than one pixel of the picture.
"""
from __future__ import annotations

from typing import NamedTuple, Tuple

import cv2
import numpy as np

SIDE = 512
WIDTHS = {"fine": (1.0, 2.0), "middle": (2.0, 4.0), "thick": (4.0, 6.0)}
BENDS = {"straight": 0.3, "curved": 1.2, "curled": 4.0}      # radians from root to tip, standard deviation
COLOURS = {"black": (8, 30), "dark brown": (35, 70), "brown": (70, 110), "grey": (60, 120)}  # the brightest channel
BROWN_BGR, GREY_BGR = (0.45, 0.65, 1.0), (1.0, 1.0, 1.0)
FOCUS = {"sharp": (0.2, 0.4), "soft": (0.4, 0.8), "blurred": (0.8, 1.3)}  # px, of the Gaussian
NUMBERS = {"few": (4, 10), "some": (10, 25), "many": (25, 50)}
LOOKS = (WIDTHS, BENDS, COLOURS, FOCUS, NUMBERS)
LENGTH = (0.12, 0.9)      # of the picture's shorter side
QUALITY = (75, 98)        # of the JPEG that the picture then goes through
FINE, POINTS = 6, 64      # times as large hairs are drawn, to be shrunk; points of one
SEEN = 10                 # levels by which a channel must be darker for dark hair to be seen


class Look(NamedTuple):
    """How the hairs of a picture look: a name out of each table above."""

    width: str
    bend: str
    colour: str
    focus: str
    number: str


class Painted(NamedTuple):
    """A picture with hair (H x W x 3 uint8), and three masks (H x W bool)."""

    image: np.ndarray
    hair: np.ndarray      # at least half covered
    touched: np.ndarray   # changed by hair at all
    dark: np.ndarray      # hair that is darker than what it covers


def draw_look(rng: np.random.Generator) -> Look:
    return Look(*(str(rng.choice(list(table))) for table in LOOKS))


def paint(image: np.ndarray, look: Look, rng: np.random.Generator) -> Painted:
    """Paint hairs of a look on a picture (H x W x 3 uint8 BGR), and pass it through a JPEG file."""
    unit = min(image.shape[:2]) / SIDE
    hairy, covered, touched = image.astype(np.float32), np.zeros(image.shape[:2], bool), np.zeros(image.shape[:2], bool)
    sigma, sheen = rng.uniform(*FOCUS[look.focus]) * unit, rng.choice([0, rng.uniform(0, 40)])
    for _ in range(rng.integers(*NUMBERS[look.number], endpoint=True)):
        way, half = _way(image.shape, look, rng), _half_widths(look, rng, unit)
        box, cover = _stroke(way, half, image.shape)
        if not cover.size:
            continue
        ridge = _stroke(way, half / 3, image.shape, box)[1][..., None]
        alpha = cv2.GaussianBlur(cover, (0, 0), sigma) * rng.uniform(0.85, 1.0)
        alpha[alpha < 0.02] = 0
        hairy[box] += alpha[..., None] * (_colour(look, rng) + sheen * ridge - hairy[box])
        covered[box] |= cover >= 0.5
        touched[box] |= alpha > 0
    dark = covered & ((image - hairy).max(axis=2) >= SEEN)
    whole = np.clip(np.rint(hairy), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*QUALITY))])
    return Painted(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), covered, touched, dark)


def _way(shape: Tuple[int, ...], look: Look, rng: np.random.Generator) -> np.ndarray:
    """Return POINTS points (x, y) of a hair's middle: it turns steadily, and a little to and fro."""
    t = np.linspace(0, 1, POINTS)
    bend = BENDS[look.bend]
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, bend) * t + rng.normal(0, bend / 6) * np.sin(2 * np.pi * (t + rng.random()))
    length = np.exp(rng.uniform(*np.log(LENGTH))) * min(shape[:2])
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=1) * length / (POINTS - 1)
    return np.asarray(rng.uniform(-0.05, 1.05, 2) * (shape[1], shape[0]) + np.cumsum(steps, axis=0))


def _half_widths(look: Look, rng: np.random.Generator, unit: float) -> np.ndarray:
    """Return half the width at each point: some hairs taper to the tip, some to both ends."""
    width, t = rng.uniform(*WIDTHS[look.width]), np.linspace(0, 1, POINTS)
    shape = (np.ones(POINTS), 1 - 0.6 * t, 1 - 0.6 * np.abs(2 * t - 1) ** 2)[rng.integers(3)]
    return np.asarray(np.maximum(width * unit * shape, 1.0) / 2)


def _colour(look: Look, rng: np.random.Generator) -> np.ndarray:
    tint = np.array(GREY_BGR if look.colour == "grey" else BROWN_BGR) + rng.normal(0, 0.04, 3)
    return np.asarray(rng.uniform(*COLOURS[look.colour]) * tint, np.float32)


def _stroke(way: np.ndarray, half: np.ndarray, shape: Tuple[int, ...],
            box: Tuple[slice, ...] = ()) -> Tuple[Tuple[slice, ...], np.ndarray]:
    """Draw a hair FINE times as large and shrink it; return its box in the picture and its coverage there (0..1)."""
    if not box:
        low = np.maximum(np.floor(way.min(axis=0) - half.max() - 6), 0).astype(int)
        high = np.minimum(np.ceil(way.max(axis=0) + half.max() + 6), (shape[1], shape[0])).astype(int)
        box = (slice(low[1], max(low[1], high[1])), slice(low[0], max(low[0], high[0])))
    height, width = (part.stop - part.start for part in box)
    if not height * width:
        return box, np.zeros((height, width), np.float32)
    along = np.gradient(way, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(np.hypot(*along.T), 1e-6)[:, None] * half[:, None]
    corner = np.array([box[1].start, box[0].start])
    left, right = (np.rint((way + side * across - corner) * FINE * 16).astype(np.int32) for side in (1, -1))
    canvas = np.zeros((height * FINE, width * FINE), np.uint8)
    for i in range(POINTS - 1):
        cv2.fillConvexPoly(canvas, np.array([left[i], left[i + 1], right[i + 1], right[i]]), 255, cv2.LINE_8, 4)
    return box, cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255

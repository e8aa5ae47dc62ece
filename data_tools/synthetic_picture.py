"""Draw the pictures of `data_tools.synthetic`: skin, a lesion, hair, and in some a ruler or a dermatoscope's dark corners.

Pigment takes light away: the share that is left is exp(-density). Lengths are pixels of a picture that is `WIDTH` wide.
"""
from __future__ import annotations

from typing import NamedTuple, Tuple

import cv2
import numpy as np

HEIGHT, WIDTH = 600, 800
SKIN_BGR, SKIN_SPREAD = (158, 178, 222), 5.0
LIGHT_SLOPE, VIGNETTE = 0.10, 0.30        # share of the light that changes from side to side, that is lost in corners
NOISE, PORES, PORE_SIZE = 0.012, 0.02, 9.0  # of the light: a pixel's, that of the skin's relief, and its size

BORDER = 1.2                              # of the radius, at which the lesion's middle is away from the picture's edge at least
AREA, STRETCH = (1 / 24, 1 / 12), 1.35    # of the picture that the lesion covers; its longer side against its shorter, at most
WAVES, WOBBLE = 7, 0.35                   # of the outline; its waves are at most WOBBLE / wave number of the radius
RAGGED, RAGS = (0.05, 0.03), (9, 24)      # of the radius that the border is ragged; cells of that across the lesion
REACH = 1.7                               # of the radius, beyond which there is nothing of a lesion
EDGE = (8.0, 26.0)                        # width of the lesion's soft border
TONES = ((1.20, 1.15, 0.98), (0.90, 0.50, 0.32), (0.58, 0.64, 0.28))  # density in blue, green, red: dark brown, tan, pink
TONE_SPREAD = 0.07                        # between lesions, of all three
TRUTHFUL = 0.60                           # how often the main tone is the class's own; else any of the three
TONE_CELLS, OTHER = 4, 0.20               # across the lesion, in which another tone shows; how much of it
MOTTLE, MOTTLE_CELLS = 0.10, 9            # density and cells of its unevenness

STRUCTURE_BGR = (1.2, 1.0, 0.8)           # density of one unit of what follows
TEXTURE = (0.30, 0.0, -0.30)              # deviation of the class's fine texture: dots, nothing, the same upside down
FADING, FADING_CELLS = 0.35, 6            # how it varies from place to place, across the lesion
PERIOD, WARP, WARP_CELLS = (7.8, 8.4), (10.0, 1.2), (5, 16)  # of its waves; how far they are bent, and in which cells
TURNS = np.array([0, 1, 2]) * (np.pi / 3)  # between its three waves
GRAIN, GRAIN_SIZE = (0.05, 0.30), 5.8     # deviation (drawn for each lesion) and size of grain, for all classes
GLOBULES, GLOBULE, GLOBULE_SIZE = (0, 25), 0.6, (4.0, 9.0)  # number, density and radius, for all classes

HAIRS = (2, 14)
HAIR_LENGTH, HAIR_WIDTH, HAIR_BEND = (100.0, 500.0), (1.0, 2.8), 0.25
HAIR_BGR, HAIR_SPREAD = (28, 34, 44), 10.0
HAIR_POINTS, HAIR_SHIFT = 24, 4           # corners of a drawn curve; binary digits of a corner's fraction
RULER, RULER_BGR, TICK, TICKS = 0.15, (60, 50, 45), 14, (12, 24)  # how often, colour; distance of its lines, their lengths
CORNERS, CORNER_RADIUS, CORNER_EDGE = 0.25, (0.86, 0.98), 0.02  # how often dark; where, in half diagonals; width of the edge


class Picture(NamedTuple):
    """A made-up picture: H x W x 3 uint8 BGR, and H x W bool, True in the lesion."""

    image: np.ndarray
    mask: np.ndarray


def make_picture(random: np.random.Generator, label: int, height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """Draw skin, lesion and what lies over them; `label` is an index into `isic.CLASSES`."""
    light = _light(random, height, width)
    skin = np.array(SKIN_BGR) + random.normal(0, SKIN_SPREAD, 3)
    image = cv2.merge([light * np.float32(level) for level in skin])
    mask = _draw_lesion(image, random, label)
    image = image.clip(0, 255).astype(np.uint8)
    _draw_hair(image, random)
    if random.random() < RULER:
        _draw_ruler(image, random)
    return Picture(_darken_corners(image, random) if random.random() < CORNERS else image, mask)


def _light(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return the light that comes from a pixel of bare skin, H x W float32 around 1: a slope, a vignette, relief, noise."""
    y, x = np.mgrid[-1:1:30j, -1:1:40j].astype(np.float32)
    slope_y, slope_x = random.uniform(-LIGHT_SLOPE, LIGHT_SLOPE, 2)
    coarse = 1 + slope_y * y + slope_x * x - VIGNETTE * np.maximum((x * x + y * y) / 2 - 0.3, 0)
    light = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    light += _uneven(random, PORES, max(2, round(WIDTH / PORE_SIZE)), (height, width))
    light += np.float32(NOISE) * random.standard_normal((height, width), np.float32)
    return np.asarray(light)


# ---------------------------------------------------------------- the lesion
def _draw_lesion(image: np.ndarray, random: np.random.Generator, label: int) -> np.ndarray:
    """Darken the lesion's pixels of a float32 picture in place; return the mask, H x W bool."""
    height, width = image.shape[:2]
    scale, radius = width / WIDTH, np.sqrt(random.uniform(*AREA) * height * width / np.pi)
    reach = radius * REACH
    y, x = (random.uniform(BORDER * radius, side - BORDER * radius) for side in (height, width))
    top, left = max(int(y - reach), 0), max(int(x - reach), 0)
    window = (slice(top, int(y + reach) + 1), slice(left, int(x + reach) + 1))
    part = image[window]
    dy, dx = np.mgrid[top - y:top - y + part.shape[0], left - x:left - x + part.shape[1]].astype(np.float32)
    depth = _depth(random, radius, dy, dx)
    opacity = (depth / np.float32(random.uniform(*EDGE) * scale) + np.float32(0.5)).clip(0, 1)
    density = _colour(random, label, part.shape[:2]) + _structure(random, label, dy, dx, scale)[:, :, None] * _row(STRUCTURE_BGR)
    part *= np.exp(-opacity[:, :, None] * density)
    mask = np.zeros((height, width), bool)
    mask[window] = depth > 0
    return mask


def _depth(random: np.random.Generator, radius: float, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Return how far a pixel is inside the outline: a stretched circle with waves, and ragged."""
    turn, stretch = random.uniform(0, np.pi), np.sqrt(random.uniform(1, STRETCH))
    along, across = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
    angles = np.linspace(-np.pi, np.pi, 721)
    radii = np.full(angles.shape, radius)
    for wave in range(2, WAVES):
        radii += radius * random.uniform(0, WOBBLE / wave) * np.cos(wave * angles + random.uniform(0, 2 * np.pi))
    place = np.rint((np.arctan2(across, along) + np.pi) * (720 / (2 * np.pi))).astype(np.intp)
    rags = sum(_uneven(random, share * radius, cells, dy.shape) for share, cells in zip(RAGGED, RAGS))
    return np.asarray(radii.astype(np.float32)[place] - np.hypot(along / stretch, across * stretch) + rags)


def _colour(random: np.random.Generator, label: int, shape: Tuple[int, int]) -> np.ndarray:
    """Return the density of the lesion's colour, H x W x 3: a main tone and another one in places."""
    main = label if random.random() < TRUTHFUL else int(random.integers(len(TONES)))
    tones = [_row(TONES[number]) + random.normal(0, TONE_SPREAD) for number in (main, random.integers(len(TONES)))]
    other = (OTHER + _uneven(random, 0.5, TONE_CELLS, shape)).clip(0, 1)[:, :, None]
    return np.asarray(tones[0] * (1 - other) + tones[1] * other + _uneven(random, MOTTLE, MOTTLE_CELLS, shape)[:, :, None])


def _structure(random: np.random.Generator, label: int, dy: np.ndarray, dx: np.ndarray, scale: float) -> np.ndarray:
    """Return the density of all structures: the class's fine texture and grain, both around 0, and globules."""
    strength = TEXTURE[label] * (1 + _uneven(random, FADING, FADING_CELLS, dy.shape))
    texture = strength * _dots(random, dy / scale, dx / scale)
    grain = _uneven(random, random.uniform(*GRAIN), max(2, round(len(dy) / (GRAIN_SIZE * scale))), dy.shape)
    return np.asarray(texture + grain + _globules(random, dy.shape, scale), np.float32)


def _dots(random: np.random.Generator, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Return dots with mean 0 and deviation 1: the sum of three waves whose crests meet, bent.

    Upside down they are a net of pigment with light holes. Waves leave less trace in a small picture than scattered dots do.
    """
    number = 2 * np.pi / random.uniform(*PERIOD)
    y, x = (side + sum(_uneven(random, far, cells, dy.shape) for far, cells in zip(WARP, WARP_CELLS)) for side in (dy, dx))
    dots = sum(np.cos(number * (np.cos(angle) * x + np.sin(angle) * y)) for angle in random.uniform(0, np.pi) + TURNS)
    return np.asarray((dots - dots.mean()) / dots.std())


def _globules(random: np.random.Generator, shape: Tuple[int, ...], scale: float) -> np.ndarray:
    """Return round darker spots."""
    spots = np.zeros(shape, np.float32)
    for _ in range(random.integers(GLOBULES[0], GLOBULES[1] + 1)):
        place = (int(random.integers(shape[1])), int(random.integers(shape[0])))
        radius = max(1, round(random.uniform(*GLOBULE_SIZE) * scale))
        cv2.circle(spots, place, radius, random.uniform(0, GLOBULE), -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(spots, (0, 0), 1.5 * scale))


def _uneven(random: np.random.Generator, deviation: float, cells: int, shape: Tuple[int, ...]) -> np.ndarray:
    """Return noise with `cells` x `cells` independent places, enlarged to a shape."""
    noise = np.float32(deviation) * random.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC))


def _row(values: Tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)


# ---------------------------------------------------------------- what lies over it
def _draw_hair(image: np.ndarray, random: np.random.Generator) -> None:
    """Draw bent dark lines over a uint8 picture, in place."""
    height, width = image.shape[:2]
    scale, along = width / WIDTH, np.linspace(-0.5, 0.5, HAIR_POINTS)
    for _ in range(random.integers(HAIRS[0], HAIRS[1] + 1)):
        angle, length = random.uniform(0, 2 * np.pi), random.uniform(*HAIR_LENGTH) * scale
        bend = random.uniform(-HAIR_BEND, HAIR_BEND) * length * (4 * along ** 2 - 1)
        points = np.stack([random.uniform(0, width) + length * along * np.cos(angle) - bend * np.sin(angle),
                           random.uniform(0, height) + length * along * np.sin(angle) + bend * np.cos(angle)], 1)
        colour = (np.array(HAIR_BGR) + random.normal(0, HAIR_SPREAD)).clip(0, 255)
        thickness = max(1, round(random.uniform(*HAIR_WIDTH) * scale))
        cv2.polylines(image, [np.rint(points * 2 ** HAIR_SHIFT).astype(np.int32)], False, colour.tolist(), thickness,
                      cv2.LINE_AA, HAIR_SHIFT)


def _draw_ruler(image: np.ndarray, random: np.random.Generator) -> None:
    """Draw the lines of a ruler along the lower edge of a uint8 picture, in place."""
    height, width = image.shape[:2]
    scale = width / WIDTH
    for number, x in enumerate(np.arange(random.uniform(0, TICK), WIDTH, TICK)):
        length = TICKS[number % 5 == 0] * scale
        cv2.line(image, (round(x * scale), height - 1), (round(x * scale), round(height - 1 - length)), RULER_BGR, 1, cv2.LINE_AA)


def _darken_corners(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a uint8 picture as a dermatoscope shows it whose field does not reach the corners."""
    height, width = image.shape[:2]
    y, x = np.ogrid[-1:1:height * 1j, -1:1:width * 1j]
    far = np.hypot(y * height, x * width) / np.hypot(height, width)
    light = ((random.uniform(*CORNER_RADIUS) - far) / CORNER_EDGE + 0.5).clip(0.05, 1)
    return np.asarray((image * light[:, :, None]).astype(np.uint8))

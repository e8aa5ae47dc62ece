"""A made-up data set in the challenge's form, for machines without the real one.

Each picture is skin under uneven light with a lesion that covers a small part of it, and hair over everything. The
classes differ in the lesion's *fine* texture: dots (melanoma), lines (seborrheic keratosis), almost nothing (nevus).
Most of that texture is lost when the whole picture is made small, and is there in a crop of the lesion at full
resolution. Patches of blue, green or black, whose colour is mostly but not always that of the class, let the first stage
learn something, and only by looking at the lesion, since nothing else has these colours.
"""
from __future__ import annotations

import contextlib
import functools
import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from data_tools import steps
from data_tools.errors import DataError
from data_tools.files import encode_image, partial_folder, write_atomic
from data_tools.isic import CLASSES, GROUNDTRUTH, MADE_UP_PREFIX, SPLITS, write_groundtruth
from data_tools.parallel import Jobs, Workers, workers

NAME = "synthetic.json"
RECORD = ".made.json"
TOGETHER = 16                             # pictures that a process draws at a time
LEAST, MOST, LONGEST = 8, 999_999, 6      # side of a picture; pictures of a split; a long side in short ones
HEIGHT, WIDTH = 600, 800                  # of a picture; lengths below are pixels of a picture this wide
SHARES = (1 / 3, 1 / 3, 1 / 3)            # of the classes: equal, so that the background need not speak for one
SKIN_BGR, SKIN_SPREAD = (150, 172, 214), 9.0
LIGHT_SLOPE, VIGNETTE = 0.10, 0.30        # share of the light that changes from side to side, that is lost in corners
NOISE = 0.012                             # of the light, a pixel
AREA = (1 / 16, 1 / 8)                      # of the picture that the lesion covers
WAVES, WOBBLE = 7, 0.35                   # of the outline; its waves are at most WOBBLE / wave number of the radius
EDGE = 6.0                                # width of the lesion's soft edge
ABSORBED_BGR = (0.58, 0.52, 0.40)         # the share of light that a lesion takes away
MOTTLE, MOTTLE_CELLS = 0.12, 6            # contrast and cells of its coarse unevenness, the same for all classes
DARK_SPREAD, TINT_SPREAD = 0.10, 0.05     # of that share between lesions: all channels, blue against red
TRUTHFUL = 0.65                           # how often the patches have the class's own colour; else any of the three
PATCH_BGR = ((0.25, 0.60, 0.80), (0.85, 0.35, 0.80), (0.80, 0.80, 0.80))  # the share of light that they take away
PATCH_CELLS, PATCH_SHARE = 4, 0.6         # places across the lesion that are patch or not, and how many are
GRAIN, GRAIN_SIZE = (0.05, 0.25), 4.0      # contrast (drawn for each lesion) and size of grain, as well for all classes
PERIOD = (3.6, 4.4)                       # of the fine texture
TEXTURE = (0.30, 0.18, 0.0)              # its contrast: dots, lines, nothing
HAIRS = (4, 18)
HAIR_LENGTH, HAIR_WIDTH, HAIR_BEND = (150.0, 600.0), (1.0, 3.0), 0.25
HAIR_BGR, HAIR_SPREAD = (28, 34, 44), 10.0
HAIR_POINTS, HAIR_SHIFT = 24, 4           # corners of a drawn curve; binary digits of a corner's fraction


class Picture(NamedTuple):
    """A made-up picture: H x W x 3 uint8 BGR, and H x W bool, True in the lesion."""

    image: np.ndarray
    mask: np.ndarray


def make_picture(random: np.random.Generator, label: int, height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """Draw skin, lesion and hair, in this order; `label` is an index into `isic.CLASSES`."""
    light = _light(random, height, width)
    skin = np.array(SKIN_BGR) + random.normal(0, SKIN_SPREAD, 3)
    image = cv2.merge([light * np.float32(level) for level in skin])
    mask = _draw_lesion(image, random, label)
    image = image.clip(0, 255).astype(np.uint8)
    _draw_hair(image, random)
    return Picture(image, mask)


def _light(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return the light a pixel gets, H x W float32 around 1: a slope, a vignette, noise."""
    y, x = np.mgrid[-1:1:30j, -1:1:40j].astype(np.float32)
    slope_y, slope_x = random.uniform(-LIGHT_SLOPE, LIGHT_SLOPE, 2)
    coarse = 1 + slope_y * y + slope_x * x - VIGNETTE * np.maximum((x * x + y * y) / 2 - 0.3, 0)
    light = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    light += np.float32(NOISE) * random.standard_normal((height, width), np.float32)
    return np.asarray(light)


def _draw_lesion(image: np.ndarray, random: np.random.Generator, label: int) -> np.ndarray:
    """Darken the lesion's pixels of a float32 picture in place; return the mask, H x W bool."""
    height, width = image.shape[:2]
    scale, radius = width / WIDTH, np.sqrt(random.uniform(*AREA) * height * width / np.pi)
    y, x = (random.uniform(radius, side - radius) for side in (height, width))
    reach = radius * (1 + WOBBLE)
    top, left = max(int(y - reach), 0), max(int(x - reach), 0)
    window = (slice(top, int(y + reach) + 1), slice(left, int(x + reach) + 1))
    part = image[window]
    dy, dx = np.mgrid[top - y:top - y + part.shape[0], left - x:left - x + part.shape[1]].astype(np.float32)
    depth = _outline(random, radius, dy, dx) - np.hypot(dy, dx)
    opacity = (depth / np.float32(EDGE * scale) + np.float32(0.5)).clip(0, 1)
    mottle = _uneven(random, MOTTLE, MOTTLE_CELLS, part.shape[:2])
    grain = _uneven(random, random.uniform(*GRAIN), round(2 * reach / (GRAIN_SIZE * scale)), part.shape[:2])
    fine = _texture(random, label, dy / scale, dx / scale)
    pigment = opacity * (1 + mottle + grain + fine)
    image[window] = part * (1 - pigment[:, :, None] * _absorbed(random, label, part.shape[:2])).clip(0.05, 1)
    mask = np.zeros((height, width), bool)
    mask[window] = depth > 0
    return mask


def _outline(random: np.random.Generator, radius: float, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Return the distance from the centre to the outline in each pixel's direction."""
    angles = np.linspace(-np.pi, np.pi, 721)
    radii = np.full(angles.shape, radius)
    for wave in range(2, WAVES):
        radii += radius * random.uniform(0, WOBBLE / wave) * np.cos(wave * angles + random.uniform(0, 2 * np.pi))
    place = np.rint((np.arctan2(dy, dx) + np.pi) * (720 / (2 * np.pi))).astype(np.intp)
    return np.asarray(radii.astype(np.float32)[place])


def _absorbed(random: np.random.Generator, label: int, shape: Tuple[int, int]) -> np.ndarray:
    """Return the share of blue, green and red that the lesion takes away, H x W x 3: its own tone, and the patches'."""
    dark, tint = random.normal(), random.normal()
    tone = np.array(ABSORBED_BGR) * (1 + DARK_SPREAD * dark) + TINT_SPREAD * tint * np.array([1, 0, -1])
    kind = label if random.random() < TRUTHFUL else int(random.integers(len(CLASSES)))
    places = (random.random((PATCH_CELLS, PATCH_CELLS)) < PATCH_SHARE).astype(np.float32)
    patches = cv2.resize(places, shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)[:, :, None]
    return np.asarray((tone.clip(0.1, 0.9) * (1 - patches) + np.array(PATCH_BGR[kind]) * patches).astype(np.float32))


def _uneven(random: np.random.Generator, contrast: float, cells: int, shape: Tuple[int, int]) -> np.ndarray:
    """Return noise with `cells` x `cells` independent places, enlarged to a shape."""
    noise = np.float32(contrast) * random.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC))


def _texture(random: np.random.Generator, label: int, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Return the class's fine texture with mean 0, so that it leaves no trace in a small picture."""
    angle, period = random.uniform(0, np.pi), random.uniform(*PERIOD)
    warp = np.sin(dy / 23 + random.uniform(0, 6)) + np.sin(dx / 29 + random.uniform(0, 6))
    u = (np.cos(angle) * dx + np.sin(angle) * dy) * (2 * np.pi / period) + warp
    v = (np.cos(angle) * dy - np.sin(angle) * dx) * (2 * np.pi / period) + warp
    pattern = np.maximum(np.cos(u) + np.cos(v), 0) if CLASSES[label] == "melanoma" else np.cos(u)
    return np.asarray((TEXTURE[label] * (pattern - pattern.mean())).astype(np.float32))


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


def step(out: Path, counts: Dict[str, int], jobs: Jobs = 1, **options: int) -> steps.Step:
    """Return the step that makes a data set; `options` are those of `make_root` that its pictures depend on."""
    long, short = max(options["height"], options["width"]), min(options["height"], options["width"])
    if long > LONGEST * short:
        raise DataError(f"pictures of {options['height']} x {options['width']}: a lesion does not fit; expected a long side of "
                        f"{LONGEST} short ones at most")

    def work() -> List[Path]:
        make_root(out, counts, jobs=jobs, **options)
        print(f"{out}: {', '.join(f'{split} {count}' for split, count in counts.items())} pictures")
        return sorted(path for path in out.rglob("*") if path.is_file() and path.name != RECORD)

    parameters = {"counts": counts, **options, "code": steps.code("data_tools.synthetic")}
    return steps.Step("pictures", out, out / RECORD, parameters, {}, work)


def make_root(out: Path, counts: Dict[str, int], *, seed: int = 1, height: int = HEIGHT, width: int = WIDTH,
              jobs: Jobs = 1) -> None:
    """Write a data set that `isic.find_split` recognises.

    Folders ``train``, ``val``, ... hold JPEGs and ``groundtruth.csv``; ``masks`` holds ``<id>_segmentation.png``,
    0/255. A picture depends on the seed, its split, its place in it and its label alone.

    Parameters
    ----------
    out : Path
        Folder to make; one made here earlier is replaced at the end.
    counts : dict
        Number of pictures by split; splits with 0 are left out.
    seed, height, width : int
        Of the pictures.
    jobs : int or str
        Where they are drawn, see `parallel.workers`; they are the same wherever it is.
    """
    with partial_folder(out, NAME) as root, workers(jobs) as pool:
        (root / "masks").mkdir()
        for split, count in counts.items():
            if count:
                _make_split(root, split, count, seed, (height, width), pool)
        about = {"seed": seed, "height": height, "width": width, "counts": counts}
        write_atomic(root / NAME, (json.dumps(about, indent=2) + "\n").encode())


def _make_split(root: Path, split: str, count: int, seed: int, size: Tuple[int, int], pool: Workers) -> None:
    (root / split).mkdir()
    work = functools.partial(_write_some, root=root, split=split, seed=seed, size=size)
    labels = _labels(count, seed, SPLITS.index(split))
    with contextlib.closing(pool.map(work, enumerate(labels), count, TOGETHER)) as ids:
        named = dict(zip(tqdm(ids, split, count, unit="picture", disable=None), labels))
    write_groundtruth(root / split / GROUNDTRUTH, named)


def _write_some(places: List[Tuple[int, int]], root: Path, split: str, seed: int, size: Tuple[int, int]) -> List[str]:
    """Draw and write pictures of some places and labels; return their ids."""
    number, ids = SPLITS.index(split), []
    for place, label in places:
        picture = make_picture(np.random.default_rng([seed, number, place]), label, *size)
        ids.append(f"{MADE_UP_PREFIX}{number}{place:06d}")
        (root / split / f"{ids[-1]}.jpg").write_bytes(encode_image(picture.image, ".jpg"))
        mask = picture.mask.astype(np.uint8) * 255
        (root / "masks" / f"{ids[-1]}_segmentation.png").write_bytes(encode_image(mask, ".png"))
    return ids


def _labels(count: int, seed: int, number: int) -> List[int]:
    """Return labels with the wanted shares, shuffled."""
    bounds = np.rint(np.cumsum(SHARES) * count)
    labels = np.searchsorted(bounds, np.arange(count), side="right")
    return [int(label) for label in np.random.default_rng([seed, number]).permutation(labels)]

"""Measure hair removal on pictures with hair of known position, beside doing nothing and the usual recipe.

Draws curved anti-aliased strokes (1-6 px wide at 512 px, black to mid-brown, three densities) on hair-free pictures and
compares each method's mask and picture with the truth. Half of the pictures get strokes of even width as OpenCV draws
them, half get strokes that taper, blurred a little.

Columns
-------
recall, precision, IoU
    Pixel against pixel (strict). The truth is every pixel that a stroke covers at least half.
IoU any
    The same where the truth is every pixel that a stroke touches at all.
recall~, precision~
    The same with a tolerance of 2 px: a pixel counts when the other mask has one within 2 px.
PSNR in, SSIM
    Against the hair-free original, over the pixels that a stroke touches at all (SSIM: grey, 7 x 7 window, mean there).
PSNR out
    Over the pixels that no stroke touches (99 when nothing changed).
clean, lesion
    Percentage marked on the hair-free picture: of the whole picture, and of the lesion.
s/MP
    Processor seconds per megapixel on one thread, on the pictures with hair.

Example: python benchmarks/hair.py --images data/images --masks data/masks --json hair.json
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import cv2
import numpy as np
from skimage.metrics import structural_similarity
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_tools.hair import remove_hair

DENSITIES = (8, 20, 40)   # strokes a picture
TOLERANCE = 2             # px at 512
FINE = 4                  # tapered strokes are drawn this much larger and shrunk
NO_CHANGE = 99.0          # PSNR of two equal pictures

Widths = Tuple[float, float]
Method = Callable[[np.ndarray], Tuple[np.ndarray, np.ndarray]]


def nothing(image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    return image, np.zeros(image.shape[:2], bool)


def blackhat_telea(image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Apply the recipe that public code calls DullRazor: grey black-hat 9 x 9, threshold 10, Telea inpainting."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    hat = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, np.ones((9, 9), np.uint8))
    mask = hat > 10
    return cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA), mask


METHODS: Dict[str, Method] = {
    "nothing": nothing,
    "black-hat + Telea": blackhat_telea,
    "ours, along": lambda image: remove_hair(image, method="along"),
    "ours, letter": lambda image: remove_hair(image, method="letter"),
}


def curve(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return 64 points (x, y) of a Bezier curve of random place, length and bend."""
    start = rng.random(2) * (width, height)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.9) * width
    end = start + length * np.array([np.cos(angle), np.sin(angle)])
    bend = (start + end) / 2 + rng.normal(0, 0.15, 2) * length
    t = np.linspace(0, 1, 64)[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t ** 2 * end)


def even_stroke(rng: np.random.Generator, height: int, width: int, widths: Widths) -> np.ndarray:
    """Draw a stroke of one width; return coverage in 0..1."""
    canvas = np.zeros((height, width), np.uint8)
    thickness = max(1, round(rng.uniform(*widths) * width / 512))
    points = np.round(curve(rng, height, width) * 16).astype(np.int32)
    cv2.polylines(canvas, [points], False, 255, thickness, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def tapered_stroke(rng: np.random.Generator, height: int, width: int, widths: Widths) -> np.ndarray:
    """Draw a stroke whose width falls to its end, `FINE` times as large; return coverage in 0..1, slightly blurred."""
    points, scale = curve(rng, height, width), width / 512
    way = np.gradient(points, axis=0)
    across = np.stack([-way[:, 1], way[:, 0]], axis=1) / np.maximum(np.hypot(*way.T), 1e-6)[:, None]
    fine = max(1, round(FINE / scale))
    half = rng.uniform(*widths) * scale / 2 * np.linspace(1, rng.uniform(0.4, 1), len(points))[:, None]
    left, right = ((points + side * half * across) * fine * 16 for side in (1, -1))
    canvas = np.zeros((height * fine, width * fine), np.uint8)
    for i in range(len(points) - 1):
        piece = np.array([left[i], left[i + 1], right[i + 1], right[i]])
        cv2.fillConvexPoly(canvas, np.round(piece).astype(np.int32), 255, cv2.LINE_8, 4)
    cover = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    blurred = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.2, 0.6) * scale)
    return np.where(blurred < 0.01, np.float32(0), blurred)


def add_hair(image: np.ndarray, count: int, seed: int, widths: Widths) -> Tuple[np.ndarray, np.ndarray]:
    """Return the picture with `count` strokes and the coverage (H x W float32 in 0..1) of all of them."""
    rng = np.random.default_rng(seed)
    stroke: Callable[..., np.ndarray] = tapered_stroke if seed // 10 % 2 else even_stroke
    hairy, coverage = image.astype(np.float32), np.zeros(image.shape[:2], np.float32)
    for _ in range(count):
        cover = stroke(rng, *image.shape[:2], widths)
        colour = rng.uniform(5, 60) * np.array([0.6, 0.8, rng.uniform(0.8, 1.6)])
        hairy += (cover * rng.uniform(0.85, 1.0))[..., None] * (colour.astype(np.float32) - hairy)
        coverage = np.maximum(coverage, cover)
    return np.rint(hairy).astype(np.uint8), coverage


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = np.mean((a[where].astype(np.float64) - b[where]) ** 2)
    return float(min(NO_CHANGE, 10 * np.log10(255 ** 2 / error))) if error else NO_CHANGE


def near(mask: np.ndarray, scale: float) -> np.ndarray:
    size = 2 * round(TOLERANCE * scale) + 1
    return cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))) > 0


def share(part: np.ndarray, whole: np.ndarray, empty: float = 0.0) -> float:
    return float((part & whole).sum() / whole.sum()) if whole.any() else empty


def compare(original: np.ndarray, clean: np.ndarray, found: np.ndarray, coverage: np.ndarray) -> Dict[str, float]:
    truth, touched, scale = coverage >= 0.5, coverage > 0, original.shape[1] / 512
    gray = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (original, clean)]
    ssim = structural_similarity(*gray, full=True)[1]  # type: ignore[no-untyped-call]
    return {
        "recall": share(found, truth), "precision": share(truth, found),
        "IoU": share(found & truth, found | truth), "IoU any": share(found & touched, found | touched),
        "recall~": share(near(found, scale), truth), "precision~": share(near(truth, scale), found),
        "PSNR in": psnr(original, clean, touched), "SSIM": float(ssim[touched].mean()),
        "PSNR out": psnr(original, clean, ~touched),
    }


def measure(method: Method, original: np.ndarray, lesion: Optional[np.ndarray], seed: int, widths: Widths) -> Dict[str, float]:
    """Average one picture's figures over the densities and add those of the hair-free picture."""
    rows: List[Dict[str, float]] = []
    for i, count in enumerate(DENSITIES):
        hairy, coverage = add_hair(original, count, seed + i, widths)
        begin = time.process_time()
        clean, found = method(hairy)
        seconds = time.process_time() - begin
        rows.append({**compare(original, clean, found, coverage), "s/MP": seconds / (found.size / 1e6)})
    figures = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    marked = method(original)[1]
    figures["clean"] = 100 * float(marked.mean())
    figures["lesion"] = 100 * share(marked, lesion) if lesion is not None else float("nan")
    return figures


def load(path: Path, masks: Path, scale: float) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    image: np.ndarray = imread(path)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    if scale != 1:
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    segmentation = masks / f"{path.stem}_segmentation.png"
    if not segmentation.exists():
        return image, None
    return image, cv2.resize(imread(segmentation)[..., 0], size, interpolation=cv2.INTER_NEAREST) > 127


def imread(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"error: {path}: not a picture that OpenCV can read")
    return image


def print_table(table: Dict[str, Dict[str, float]]) -> None:
    columns = list(next(iter(table.values())))
    print(f"{'':18}" + "".join(f"{name:>11}" for name in columns))
    for name, figures in table.items():
        print(f"{name:18}" + "".join(f"{figures[column]:11.3f}" for column in columns))


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of hair-free .jpg pictures")
    parser.add_argument("--masks", type=Path, required=True, help="folder of ID_segmentation.png lesion masks")
    parser.add_argument("--ids", type=Path, help="text file, one image id a line: use only these pictures")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 2.5], help="enlarge pictures and hair by these")
    parser.add_argument("--widths", type=float, nargs=2, default=[1.0, 6.0], help="of hair, px in a 512 px picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also store the figures here")
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    wanted = args.ids.read_text().split() if args.ids else None
    paths = [path for path in sorted(args.images.glob("*.jpg")) if wanted is None or path.stem in wanted]
    if not paths:
        parser.error(f"no .jpg picture to use in {args.images}")
    tables = {str(scale): run(paths, args, scale) for scale in args.scales}
    if args.json:
        args.json.write_text(json.dumps({"pictures": [path.stem for path in paths], "seed": args.seed, "densities": DENSITIES,
                                         "widths": args.widths, "scales": tables}, indent=1) + "\n")
    return 0


def run(paths: List[Path], args: argparse.Namespace, scale: float) -> Dict[str, Dict[str, float]]:
    """Measure all methods on all pictures at one scale, print the table and return it."""
    results: Dict[str, List[Dict[str, float]]] = {name: [] for name in METHODS}
    for number, path in enumerate(tqdm(paths, f"scale {scale}", unit="picture", disable=None)):
        original, lesion = load(path, args.masks, scale)
        for name, method in METHODS.items():
            results[name].append(measure(method, original, lesion, args.seed + 10 * number, tuple(args.widths)))
    table = {name: {key: round(float(np.nanmean([row[key] for row in rows])), 4) for key in rows[0]}
             for name, rows in results.items()}
    print(f"{len(paths)} pictures, scale {scale}, {len(DENSITIES)} densities")
    print_table(table)
    return table


if __name__ == "__main__":
    sys.exit(main())

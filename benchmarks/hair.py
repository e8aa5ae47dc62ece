"""Measure hair removal on real pictures without hair, on which hair of known place is painted (`painted_hair`).

Two thirds of the pictures are for tuning, every third is held out of it; each picture has hairs of its own.

Columns
-------
recall, precision
    Pixel against pixel, with a tolerance of 1 px (at 512 px; at least 1): a pixel counts when the other mask has one so near.
    Hair that is not darker than what it covers counts neither way: dark hair is what is looked for.
recall all
    The same with the hair that cannot be seen, or is brighter than what it covers.
strict recall, strict precision, IoU
    Without tolerance. The truth is every pixel that a hair covers at least half.
PSNR in, SSIM
    Against the hair-free original, over the pixels that a hair changes at all (SSIM: grey, 7 x 7 window, mean there).
PSNR out
    Over the others (99 when nothing changed; most of it is the JPEG that the hairy picture went through).
marked, lesion
    Percentage marked on the hair-free picture: of the whole picture, and of the lesion.
s/MP
    Processor seconds per megapixel on one thread, on the pictures with hair; the methods take turns on each picture.

Example: python benchmarks/hair.py --images data/images data/images256/train --masks data/masks --out docs/results/hair.md
"""
from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
from skimage.metrics import structural_similarity
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from painted_hair import LOOKS, SIDE, Look, Painted, draw_look, paint

from data_tools.hair import remove_hair

NO_CHANGE = 99.0          # PSNR of two equal pictures
HAIR_FREE = (  # ISIC_...: training pictures in which nobody saw hair, whole or cut to a square
    8, 14, 30, 31, 49, 73, 77, 120, 135, 140, 141, 143, 410,
    484, 9897, 9960, 10000, 10034, 10069, 10094, 10215, 10443, 10447, 10488, 10587, 10597,
    10863, 11083, 11085, 11137, 11157, 13670, 14603, 14605, 14609, 14628, 14632, 14640, 14642,
    14651, 14845, 15170,
)
OURS = "along"

Method = Callable[[np.ndarray], Tuple[np.ndarray, np.ndarray]]
Figures = Dict[str, float]


class Scene(NamedTuple):
    """A picture without hair, its lesion if that is known, and the same picture with hair."""

    name: str
    look: Look
    original: np.ndarray
    lesion: Optional[np.ndarray]
    painted: Painted


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
    "letter": lambda image: remove_hair(image, method="letter"),
    OURS: remove_hair,
}


def earlier(tree: Path) -> Method:
    """Return the default method of another tree of this project, beside this one's."""
    mine = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "data_tools"}
    sys.path.insert(0, str(tree))
    method = importlib.import_module("data_tools.hair").remove_hair
    sys.path.remove(str(tree))
    sys.modules.update(mine)
    return method  # type: ignore[no-any-return]


def scenes(images: Path, masks: Optional[Path], held_out: bool, draws: int, seed: int) -> List[Callable[[], Scene]]:
    """Return functions that paint the scenes of one part of the pictures, `draws` a picture."""
    def scene(number: int, draw: int) -> Scene:
        path = images / f"ISIC_{HAIR_FREE[number]:07}.jpg"
        original = imread(path)
        rng = np.random.default_rng([seed, number, draw, original.shape[0]])
        look = draw_look(rng)
        return Scene(path.stem, look, original, find_lesion(masks, path, original), paint(original, look, rng))

    numbers = [i for i, one in enumerate(HAIR_FREE) if (i % 3 == 2) == held_out and (images / f"ISIC_{one:07}.jpg").exists()]
    return [lambda number=number, draw=draw: scene(number, draw) for number in numbers for draw in range(draws)]  # type: ignore[misc]


def find_lesion(masks: Optional[Path], path: Path, original: np.ndarray) -> Optional[np.ndarray]:
    file = masks and masks / f"{path.stem}_segmentation.png"
    lesion = imread(file)[..., 0] > 127 if file and file.exists() else None
    return lesion if lesion is not None and lesion.shape == original.shape[:2] else None


def imread(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"error: {path}: not a picture that OpenCV can read")
    return image


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = np.mean((a[where].astype(np.float64) - b[where]) ** 2) if where.any() else 0
    return float(min(NO_CHANGE, 10 * np.log10(255 ** 2 / error))) if error else NO_CHANGE


def near(mask: np.ndarray) -> np.ndarray:
    size = 2 * max(1, round(min(mask.shape) / SIDE)) + 1
    return cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))) > 0


def share(part: np.ndarray, whole: np.ndarray) -> float:
    return float((part & whole).sum() / whole.sum()) if whole.any() else float("nan")


def compare(scene: Scene, clean: np.ndarray, found: np.ndarray) -> Figures:
    hair, touched, dark = scene.painted.hair, scene.painted.touched, scene.painted.dark
    unsure = hair & ~dark
    gray = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (scene.original, clean)]
    ssim = structural_similarity(*gray, full=True)[1]  # type: ignore[no-untyped-call]
    return {
        "recall": share(near(found), dark), "precision": share(near(hair), found), "recall all": share(near(found), hair),
        "strict recall": share(found, dark), "strict precision": share(hair, found),
        "IoU": share(found & hair, (found | hair) & ~unsure),
        "PSNR in": psnr(scene.original, clean, touched), "SSIM": float(ssim[touched].mean()),
        "PSNR out": psnr(scene.original, clean, ~touched),
    }


def measure(methods: Dict[str, Method], scene: Scene) -> Dict[str, Figures]:
    figures: Dict[str, Figures] = {}
    for name, method in methods.items():
        begin = time.process_time()
        clean, found = method(scene.painted.image)
        seconds = time.process_time() - begin
        marked = method(scene.original)[1]
        figures[name] = {**compare(scene, clean, found), "marked": 100 * float(marked.mean()),
                         "lesion": 100 * share(marked, scene.lesion) if scene.lesion is not None else float("nan"),
                         "s/MP": seconds / (found.size / 1e6)}
    return figures


def mean(rows: List[Figures]) -> Figures:
    return {name: float(np.nanmean([row[name] for row in rows])) if any(row[name] == row[name] for row in rows) else float("nan")
            for name in rows[0]}


def table(title: str, rows: Dict[str, Figures]) -> str:
    """Return rows of figures as Markdown."""
    columns = list(next(iter(rows.values())))
    lines = [f"| {title} | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for name, figures in rows.items():
        cells = [f"{figures[column]:.{2 if abs(figures[column]) >= 10 else 3}f}" for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def by_look(measured: List[Tuple[Look, Figures]]) -> Dict[str, Figures]:
    """Average the figures of one method over the pictures of each width, bend and so on."""
    groups: Dict[str, List[Figures]] = defaultdict(list)
    for field, values in zip(Look._fields, LOOKS):
        for value in values:
            groups[f"{field}: {value}"] = [figures for look, figures in measured if getattr(look, field) == value]
    kept = ("recall", "precision", "recall all", "IoU", "PSNR in")
    return {name: {column: mean(rows)[column] for column in kept} for name, rows in groups.items() if rows}


def run(args: argparse.Namespace, methods: Dict[str, Method], held_out: bool) -> str:
    """Measure all methods on one part of the pictures; return the tables."""
    part, text, looks = "held out" if held_out else "tuning", "", []
    for folder in args.images:
        todo = scenes(folder, args.masks, held_out, args.draws, args.seed)
        results: Dict[str, List[Figures]] = defaultdict(list)
        for make in tqdm(todo, f"{folder.name}, {part}", unit="picture", disable=None):
            scene = make()
            for name, figures in measure(methods, scene).items():
                results[name].append(figures)
            looks.append((scene.look, results[OURS][-1]))
        if todo:
            text += f"\n## {part.capitalize()}, `{'/'.join(folder.parts[-2:])}`: {len(todo)} painted pictures\n\n"
            text += table("", {name: mean(rows) for name, rows in results.items()})
    return text + f"\n### {part.capitalize()}, `{OURS}` by the look of the hair\n\n" + table("", by_look(looks)) if looks else ""


def parse(argv: Optional[List[str]]) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders that hold ISIC_*.jpg, any of HAIR_FREE")
    parser.add_argument("--masks", type=Path, help="folder of ID_segmentation.png lesion masks")
    parser.add_argument("--parts", nargs="+", choices=["tuning", "held-out"], default=["tuning", "held-out"])
    parser.add_argument("--draws", type=int, default=4, help="times that hair is painted on each picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--earlier", type=Path, help="another tree of this project, whose default method is measured too")
    parser.add_argument("--out", type=Path, help="also store the tables here")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    args = parse(argv)
    cv2.setNumThreads(1)
    methods = {**METHODS, **({"along, earlier": earlier(args.earlier)} if args.earlier else {})}
    for method in methods.values():
        method(np.zeros((64, 64, 3), np.uint8))  # imports once what it needs
    text = "".join(run(args, methods, part == "held-out") for part in args.parts)
    if not text:
        raise SystemExit(f"error: {', '.join(map(str, args.images))}: none of the hair-free pictures ISIC_*.jpg; see HAIR_FREE")
    print(text)
    if args.out:
        words = shlex.join(["python", "benchmarks/hair.py", *(sys.argv[1:] if argv is None else argv)])
        args.out.write_text(f"# Hair removal\n\nMade with `{words}`; its help says what the columns mean (D18).\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

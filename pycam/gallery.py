"""The gallery of a report: every picture with its map, box and crop, what both stages say, and its true class."""
import base64
from html import escape
from pathlib import Path
from typing import Callable, List, Sequence
from urllib.parse import quote

import cv2
import numpy as np
from tqdm import tqdm

from data_tools.files import encode_image, partial_folder
from data_tools.isic import CLASSES

from .drawing import SHORT, outline, overlay
from .examples import STAGES, Example, Run

EMBEDDED = 200  # embedded pictures at most; more are files in a folder next to the page, loaded when scrolled into view
HEIGHT = 240  # of a strip, in pixels
LONG_SIDE = 320
QUALITY = 80
FOLDER = "_files"  # after the page's name
FIRST = "00001.jpg"  # by which a finished folder is known
SIGNS = {"": "", " class=hit": "<span role=img aria-label=right>\u2713</span> ",
         " class=miss": "<span role=img aria-label=wrong>\u2717</span> "}

ABOUT = ("Each picture with the crop's box, the map that the box follows, and the crop. Its true class stands at the right and "
         "heads the bold column; below are the probabilities of both stages. \u2713 marks a most probable class that is right, "
         "\u2717 a wrong one. M melanoma, SK seborrheic keratosis, N nevus. A click enlarges a picture.")
TRUTHS = [("", "any class"), *((str(i), name.replace("_", " ")) for i, name in enumerate(CLASSES))]
OUTCOMES = [("", "any outcome"), ("right right", "right in both stages"), ("wrong right", f"right in {STAGES[1]} only"),
            ("right wrong", f"right in {STAGES[0]} only"), ("wrong wrong", "wrong in both stages"),
            ("whole", "crop is the whole picture")]
SORTS = [("id", "image id"), ("wrong", "surest mistake"), ("m", f"melanoma, {STAGES[1]}"), ("sk", f"keratosis, {STAGES[1]}"),
         ("own", f"true class, {STAGES[1]}"), ("gain", "gain of the true class")]


def gallery(run: Run, page: Path) -> str:
    """Return the gallery as HTML; many pictures become files next to the page.

    Parameters
    ----------
    run : Run
        The run.
    page : Path
        File of the page.
    """
    run.check()
    ids = sorted(run.labels)
    if len(ids) <= EMBEDDED:
        return frame(_cards(run, ids, lambda number, content: f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"))
    folder = page.with_name(page.stem + FOLDER)
    with partial_folder(folder, FIRST) as partial:
        def beside(number: int, content: bytes) -> str:
            (partial / f"{number:05}.jpg").write_bytes(content)
            return quote(f"{folder.name}/{number:05}.jpg")
        return frame(_cards(run, ids, beside))


def _cards(run: Run, ids: Sequence[str], keep: Callable[[int, bytes], str]) -> List[str]:
    cards = []
    for number, image_id in enumerate(tqdm(ids, unit="picture", desc="gallery", disable=None), 1):
        example = run.example(image_id, LONG_SIDE)
        picture = strip(example)
        cards.append(card(example, keep(number, encode_image(picture, ".jpg", QUALITY)), picture.shape))
    return cards


def strip(example: Example) -> np.ndarray:
    """Return picture with box, the map that the crop follows, and crop, side by side: HEIGHT x W x 3 uint8."""
    top = float(max(example.cams.max(), example.followed.max()))
    tiles = (outline(example.image, example.box), overlay(example.image, example.followed, top, example.cells), example.crop)
    return np.hstack([cv2.resize(tile, (max(1, round(tile.shape[1] * HEIGHT / tile.shape[0])), HEIGHT),
                                 interpolation=cv2.INTER_AREA) for tile in tiles])


def card(example: Example, source: str, shape: Sequence[int]) -> str:
    """Return one picture's card; its ``data-`` values are what the page sorts and filters by."""
    stages = (example.probs, example.final)
    outcome = " ".join("right" if int(np.argmax(probs)) == example.label else "wrong" for probs in stages)
    own = [probs[example.label] for probs in stages]
    wrong = max(example.final) if outcome.endswith("wrong") else 0
    values = {"id": example.image_id, "truth": example.label, "outcome": outcome, "m": example.final[0], "sk": example.final[1],
              "own": own[1], "gain": own[1] - own[0], "wrong": wrong, "whole": int(example.row.is_whole)}
    data = " ".join(f"data-{key}=\"{escape(str(value))}\"" for key, value in values.items())
    name, shown = escape(example.image_id), escape(example.map_name)
    return (f"<article class=item {data}><button type=button class=enlarge aria-haspopup=dialog><img loading=lazy decoding=async "
            f"width={shape[1]} height={shape[0]} alt=\"{name}: picture with box, map of {shown}, crop\" "
            f"src=\"{escape(source)}\"></button><p class=scale>map of {shown} <span class=bar></span></p>"
            f"<h3>{name} <span>{CLASSES[example.label].replace('_', ' ')}</span></h3>{_table(example)}</article>")


def _table(example: Example) -> str:
    """Return the probabilities of both stages; the true class stands out, and a first choice has a sign: right or wrong."""
    heads = "".join(f"<th scope=col{' class=own' if i == example.label else ''}>{name}</th>" for i, name in enumerate(SHORT))
    rows = []
    for style, name, probs in zip(("stage1", "stage2"), STAGES, (example.probs, example.final)):
        chosen = int(np.argmax(probs))
        marks = ["" if i != chosen else " class=hit" if i == example.label else " class=miss" for i in range(len(probs))]
        cells = "".join(f"<td{mark} style=\"--p:{p:.3f}\">{SIGNS[mark]}{p:.2f}</td>" for mark, p in zip(marks, probs))
        rows.append(f"<tr class={style}><th scope=row>{name}</th>{cells}</tr>")
    return f"<table class=probs><thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def frame(cards: Sequence[str]) -> str:
    """Return the controls and the cards under them; without JavaScript all cards are there, in the order of their ids."""
    fields = "".join(_select(*field) for field in (("truth", "true class", TRUTHS), ("outcome", "outcome", OUTCOMES),
                                                   ("sort", "sort by", SORTS)))
    return (f"<p>{ABOUT}</p>"
            "<form id=controls><label>image id <input id=find type=search autocomplete=off placeholder=\"part of it\"></label>"
            f"{fields}<button id=reverse type=button aria-pressed=false>reverse</button>"
            f"<output id=count>{len(cards)} of {len(cards)}</output></form>\n"
            f"<div id=cards>{chr(10).join(cards)}</div>\n"
            "<dialog id=large aria-labelledby=large-title><form method=dialog><h3 id=large-title></h3>"
            "<button>close</button></form><img alt=\"\"><p class=scale>none <span class=bar></span> most evidence</p></dialog>")


def _select(name: str, label: str, options: Sequence[Sequence[str]]) -> str:
    choices = "".join(f"<option value=\"{value}\">{text}</option>" for value, text in options)
    return f"<label>{label} <select id={name}>{choices}</select></label>"

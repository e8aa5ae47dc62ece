"""The report's page: one self-contained file, light or dark as the reader's system asks, readable on a phone."""
import base64
import hashlib
import re
from html import escape
from pathlib import Path
from typing import Iterable, Mapping, Sequence, Tuple

from .drawing import BARS, INK
from .drawing import colour_bar as colour_bar_pixels

STYLE = Path(__file__).with_name("report.css")
SCRIPT = Path(__file__).with_name("report.js")
STOPS = 16  # of the colour bar's gradient
_NOISE = (  # what an SVG file needs and a part of a page does not; the ids that two figures would share
    re.compile(r"^.*?(?=<svg )", re.DOTALL), re.compile(r"<metadata>.*?</metadata>", re.DOTALL),
    re.compile(r" xmlns(:xlink)?=\"[^\"]*\""), re.compile(r" id=\"[A-Za-z_0-9]*_\d+\""))

_IDS = re.compile(r"(?<= id=\")|(?<=url\(#)|(?<=href=\"#)")


def document(title: str, parts: Mapping[str, str], lead: str) -> str:
    """Return the whole page.

    Its content policy allows its own script, pictures in the page or in its folder, and no network.

    Parameters
    ----------
    title : str
        Plain text.
    parts : mapping
        Title of each section -> its body (HTML).
    lead : str
        HTML below the title.
    """
    script = SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data: file: 'self'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    colours = " ".join(f"--stage{number}: {red} {green} {blue};" for number, (blue, green, red) in enumerate(BARS, 1))
    style = f":root {{ {colours} --map: linear-gradient(to right, {_map_colours()}); }}\n{STYLE.read_text(encoding='utf-8')}"
    links = "".join(f"<a href=\"#{_anchor(name)}\">{escape(name)}</a>" for name in parts)
    sections = "\n".join(f"<section id=\"{_anchor(name)}\">\n<h2>{escape(name)}</h2>\n{body}\n</section>"
                         for name, body in parts.items())
    page = ("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<link rel=\"icon\" href=\"data:,\">\n"
            f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            f"<header>\n<h1>{escape(title)}</h1>\n{lead}\n</header>\n<nav>{links}</nav>\n<main>\n{sections}\n</main>\n"
            f"<script>{script}</script>\n</body>\n</html>\n")
    return page.encode(errors="backslashreplace").decode()  # names of files are bytes


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def head(rows: Sequence[Tuple[str, str]]) -> str:
    """Return what the page is about as a compact list for its top: names and values, plain text; empty values are left out."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows if value)
    return f"<dl class=head>{items}</dl>"


def paragraph(text: str, style: str = "") -> str:
    """Return a paragraph of plain text; ``style`` is a class name of the page: soft, note or lead."""
    return f"<p class=\"{escape(style)}\">{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], theirs: Sequence[str] = (), style: str = "",
          caption: str = "") -> str:
    """Return a table of plain text. ``value (detail)`` shows its detail small; rows named in ``theirs`` stand back."""
    heads = "".join(f"<th scope=col>{escape(name)}</th>" if name else "<td></td>" for name in columns)
    body = "\n".join(f"<tr{' class=theirs' if row[0] in theirs else ''}>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (f"<div class=wide tabindex=0><table class=\"{escape(style)}\">{above}<thead><tr>{heads}</tr></thead>\n"
            f"<tbody>\n{body}\n</tbody></table></div>")


def heading(text: str) -> str:
    """Return a heading within a section, plain text."""
    return f"<h3 class=part>{escape(text)}</h3>\n"


def colour_bar(low: str, high: str) -> str:
    """Return the colours of the maps between the words for their ends, plain text."""
    bar = "<span class=bar role=img aria-label=\"colour scale of the maps\"></span>"
    return f"<p class=scale>{escape(low)} {bar} {escape(high)}</p>"


def _map_colours() -> str:
    """Return the colours of the maps as a gradient of the page's style, over white."""
    return ", ".join(f"rgb({red} {green} {blue})" for blue, green, red in colour_bar_pixels(STOPS, 1)[0])


def _cell(text: str) -> str:
    found = re.fullmatch(r"([\d.+-]+) \(([\d.+ -]+)\)", text)
    return f"<td>{found.group(1)}<small>{found.group(2)}</small></td>" if found else f"<td>{escape(text)}</td>"


def numbers(items: Iterable[Tuple[str, str, str]]) -> str:
    """Return a row of large numbers: what it is, its value, a remark (plain text)."""
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class=soft>{escape(remark)}</dd></div>"
                    for name, value, remark in items)
    return f"<dl class=numbers>{tiles}</dl>"


def details(summary: str, body: str) -> str:
    """Return a part (HTML) that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def drawing(svg: bytes, caption: str) -> str:
    """Return a figure with an SVG file as a part of the page; its grey ink takes the page's colour of text."""
    text = svg.decode("utf-8")
    for noise in _NOISE:
        text = noise.sub("", text)
    own = hashlib.sha256(svg).hexdigest()[:8]  # equal parts of two figures have equal ids
    text = _IDS.sub(rf"\g<0>f{own}-", text)
    text = text.replace(INK, "currentColor").replace("<svg ", f"<svg role=\"img\" aria-label=\"{escape(caption)}\" ", 1)
    return f"<figure class=drawing tabindex=0>{text}<figcaption>{escape(caption)}</figcaption></figure>"


def picture(content: bytes, kind: str, caption: str, *, value: str = "", chosen: bool = False) -> str:
    """Return a figure with its picture inside the page; ``kind`` is png or jpeg, ``value`` the caption's bold end."""
    data = base64.b64encode(content).decode("ascii")
    bold = f" <b>{escape(value)}</b>" if value else ""
    return (f"<figure{' class=chosen' if chosen else ''}>"
            f"<img alt=\"{escape(caption)}\" src=\"data:image/{kind};base64,{data}\">"
            f"<figcaption>{escape(caption)}{bold}</figcaption></figure>")


def card(title: str, remark: str, figures: Iterable[str]) -> str:
    """Return a framed row of small figures (HTML) under a title and a remark."""
    return (f"<article class=case><h3>{escape(title)} <span>{escape(remark)}</span></h3>\n"
            f"<div class=tiles>{''.join(figures)}</div></article>")

"""The report's page: one self-contained file, light or dark as the reader's system asks, readable on a phone."""
import base64
from html import escape
from typing import Iterable, Sequence

STYLE = """
:root { color-scheme: light dark; --ground: #fbfaf8; --card: #fff; --ink: #23262d; --soft: #666c78;
  --line: #e4e1db; --accent: #b4532a; }
@media (prefers-color-scheme: dark) { :root { --ground: #14161a; --card: #1c1f25; --ink: #e6e4df; --soft: #979daa;
  --line: #2e323a; --accent: #e8935f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.2rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.02em; }
h2 { font-size: 1.2rem; margin: 3rem 0 .4rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .4rem 0 1rem; }
.soft, figcaption, summary { color: var(--soft); }
.note { border-left: 3px solid var(--accent); padding-left: .8rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .45rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
thead th { color: var(--soft); font-weight: 500; }
td small { color: var(--soft); display: block; font-size: .78rem; }
tr.theirs td { color: var(--soft); font-style: italic; }
figure { margin: 1rem 0; overflow-x: auto; }
figure > img { width: 100%; height: auto; display: block; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .9rem 1rem 1rem; margin: 1rem 0; }
article header { display: flex; flex-wrap: wrap; gap: .2rem 1rem; justify-content: space-between;
  margin-bottom: .6rem; }
article header span { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(5, 1fr); gap: .5rem; }
.tiles figure { margin: 0; }
.tiles img { aspect-ratio: 1; object-fit: contain; border-radius: 5px; background: var(--ground); }
.tiles figcaption { font-size: .8rem; line-height: 1.3; padding-top: .25rem; }
.tiles b { color: var(--ink); font-variant-numeric: tabular-nums; }
.tiles .chosen figcaption { color: var(--accent); }
@media (max-width: 38rem) { th, td { padding: .45rem .3rem; } section > figure > img { width: 40rem; max-width: none; }
  .tiles { grid-template-columns: repeat(6, 1fr); } .tiles figure { grid-column: span 2; }
  .tiles figure:first-child, .tiles figure:last-child { grid-column: span 3; }
  .tiles figure:last-child { order: 1; grid-row: 1; } .tiles figure:first-child { grid-row: 1; } }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return the whole page; ``parts`` are HTML."""
    return ("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n<h1>{escape(title)}</h1>\n"
            + "\n".join(parts) + "\n</html>\n")


def section(title: str, body: str) -> str:
    """Return a heading and its body (HTML)."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def paragraph(text: str, style: str = "") -> str:
    """Return a paragraph of plain text; ``style`` is a class name of the page: soft or note."""
    return f"<p class=\"{escape(style)}\">{escape(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], theirs: Sequence[str] = ()) -> str:
    """Return a table of plain text. ``value (detail)`` shows its detail small; rows named in ``theirs`` stand back."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "\n".join(f"<tr{' class=theirs' if row[0] in theirs else ''}>" + "".join(map(_cell, row)) + "</tr>"
                     for row in rows)
    return f"<div class=\"wide\"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"


def _cell(text: str) -> str:
    value, _, detail = text.partition(" (")
    small = f"<small>{escape(detail.rstrip(')'))}</small>" if detail else ""
    return f"<td>{escape(value)}{small}</td>"


def details(summary: str, body: str) -> str:
    """Return a part (HTML) that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def picture(content: bytes, kind: str, caption: str, *, value: str = "", chosen: bool = False) -> str:
    """Return a figure with its picture inside the page; ``kind`` is png or jpeg, ``value`` the caption's bold end."""
    data = base64.b64encode(content).decode("ascii")
    bold = f" <b>{escape(value)}</b>" if value else ""
    return (f"<figure{' class=chosen' if chosen else ''}>"
            f"<img alt=\"{escape(caption)}\" src=\"data:image/{kind};base64,{data}\">"
            f"<figcaption>{escape(caption)}{bold}</figcaption></figure>")


def card(title: str, remark: str, figures: Iterable[str]) -> str:
    """Return a framed row of small figures (HTML) under a title and a remark."""
    return (f"<article><header><strong>{escape(title)}</strong><span>{escape(remark)}</span></header>\n"
            f"<div class=\"tiles\">{''.join(figures)}</div></article>")

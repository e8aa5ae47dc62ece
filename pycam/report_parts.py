"""What the sections of a report have in common: where its figures lie, and how one becomes a part of the page."""
from pathlib import Path
from typing import Any

from . import html_page
from .examples import Run
from .table1 import BOTH, STAGE1, STAGE2

SUFFIXES = (".png", ".pdf")
TITLES = {STAGE1: "Stage 1", STAGE2: "Stage 1+2", BOTH: "Mean of both"}  # rows of Table 1 as a report names them


def title(row: str) -> str:
    """Return a row's name of Table 1, ours or the paper's, as a report names it."""
    who, comma, name = row.partition(", ")
    return f"{who}{comma}{TITLES.get(name, name)}" if row.startswith("paper, ") else TITLES.get(row, row)


def figures_folder(material: Run) -> Path:
    """Return the folder of a split's figures among a run's results."""
    return material.folder / "results" / f"figures{'' if material.split == 'val' else f'_{material.split}'}"


def drawn(material: Run, name: str, figure: Any, caption: str) -> str:
    """Write a figure as PNG and PDF, and return it as a drawing of the page."""
    from .figures import render

    keep(material, name, figure)
    return html_page.drawing(render(figure, ".svg"), caption)


def keep(material: Run, name: str, figure: Any) -> None:
    """Write a figure as PNG and PDF."""
    from .figures import save

    for suffix in SUFFIXES:
        save(figure, figures_folder(material) / f"{name}{suffix}")

"""The documents as the tests read them: fenced blocks, commands, links, headings."""

import re
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*(ROOT / folder / "README.md" for folder in ("", "examples", "prototxt")), *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("", "sh")  # a fence without a language holds commands; output stands in ```text, files in ```csv, ```prototxt ...
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))


class Block(NamedTuple):
    """A fenced block: its page, the line it begins at, its language, its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def blocks(*languages: str, pages: Sequence[Path] = PAGES) -> List[Block]:
    """Return the fenced blocks of pages in some languages."""
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            indent, language, body = match.groups()
            if language in languages:
                body = re.sub(rf"(?m)^{indent}", "", body)
                found.append(Block(page, text.count("\n", 0, match.start()) + 1, language, body))
    return found


def commands(page: Path) -> Iterator[Tuple[str, str]]:
    """Yield (place, command) of a page in their order, without comments; lines ended by a backslash are joined."""
    for block in blocks(*SHELL, pages=[page]):
        for line in block.text.replace("\\\n", " ").splitlines():
            text = re.sub(r"(^|\s+)#.*", "", line).strip()
            if text:
                yield str(block), " ".join(text.split())


def inline(page: Path) -> List[str]:
    """Return what stands in single backticks in a page's text."""
    return [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose(page))]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> List[str]:
    """Return the names by which links reach the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(page))
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]

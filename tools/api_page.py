"""Write docs/api.md from the docstrings of ``import pycam``: `python tools/api_page.py`, or `--check` whether it is so."""
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from pycam import api  # noqa: E402

PAGE = ROOT / "docs" / "api.md"
HEAD = """# From Python

This page is made from the docstrings by `python tools/api_page.py`.

{}

The examples are one session, which the tests run; it begins with `import pycam`.
"""


def functions() -> List[Any]:
    """List the public functions in the order in which they stand in the file."""
    found = [getattr(api, name) for name in api.__all__ if inspect.isfunction(getattr(api, name))]
    return sorted(found, key=lambda function: int(function.__code__.co_firstlineno))


def types() -> List[Any]:
    """List the public types."""
    return [getattr(api, name) for name in api.__all__ if inspect.isclass(getattr(api, name))]


def page() -> str:
    """Return the page."""
    parts = [HEAD.format(paragraphs(inspect.getdoc(api) or ""))]
    for thing in functions():
        plain = [one.replace(annotation=one.empty) for one in inspect.signature(thing).parameters.values()]
        call = textwrap.fill(f"pycam.{thing.__name__}{inspect.Signature(plain)}", 110, subsequent_indent=" " * 8)
        parts.append(f"## {thing.__name__}\n\n```text\n{call}\n```\n\n{markdown(thing)}")
    parts.append("## Types\n")
    parts += [f"### {thing.__name__}\n\n{markdown(thing)}" for thing in types()]
    return "\n".join(parts)


def markdown(thing: Any) -> str:
    """Turn a docstring in numpy's form into Markdown."""
    intro, *sections = re.split(r"\n\n(?=\w+\n-+\n)", inspect.getdoc(thing) or "")
    parts = [paragraphs(intro)]
    for section in sections:
        title, _, body = section.split("\n", 2)
        text = f"```pycon\n{body}\n```" if title == "Examples" else items(body)
        parts.append(text if title == "Examples" else f"**{title}**\n\n{text}")
    return "\n\n".join(parts) + "\n"


def items(body: str) -> str:
    """Turn the entries of a section, each a line with an indented text below, into a list."""
    entries = re.findall(r"(?m)^(\S.*)((?:\n(?: .*)?)*)", body)
    lines = []
    for head, text in entries:
        name, _, kind = head.partition(" : ")
        lines.append(f"- `{name}`" + (f" ({kind})" if kind else "") + f": {paragraphs(' '.join(text.split()))}")
    return "\n".join(lines)


def paragraphs(text: str) -> str:
    """Turn double backticks into Markdown's single ones."""
    return re.sub(r"``(.+?)``", r"`\1`", text).strip()


def main(words: List[str]) -> int:
    """Write the page, or with ``--check`` say whether it is up to date."""
    if words == ["--check"]:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        print("docs/api.md: " + ("up to date" if same else "differs from the docstrings; run python tools/api_page.py"))
        return int(not same)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

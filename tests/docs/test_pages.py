"""What the documents point to is there: links, headings, files, functions; every command has an example in its help."""

import argparse
import importlib
import re
import shlex

import pytest

import data_tools.__main__
import pycam.__main__
import torchcaffe.__main__
from pycam.variables import VARIABLES
from tests.docs import markdown

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:[a-z_]+|\.ci)/[\w./-]*[\w/])`")  # `pycam/cam.py`, `docs/results/`
NAME = re.compile(r"`((?:data_tools|pycam|torchcaffe)(?:\.\w+)+)`")  # `pycam.forward.predict`
MADE = ("build/", "data/", "mine/", "results/", "stage1/", "stage2/", "solvers/mine_", "docs/results/")  # by commands, by readers


@pytest.mark.parametrize("page", markdown.PAGES, ids=markdown.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(markdown.prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in markdown.anchors(found), target


@pytest.mark.parametrize("page", markdown.PAGES, ids=markdown.name)
def test_files_and_functions_that_are_named_are_there(page):
    text = markdown.prose(page)
    for path in PATH.findall(text):
        assert path.startswith(MADE) or list(markdown.ROOT.glob(f"{path.rstrip('/')}*")), path
    for name in NAME.findall(text):
        resolve(name)


def resolve(name):
    """Import the modules of a dotted name, and look up what is no module."""
    package, *parts = name.split(".")
    found = importlib.import_module(package)
    for part in parts:
        package = f"{package}.{part}"
        if not hasattr(found, part):
            importlib.import_module(package)
        found = getattr(found, part)


def test_every_page_is_listed():
    listed = {(markdown.ROOT / "docs" / target).resolve()
              for target in LINK.findall((markdown.ROOT / "docs" / "README.md").read_text()) if "://" not in target}
    pages = {page for page in markdown.PAGES if page.parent == markdown.ROOT / "docs"}
    assert pages - {markdown.ROOT / "docs" / "README.md"} <= listed
    assert "](docs/README.md)" in (markdown.ROOT / "README.md").read_text()


def subparsers(parser):
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


PARSERS = {"torchcaffe": torchcaffe.__main__._parser(), "data_tools": data_tools.__main__.make_parser(),
           "pycam": pycam.__main__.make_parser()}
HELPS = {f"{package} {name}": command for package in ("data_tools", "pycam")
         for name, command in subparsers(PARSERS[package]).items()}
HELPS["torchcaffe train"] = PARSERS["torchcaffe"]


@pytest.mark.parametrize("page", markdown.PAGES, ids=markdown.name)
def test_options_in_the_text_are_known(page):
    for text in markdown.inline(page):
        found = re.match(r"python -m (data_tools \w+|pycam \w+|torchcaffe)\b", text)
        if found:
            command = HELPS.get(found.group(1), PARSERS["torchcaffe"])
            assert set(re.findall(r"(?<= )--?[a-z][\w-]*", text[found.end():])) <= set(command._option_string_actions), text


@pytest.mark.parametrize("page", markdown.PAGES, ids=markdown.name)
def test_targets_and_variables_in_the_text_are_known(page):
    rules = "".join((markdown.ROOT / name).read_text() for name in ("Makefile", "docker/images.mk"))
    targets = " ".join(re.findall(r"(?m)^([\w -]+):", rules)).split()
    for text in markdown.inline(page):
        words = shlex.split(text)[1:] if text.startswith("make ") else re.findall(r"^[A-Z]+=\S*$", text)
        for word in words:
            name, equals, _ = word.partition("=")
            assert name in (VARIABLES if equals else targets), text


@pytest.mark.parametrize("name", HELPS)
def test_help_shows_an_example_that_its_parser_takes(name):
    example = re.search(r"example: (.*)", f"{HELPS[name].epilog}\n{HELPS[name].description}").group(1)
    words = shlex.split(example.split(" && ")[0])
    words = words[2:] if words[:2] == ["python", "-m"] else words
    assert words[:2] == name.split()
    PARSERS[words[0]].parse_args(words[1:])
    assert "%%" not in HELPS[name].format_help()

"""What keeps the tree readable: short functions, short files, nothing written twice."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("torchcaffe", "data_tools", "pycam", "prototxt", "benchmarks", "tools", "docker")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FUNCTION, FILE, BLOCK = 60, 400, 6  # lines: at most, at most, and what may not stand twice


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < FUNCTION, node.name


def test_no_block_of_code_stands_twice():
    places = defaultdict(list)
    for path in SOURCES:
        lines = [(number, line.strip()) for number, line in enumerate(path.read_text().splitlines(), 1)
                 if line.strip() and not line.startswith(("import ", "from "))]
        for start in range(len(lines) - BLOCK + 1):
            block = lines[start:start + BLOCK]
            places["\n".join(line for _, line in block)].append(f"{path.relative_to(ROOT)}:{block[0][0]}")
    assert {block: found for block, found in places.items() if len(found) > 1} == {}

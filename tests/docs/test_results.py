"""The commands of docs/results: the experiment as it stands, with trainings of two iterations on a few made-up pictures."""

import subprocess
import sys

import pytest

from tests.docs import markdown
from tests.docs.test_commands import RESULTS, check

SMALL = {"SEEDS": "1", "JOBS": "1", "AUGMENT": "none", "ENGINE": "torch", "PYTHON": sys.executable, "EXCLUDE": "",
         "MAX_ITER": "2"}


@pytest.mark.slow
def test_commands(sandbox, monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    for page in (page for page in markdown.PAGES if page.parent == RESULTS):
        for where, text in markdown.commands(page):
            if "make experiment" in text:
                assert subprocess.run(text, shell=True, check=False).returncode == 0, (where, text)
            else:
                check(text, sandbox)

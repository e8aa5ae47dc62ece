"""Every command of the documents: run as it stands in a small copy of the repository, or at least held against its parser.

And every error line of docs/faq.md: the failure is brought about, and the line must be printed.
"""

import contextlib
import importlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import data_tools.__main__
import pycam.__main__
import torchcaffe.__main__
from tests.docs import markdown
from tests.docs.failures import FAILURES
from torchcaffe.layers import LAYERS

PARSERS = {"data_tools": data_tools.__main__.make_parser, "pycam": pycam.__main__.make_parser,
           "torchcaffe": torchcaffe.__main__._parser}
SCRIPTS = {"data-tools": "data_tools", "pycam": "pycam", "torchcaffe": "torchcaffe", "caffe": "torchcaffe"}
OTHERS = {"caffe": str(markdown.ROOT / ".caffe" / "bin" / "caffe"),  # programs in processes of their own, where they are
          "torchrun": str(Path(sys.executable).with_name("torchrun"))}
RESULTS = markdown.ROOT / "docs" / "results"  # its commands: test_results.py
NOT_MADE = {  # targets of make whose commands are only held against their parsers: why, and what runs them
    "setup": "needs a network; each fresh clone begins with it", "caffe": "the same; tests/unit/test_install_caffe.py",
    "test": "would run the tests in the tests", "test-all": "the same", "check": "what .ci/run begins with",
    "demo": "takes minutes; tests/e2e/test_pipeline.py runs its steps on fewer pictures",
    "experiment": "minutes; test_results.py runs it as docs/results has it",
    "data": "12 GB; tests/unit/test_download.py fetches them from a server of its own",
    "weights": "fetches; tests/unit/test_public_weights.py does it from a server of its own",
    "test-images": "builds images; it is itself the test of docs/docker.md",
    "docker": "needs Docker; tests/unit/test_docker.py", "docker-run": "needs Docker; tests/unit/test_docker.py",
}
UNTRIED = {  # other programs: how the command begins, why it is not run
    "docker ": "needs Docker",
    "pip install": "needs a network; tests/unit/test_init.py installs the wheel",
    "python benchmarks/": "measures for minutes; the file must be there",
}


def words_of(text):
    """Return the words of a command: no assignments before it, no GPU, which a test cannot expect to be there."""
    words = shlex.split(text)
    while "=" in words[0]:
        del words[0]
    for flag in set(words) & {"--gpu", "-gpu"}:
        place = words.index(flag)
        del words[place:place + 2]
    return words


def module_words(words):
    """Return (module, its words) of a command of ours, however it is started; None of others."""
    if words[0] in SCRIPTS:
        return SCRIPTS[words[0]], words[1:]
    if "-m" in words and words[words.index("-m") + 1] in PARSERS:
        place = words.index("-m") + 1
        return words[place], words[place + 1:]
    return None


def parse(module, words):
    """Fail unless a command's own parser takes its words."""
    said = io.StringIO()
    ended = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            PARSERS[module]().parse_args(words)
        except SystemExit as end:  # --help, or what the parser does not take
            ended = end.code
    assert ended == 0, said.getvalue()


def check(text, sandbox):
    """Run a command, or check what can be checked of it."""
    words = words_of(text)
    ours = module_words(words)
    if words[0] == "make":
        make([word for word in words[1:] if word != "GPU=0"], sandbox)
    elif words[:2] == ["python", "-c"]:
        exec(words[2], {})
    elif ours:
        parse(*ours)
        if words[0] in OTHERS:
            words[0] = OTHERS[words[0]]
            assert not Path(words[0]).exists() or subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 0
        else:
            assert sandbox.call([ours[0], *ours[1]]) == 0
    elif words[:3] == [".venv/bin/python", "-m", "pytest"]:
        assert subprocess.run([sys.executable, *words[1:]], cwd=markdown.ROOT, check=False).returncode == 0
    else:
        tried = "neither run nor listed in UNTRIED; output goes into a ```text block"
        assert " ".join(words).startswith(tuple(UNTRIED)), f"{tried}: {text}"
        for word in words:
            assert (markdown.ROOT / word).exists() or not word.endswith((".py", ".sh")), word


def make(words, sandbox):
    """Run what make would, or hold it against the parsers."""
    for line in sandbox.make(*words):
        planned = module_words(shlex.split(line) or [""])
        if planned and words[0] in NOT_MADE:
            parse(*planned)
        elif planned:
            assert sandbox.call([planned[0], *planned[1]]) == 0, line


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in markdown.PAGES if page.parent != RESULTS], ids=markdown.name)
def test_commands(page, sandbox):
    for where, text in markdown.commands(page):
        try:
            check(text, sandbox)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{where}: {text}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("block", markdown.blocks("python"), ids=str)
def test_python(block, sandbox):
    with mock.patch.dict(LAYERS):  # where a block adds a layer
        exec(compile(block.text, str(block), "exec"), {"__name__": "block"})


LINES = [line for block in markdown.blocks("text", pages=[markdown.ROOT / "docs" / "faq.md"]) for line in block.text.splitlines()]


def test_every_line_of_the_faq_has_a_failure():
    assert len(LINES) == len(FAILURES)


@pytest.mark.slow
@pytest.mark.parametrize(("failure", "line"), list(zip(FAILURES, LINES)), ids=[failure.__name__ for failure in FAILURES])
def test_line_of_the_faq_is_printed(failure, line, sandbox, tmp_path, monkeypatch, capfd):
    copy = tmp_path / "repository"
    shutil.copytree(sandbox.folder, copy, symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.setattr(torchcaffe.__main__.signal, "signal", lambda *_: None)  # pytest keeps its own
    module, *words = failure(monkeypatch).split()
    capfd.readouterr()
    status = importlib.import_module(f"{module}.__main__").main(words)
    said = capfd.readouterr().err.replace("\r", "\n").splitlines()
    pattern = ".*".join(re.escape(part) for part in line.split("..."))
    assert [one for one in said if re.fullmatch(pattern, one)], "\n".join(said[-5:])
    assert status == (1 if line.startswith("error: ") else 0)

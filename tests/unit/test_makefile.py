"""What make itself does, in a copy of the Makefile's surroundings: refuse what is misspelt, call the driver, list the variables.

Which commands a target needs is in test_pipeline.py.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pycam.pipeline import TARGETS
from pycam.variables import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("Makefile", "pyproject.toml", "constraints.txt", "pycam/__init__.py", "pycam/variables.py", "data_tools/__init__.py",
          "data_tools/errors.py", *(f"torchcaffe/{name}.py" for name in ("__init__", "alias", "threads", "version")))
STAND_IN = f"""#!/bin/sh
echo "called:" "$@"
for name in {' '.join(VARIABLES)}; do eval "value=\\${{$name-}}"; printf '%s\\n' "$name=[$value]"; done
exit ${{STATUS-0}}
"""


@pytest.fixture
def make(tmp_path):
    """Return a function that runs make in an empty copy and gives (exit status, the lines of stdout, stderr)."""
    for name in COPIED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "py").write_text(STAND_IN)
    (tmp_path / "py").chmod(0o755)

    def run(*words, dry=True, **variables):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k not in VARIABLES}
        done = subprocess.run(["make", *(["-n"] if dry else []), *words], cwd=str(tmp_path), env={**environment, **variables},
                              capture_output=True, text=True, check=False)
        return done.returncode, [" ".join(line.split()) for line in done.stdout.splitlines()], done.stderr
    run.folder = tmp_path
    return run


def commands(make, *words):
    status, lines, err = make("PYTHON=py", *words)
    assert status == 0, err
    return [line[len("py -m "):] for line in lines if line.startswith("py -m ")]


# ---------------------------------------------------------------- the pipeline
@pytest.mark.parametrize("target", [*TARGETS, "experiment"])
def test_a_target_of_the_pipeline_calls_the_driver_once(make, target):
    assert commands(make, target) == ["pycam experiment" if target == "experiment" else f"pycam pipeline {target}"]


def test_what_is_given_reaches_the_driver_as_it_is(make):
    given = {"ISIC": "my pictures", "RUN": "/tmp/r", "REGION": "--threshold 0.5 --ground 'min'", "EXCLUDE": "a,b", "HAIR": "none",
             "INIT": "w (1).caffemodel", "NET": ""}
    status, lines, err = make("PYTHON=./py", "all", *(f"{name}={value}" for name, value in given.items()), dry=False)
    assert (status, err) == (0, "")
    assert lines[0] == "called: -m pycam pipeline all"
    found = dict(line.split("=", 1) for line in lines[1:])
    assert found == {name: f"[{given.get(name, './py' if name == 'PYTHON' else '')}]" for name in VARIABLES}


def test_the_environment_reaches_the_driver_too(make):
    _, lines, _ = make("PYTHON=./py", "all", dry=False, HAIR="letter", ISIC="my pictures")
    assert {"HAIR=[letter]", "ISIC=[my pictures]", "RUN=[]"} < set(lines)


def test_an_error_of_the_driver_ends_make(make):
    status, lines, err = make("PYTHON=./py", "all", dry=False, STATUS="1")
    assert status == 2
    assert lines[0] == "called: -m pycam pipeline all"
    assert "Error 1" in err


# ---------------------------------------------------------------- what is misspelt
def refused(make, *words):
    """Return the line of an error of make's own, before any target is looked at."""
    status, lines, err = make("PYTHON=./py", *words, dry=False)
    assert (status, lines) == (2, [])
    assert err.count("\n") == 1
    return err.split("*** ")[1]


@pytest.mark.parametrize("target", ["all", "help", "data", "docker", "clean"])
def test_a_misspelt_variable_ends_make_with_the_nearest(make, target):
    assert refused(make, target, "ISCI=pics").startswith("'ISCI' is not known, did you mean ISIC? (known: ISIC, RUN, ")
    assert refused(make, target, "run=x").startswith("'run' is not known, did you mean RUN? (known: ")
    assert refused(make, target, "HAIR=non").startswith("HAIR=non: 'non' is not known, did you mean none? (known: along, ")
    assert refused(make, target, "RUN=my run") == "RUN=my run: expected a path without spaces.  Stop.\n"


@pytest.mark.parametrize("name", ["INIT", "MAX_ITER", "CMD"])  # all are tried in test_pipeline.py
def test_every_misspelt_variable_ends_make(make, name):
    assert refused(make, "all", "AUGMENT=none", f"{name}{name[-1]}=x").startswith(
        f"'{name}{name[-1]}' is not known, did you mean {name}? (known: ")


@pytest.mark.parametrize("value", ["it's", "a'b'c", "'", "'; touch harm; '", '"', "a\\b", "$$(touch harm)", "`touch harm`", "a;b",
                                   "*", "--help", "a=b", "a b", "", "x,y"])
def test_a_value_is_only_a_value(make, value):
    """It is passed to a shell when it is checked."""
    status, lines, err = make("PYTHON=./py", "all", f"EXCLUDE={value}", dry=False)
    assert (status, err) == (0, "")
    assert lines[0] == "called: -m pycam pipeline all"
    assert f"EXCLUDE=[{value.replace('$$', '$')}]" in lines
    assert not (make.folder / "harm").exists()


# ---------------------------------------------------------------- help, set-up
def test_help_needs_nothing_and_lists_every_variable_with_its_default(make):
    status, lines, err = make("help", dry=False)
    assert (status, err) == (0, "")
    assert sorted(path.name for path in make.folder.iterdir() if path.name != "__pycache__") == sorted(
        {*(Path(name).parts[0] for name in COPIED), "py"})
    variables = lines[lines.index("variables:") + 1:]
    assert variables == [f"{name}={variable.default} {variable.text}" for name, variable in VARIABLES.items()]
    shown = " ".join(lines[:lines.index("variables:")])
    assert all(f"{target} " in shown.replace("|", " ") for target in [*TARGETS, "experiment", "curves", "docker-run", "test"])


def test_help_is_the_default_target(make):
    assert make(dry=False) == make("help", dry=False)


def test_the_environment_is_made_only_without_python(make):
    _, lines, _ = make("stage1")
    assert any("-m venv .venv" in line for line in lines)
    assert ".venv/bin/python -m pycam pipeline stage1" in lines
    _, lines, _ = make("PYTHON=py", "stage1")
    assert lines == ["py -m pycam pipeline stage1"]


# ---------------------------------------------------------------- other targets
def test_data_and_weights(make):
    assert commands(make, "data", "ISIC=pics", "JOBS=3") == ['data_tools download --out "pics" --jobs 3']
    assert commands(make, "data", "ISIC=my pics", "JOBS=3") == ['data_tools download --out "my pics" --jobs 3']
    fetch = "pycam weights fetch --net prototxt/vgg_gap_deploy.prototxt --weights"
    assert commands(make, "weights") == [f'{fetch} "data/weights/vgg16CAM_train_iter_90000.caffemodel"']
    assert commands(make, "weights", "INIT=data/v.caffemodel") == [f'{fetch} "data/v.caffemodel"']
    assert commands(make, "weights", "NET=googlenet_gap")[0].startswith(
        "pycam weights fetch --net prototxt/googlenet_gap_deploy.prototxt ")


def test_curves_follow_every_log_that_is_there(make):
    follow = "--out r/results/curves.png --follow"
    assert commands(make, "curves", "RUN=r") == [f"pycam curves r/stage1/train.log {follow}"]
    for name in ("stage1", "stage2"):
        (make.folder / "r" / name).mkdir(parents=True)
        (make.folder / "r" / name / "train.log").touch()
    logs = commands(make, "curves", "RUN=r")[0].split()[2:4]
    assert sorted(logs) == ["r/stage1/train.log", "r/stage2/train.log"]


def test_check_and_test(make):
    _, lines, _ = make("PYTHON=py", "check")
    assert lines == ["py -m ruff check .", "py -m mypy", "py prototxt/generate.py --check"]
    _, lines, _ = make("PYTHON=py", "test", "JOBS=3")
    assert any(line.startswith("py -m pytest -n 3") for line in lines)


# ---------------------------------------------------------------- two sizes of tests
def test_the_larger_size_is_the_smaller_and_the_slow_tests(make):
    sizes = {target: [line.partition(" -m ")[2].partition(" -m ")[2] for line in make("PYTHON=py", *target.split())[1]
                      if line.startswith("py -m pytest")] for target in ("test", "test-all", "test test-all")}
    assert sizes == {"test": ['"not slow"'], "test-all": ['"not slow"', "slow"], "test test-all": ['"not slow"', "slow"]}
    assert "make test test-all\n" in (ROOT / ".ci" / "run").read_text()


def test_every_marker_is_used():
    declared = re.findall(r'(?m)^    "(\w+): ', (ROOT / "pyproject.toml").read_text().partition("\nmarkers = [")[2])
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert declared == ["caffe", "slow"]
    assert all(f"@pytest.mark.{name}\n" in tests for name in declared)

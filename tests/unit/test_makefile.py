"""What make would run, from `make -n` in a copy of the Makefile's surroundings."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DB = ["lmdb --images {run}/clean/train --out {run}/lmdb/stage1_train --augment paper --jobs 3",
      "lmdb --images {run}/clean/val --out {run}/lmdb/stage1_val --augment none --jobs 3"]


@pytest.fixture
def make(tmp_path):
    """Return a function that runs make in an empty copy and gives (exit status, the commands' words, stderr)."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def run(*words, dry=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(["make", *(["-n"] if dry else []), "JOBS=3", *words], cwd=str(tmp_path), env=environment,
                              capture_output=True, text=True, check=False)
        return done.returncode, [" ".join(line.split()) for line in done.stdout.splitlines()], done.stderr
    run.folder = tmp_path
    return run


def commands(make, *words):
    status, lines, err = make("PYTHON=py", *words)
    assert status == 0, err
    return [line[len("py -m "):] for line in lines if line.startswith("py -m ")]


def test_everything_in_its_order(make):
    lines = commands(make, "all", "ISIC=pics", "RUN=r")
    order = [line.split()[1] for line in lines]
    assert order[0] == "doctor"
    assert sorted(order[1:]) == sorted(["clean"] * 2 + ["lmdb"] * 4 + ["train"] * 2 + ["crops"] * 2 + ["predict"] * 2
                                   + ["table1", "report"])
    assert order[-2:] == ["table1", "report"]
    stage1, stage2 = (n for n, line in enumerate(lines) if line.startswith("pycam train"))
    needs = {"--out r/lmdb/stage1_train": stage1, "--out r/lmdb/stage1_val": stage1, "--out r/crops/train": stage2,
             "--out r/lmdb/stage2_train": stage2, "--out r/lmdb/stage2_val": stage2, "--out r/clean/val": stage1}
    for text, before in needs.items():
        assert next(n for n, line in enumerate(lines) if text in line) < before
    assert "data_tools clean --isic pics --split train --out r/clean/train --jobs 3" in lines
    assert {f"data_tools {line.format(run='r')}" for line in DB} <= set(lines)


def test_the_default_training_is_the_papers(make):
    common = "pycam train --run build --engine auto --solver solvers"
    assert [line for line in commands(make, "stage2") if line.startswith("pycam train")] == [
        f"{common}/stage1.prototxt --stage stage1", f"{common}/stage2.prototxt --stage stage2 --weights build/stage1"]


@pytest.mark.parametrize(("variables", "expected"), [
    (["ENGINE=torch"], "--engine torch --solver solvers/stage1.prototxt --stage stage1"),
    (["GPU=0"], "--engine auto --gpu 0 --solver solvers/stage1.prototxt --stage stage1"),
    (["PRECISION=bf16"], "--engine auto --precision bf16 --solver solvers/stage1.prototxt --stage stage1"),
    (["BATCH=4"], "--engine auto --batch 4 --solver solvers/stage1.prototxt --stage stage1"),
    (["RESUME=no"], "--engine auto --fresh --solver solvers/stage1.prototxt --stage stage1"),
    (["RESUME=yes"], "--engine auto --solver solvers/stage1.prototxt --stage stage1"),
    (["INIT=Makefile"], "--engine auto --solver solvers/stage1.prototxt --stage stage1 --weights Makefile"),
    (["NET=vgg_gap_narrow"], "--engine auto --solver solvers/narrow_stage1.prototxt --stage stage1"),
    (["NET=vgg_gap_narrow", "SOLVERS=demo_"], "--engine auto --solver solvers/demo_stage1.prototxt --stage stage1"),
    (["ENGINE=torch", "GPU=1", "BATCH=8", "RESUME=no", "INIT=Makefile"],
     "--engine torch --gpu 1 --batch 8 --fresh --solver solvers/stage1.prototxt --stage stage1 --weights Makefile"),
])
def test_variables_of_the_training(make, variables, expected):
    assert commands(make, "stage1", *variables)[-1] == f"pycam train --run build {expected}"


def test_every_net_command_gets_engine_and_gpu(make):
    lines = [line for line in commands(make, "report", "NET=vgg_gap_narrow", "ENGINE=torch", "GPU=2")
             if line.split()[1] in ("train", "crops", "predict", "report")]
    assert len(lines) == 7
    assert all("--engine torch --gpu 2" in line for line in lines)
    assert sum("prototxt/vgg_gap_narrow_deploy.prototxt" in line for line in lines) == 5


def test_solvers_and_networks_that_make_names_are_there(make):
    for variables in (["NET=vgg_gap"], ["NET=vgg_gap_narrow"], ["NET=vgg_gap_narrow", "SOLVERS=demo_"]):
        words = " ".join(commands(make, "report", *variables)).split()
        named = {word for word in words if word.endswith(".prototxt")}
        assert len(named) == 3
        assert [name for name in named if not (ROOT / name).is_file()] == []


def test_init_that_is_not_there_ends_make(make):
    status, _, err = make("PYTHON=py", "stage1", "INIT=nowhere.caffemodel")
    assert status == 2
    assert "nowhere.caffemodel" in err


def test_caffes_own_python_runs_the_nets_and_ours_the_rest(make):
    caffe = make.folder / ".caffe"
    caffe.mkdir()
    status, lines, err = make("PYTHON=py", "report", "ENGINE=caffe")
    assert status == 0, err
    assert not any(line.startswith(".caffe/") for line in lines)  # not installed completely
    (caffe / "complete").write_text("")
    _, lines, _ = make("PYTHON=py", "report", "ENGINE=caffe")
    pairs = {(line.split()[0], line.split()[3]) for line in lines if " -m " in line}
    assert pairs == {*(("py", name) for name in ("clean", "lmdb", "table1")),
                     *((".caffe/bin/python3", name) for name in ("crops", "predict", "report", "train"))}
    _, lines, _ = make("PYTHON=py", "report", "ENGINE=torch")
    assert not any(line.startswith(".caffe/") for line in lines)


def test_the_environment_is_made_only_without_python(make):
    _, lines, _ = make("stage1")
    assert any("-m venv .venv" in line for line in lines)
    assert any(line.startswith(".venv/bin/python -m pycam train") for line in lines)
    _, lines, _ = make("PYTHON=py", "stage1")
    assert not any("venv" in line for line in lines)


def test_help_needs_nothing(make):
    status, lines, err = make("help", dry=False)
    assert (status, err) == (0, "")
    assert not (make.folder / ".venv").exists()
    shown = {line.split("=")[0] for line in lines if "=" in line and line.split("=")[0].isupper()}
    assert shown >= {"ISIC", "RUN", "NET", "ENGINE", "GPU", "INIT", "BATCH", "RESUME", "AUGMENT", "JOBS", "SOLVERS"}
    assert "RUN=build everything that is made" in lines


def test_data_and_weights(make):
    assert commands(make, "data", "ISIC=pics") == ["data_tools download --out pics --jobs 3"]
    fetch = "pycam weights fetch --net prototxt/vgg_gap_deploy.prototxt --weights"
    assert commands(make, "weights") == [f"{fetch} data/weights/vgg16CAM_train_iter_90000.caffemodel"]
    assert commands(make, "weights", "INIT=data/v.caffemodel") == [f"{fetch} data/v.caffemodel"]


def test_doctor_looks_at_what_would_be_trained(make):
    words = "pycam doctor --run build --engine {} --isic {} --net prototxt/{}_deploy.prototxt " \
            "--solver solvers/{}stage1.prototxt solvers/{}stage2.prototxt"
    assert commands(make, "doctor") == [words.format("auto", "data/isic2017", "vgg_gap", "", "")]
    narrow = words.format("torch --gpu 1", "pics", "vgg_gap_narrow", "narrow_", "narrow_") + " --batch 4 --weights Makefile"
    variables = ["NET=vgg_gap_narrow", "ENGINE=torch", "GPU=1", "ISIC=pics", "BATCH=4", "INIT=Makefile"]
    assert commands(make, "doctor", *variables) == [narrow]
    for target in ("stage1", "stage2", "all"):
        assert commands(make, target, *variables)[0] == f"{narrow} --quiet"


def test_demo_check_test_and_clean(make):
    _, lines, _ = make("PYTHON=py", "demo")
    assert lines[0].startswith("py -m data_tools synthetic --out build/demo/isic --train 600 --val 150 --seed 1")
    assert any("RUN=build/demo ISIC=build/demo/isic NET=vgg_gap_narrow SOLVERS=demo_ AUGMENT=none" in line for line in lines)
    _, lines, _ = make("PYTHON=py", "check")
    assert lines == ["py -m ruff check .", "py -m mypy", "py prototxt/generate.py --check"]
    _, lines, _ = make("PYTHON=py", "test")
    assert any(line.startswith("py -m pytest") for line in lines)
    _, lines, _ = make("clean", "RUN=r")
    assert lines == ["rm -rf r"]


def test_scratch_trains_on_the_records_of_stage_1_and_the_report_follows_it(make):
    lines = commands(make, "scratch", "RUN=r", "NET=googlenet_gap")
    assert {f"data_tools {line.format(run='r')}" for line in DB} <= set(lines)
    assert lines[-1] == ("pycam train --run r --engine auto --solver solvers/googlenet_stage1_scratch.prototxt --stage stage1 "
                         "--into stage1_scratch")
    for name in ("results/table1.csv", "stage1_scratch/final.caffemodel", "results/report.html"):
        (make.folder / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        (make.folder / "r" / name).touch()
    os.utime(make.folder / "r" / "results" / "report.html", (1, 1))
    os.utime(make.folder / "r" / "results" / "table1.csv", (0, 0))
    made = commands(make, "r/results/report.html", "RUN=r", "-o", "r/results/table1.csv")
    assert [line.split()[1] for line in made] == ["report"]


def test_variables_of_ablations_reach_their_step(make):
    lines = commands(make, "stage2", "HAIR=none", "EXCLUDE=a,b", "BALANCE=oversample", "SEED=3", "START2=w", "NET=googlenet_gap")
    clean = "data_tools clean --isic data/isic2017 --split"
    assert f"{clean} train --out build/clean/train --hair none --exclude a,b --jobs 3" in lines
    assert f"{clean} val --out build/clean/val --hair none --jobs 3" in lines
    balanced = [line for line in lines if "--balance oversample" in line]
    assert [line.split()[5] for line in balanced] == ["build/lmdb/stage1_train", "build/lmdb/stage2_train"]
    assert sum("--seed 3" in line for line in lines) == 4 + 2
    assert lines[-1].endswith("--solver solvers/googlenet_stage2.prototxt --stage stage2 --weights w")

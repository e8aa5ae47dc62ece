"""Which commands a target of the Makefile needs, in which order and words; how they are run; what is deleted."""
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_tools import steps
from pycam import pipeline, variables
from pycam.__main__ import main
from pycam.pipeline import MAKE_ONLY, MARK, TARGETS, commands, make_run, parse
from pycam.variables import FORMS, NETS, VARIABLES
from torchcaffe import processor as its_processor

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = ("ROWS", "SEEDS", "FOLDS")
CHOICES = {name: variable.values for name, variable in VARIABLES.items() if variable.values}


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """Run at the project's root, with no variable in the environment."""
    monkeypatch.chdir(ROOT)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def processor(monkeypatch, tmp_path):
    """Return the file that tells of the processor; unless a test writes it there is none."""
    monkeypatch.setattr(its_processor, "INFO", tmp_path / "cpuinfo")
    return its_processor.INFO


def texts(target, **words):
    """Return the commands of a target as texts by names such as crops/val."""
    found = {}
    for command in commands(pipeline.target_run(target, words), target):
        assert label(command) not in found
        found[label(command)] = shlex.join(command)
    return found


def label(words):
    """Name a command: what it is, and what it makes."""
    option = {"clean": "--out", "lmdb": "--out", "crops": "--out", "predict": "--out", "train": "--stage"}.get(words[1])
    scratch = "_scratch" if "--into" in words else ""
    return f"{words[1]}/{Path(words[words.index(option) + 1]).stem}{scratch}" if option else words[1]


# ---------------------------------------------------------------- order
CLEAN, FIRST = ["clean/train", "clean/val"], ["lmdb/stage1_train", "lmdb/stage1_val"]
CROPS, SECOND = ["crops/train", "crops/val"], ["lmdb/stage2_train", "lmdb/stage2_val"]
ORDER = {
    "stage1": [*CLEAN, *FIRST, "train/stage1"], "scratch": [*CLEAN, *FIRST, "train/stage1_scratch"],
    "crops": [*CLEAN, *FIRST, "train/stage1", *CROPS],
    "stage2": [*CLEAN, *FIRST, "train/stage1", *CROPS, *SECOND, "train/stage2"],
}
ORDER["table"] = [*ORDER["stage2"], "predict/stage1_val", "predict/stage2_val", "table1"]
ORDER["report"] = ORDER["all"] = [*ORDER["table"], "report"]
ORDER["demo"] = ["synthetic", "edit", *ORDER["report"]]
ORDER["doctor"], ORDER["clean"] = ["doctor"], []


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_its_commands_in_their_order(target):
    assert list(texts(target)) == ORDER[target]


def test_every_command_of_the_papers_run_in_its_words():
    net, engine = "--net prototxt/vgg_gap_deploy.prototxt", "--engine auto"
    assert list(texts("all", ISIC="pics", RUN="r").values()) == [
        "data_tools clean --isic pics --split train --out r/clean/train --hair along",
        "data_tools clean --isic pics --split val --out r/clean/val --hair along",
        "data_tools lmdb --images r/clean/train --out r/lmdb/stage1_train --augment paper --balance none",
        "data_tools lmdb --images r/clean/val --out r/lmdb/stage1_val --augment none",
        f"pycam train --solver solvers/stage1.prototxt --stage stage1 --run r {engine}",
        f"pycam crops {net} --weights r/stage1 --images r/clean/train --out r/crops/train {engine}",
        f"pycam crops {net} --weights r/stage1 --images r/clean/val --out r/crops/val {engine}",
        "data_tools lmdb --images r/crops/train --out r/lmdb/stage2_train --augment paper --balance none",
        "data_tools lmdb --images r/crops/val --out r/lmdb/stage2_val --augment none",
        f"pycam train --solver solvers/stage2.prototxt --stage stage2 --run r --weights r/stage1 {engine}",
        f"pycam predict {net} --weights r/stage1 --images r/clean/val --out r/results/stage1_val.csv {engine}",
        f"pycam predict {net} --weights r/stage2 --images r/crops/val --out r/results/stage2_val.csv {engine}",
        "pycam table1 --truth r/clean/val/groundtruth.csv --stage1 r/results/stage1_val.csv --stage2 r/results/stage2_val.csv "
        "--out r/results --split val",
        f"pycam report --run r {net} --split val --out r/results/report.html --isic pics {engine}"]


def test_scratch_trains_on_the_records_of_stage_1_from_nothing():
    found = texts("scratch", RUN="r", NET="googlenet_gap", INIT="w", SEED="3")
    assert found["train/stage1_scratch"] == ("pycam train --solver solvers/googlenet_stage1_scratch.prototxt --stage stage1 "
                                             "--run r --into stage1_scratch --engine auto --seed 3")
    assert [found[name] for name in FIRST] == [texts("stage1", RUN="r", SEED="3")[name] for name in FIRST]


def test_pictures_and_stage_1_may_be_those_of_other_runs():
    """The experiment shares them: its rows change only what comes after."""
    run = make_run({"RUN": "r"}, Path("pics"), Path("first"))
    found = {label(words): shlex.join(words) for words in commands(run, "table")}
    assert "--out pics/train" in found["clean/train"]
    assert "--images pics/train --out first/lmdb/stage1_train" in found["lmdb/stage1_train"]
    assert "--stage stage1 --run first" in found["train/stage1"]
    assert "--weights first/stage1 --images pics/val --out r/crops/val" in found["crops/val"]
    assert "--run r --weights first/stage1" in found["train/stage2"]
    assert "--weights first/stage1 --images pics/val --out r/results/stage1_val.csv" in found["predict/stage1_val"]
    assert "--weights r/stage2 --images r/crops/val" in found["predict/stage2_val"]


# ---------------------------------------------------------------- variables
ENGINE = {*CROPS, "train/stage1", "train/stage2", "predict/stage1_val", "predict/stage2_val", "report", "doctor"}
TRAININGS = {"train/stage1", "train/stage2"}
EFFECTS = {  # variable -> a value, the commands that it changes, what then stands in all of them
    "ISIC": ("my pictures", {*CLEAN, "doctor", "report"}, "--isic 'my pictures'"),
    "RUN": ("x", {*ORDER["all"], "doctor"}, " x"),
    "NET": ("vgg_gap_narrow", ENGINE, "narrow_"),
    "INIT": ("w.caffemodel", {"train/stage1", "doctor"}, "--weights w.caffemodel"),
    "START2": ("other/stage1", {"train/stage2", "doctor"}, "other/stage1"),
    "SPLIT": ("test", {"clean/test", "crops/test", "predict/stage1_test", "predict/stage2_test", "table1", "report",
                       "predict/stage1_val", "predict/stage2_val"}, "test"),
    "ENGINE": ("torch", ENGINE, "--engine torch"), "GPU": ("1", ENGINE, "--gpu 1"),
    "PRECISION": ("bf16", ENGINE, "--precision bf16"),
    "BATCH": ("4", {*TRAININGS, "doctor"}, "--batch 4"), "MAX_ITER": ("40", {*TRAININGS, "doctor"}, "--max-iter 40"),
    "SEED": ("3", {*FIRST, *SECOND, *TRAININGS}, "--seed 3"), "RESUME": ("no", TRAININGS, "--fresh"),
    "AUGMENT": ("random", {FIRST[0], SECOND[0]}, "--augment random"),
    "BALANCE": ("oversample", {FIRST[0], SECOND[0]}, "--balance oversample"),
    "HAIR": ("letter", set(CLEAN), "--hair letter"),
    "EXCLUDE": ("ISIC_0000001,ISIC_0000002", {"clean/train"}, "--exclude ISIC_0000001,ISIC_0000002"),
    "REGION": ("--ground min --threshold '0.5'", set(CROPS), "--ground min --threshold 0.5 --engine"),
    "RECORDS": ("--rotations '0,90'", {FIRST[0], SECOND[0]}, "--balance none --rotations 0,90"),
    "PATCH": ("160", {*ENGINE, *FIRST, *SECOND, "edit"}, ""), "EDIT": ("solver.base_lr=1 CAM_conv.pad=1", {*ENGINE, "edit"}, ""),
    "SOLVERS": ("demo_", {*TRAININGS, "doctor"}, "solvers/demo_stage"),
    "JOBS": ("3", {*CLEAN, *FIRST, *SECOND}, "--jobs 3"),
    "CAFFE": ("x", set(), ""), **dict.fromkeys((*MAKE_ONLY, *EXPERIMENT), ("1", set(), "")),
}


def test_every_variable_is_looked_at():
    assert set(EFFECTS) == set(VARIABLES)


@pytest.mark.parametrize("name", EFFECTS)
def test_a_variable_reaches_the_commands_that_it_concerns_and_no_other(name):
    value, expected, words = EFFECTS[name]
    before, after = ({**texts("all", **given), **texts("doctor", **given)} for given in ({}, {name: value}))
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    assert changed == expected
    assert all(words in after[name] for name in changed if name in after)
    if VARIABLES[name].default:
        assert texts("all", **{name: VARIABLES[name].default}) == texts("all", **{name: ""}) == texts("all")


def test_validation_records_are_neither_augmented_nor_balanced():
    found = texts("all", AUGMENT="random", BALANCE="oversample")
    for name in (FIRST[1], SECOND[1]):
        assert found[name].endswith("--augment none")


def test_the_demo_has_its_own_defaults_and_follows_what_is_given():
    found = texts("demo")
    assert found["synthetic"] == ("data_tools synthetic --out build/demo/isic --train 600 --val 320 --seed 1 --height 330 "
                                  "--width 440")
    rest = {name: text for name, text in found.items() if name != "synthetic"}
    assert rest == texts("report", RUN="build/demo", ISIC="build/demo/isic", NET="vgg_gap_narrow", SOLVERS="demo_",
                         INIT="models/stage1.caffemodel", PATCH="96", RECORDS="--patches centre",
                         REGION="--threshold 0.75 --placement exact",
                         EDIT="data.batch_size=16 pool4.kernel_size=1 pool4.stride=1 CAM_dropout.dropout_ratio=0.1")
    assert "x/isic" in texts("demo", RUN="x")["synthetic"]
    assert "--isic x/isic" in texts("demo", RUN="x")["clean/train"]
    assert "--isic y" in texts("demo", RUN="x", ISIC="y")["clean/train"]
    assert "--threshold" not in texts("demo", REGION="")["crops/val"]
    assert "--hair none" in texts("demo", HAIR="none")["clean/val"]
    assert "edit" not in texts("demo", EDIT="", PATCH="")


@pytest.mark.parametrize(("flags", "words", "precision"), [
    ("fpu avx512_bf16 amx_tile", {}, "bf16"), ("fpu amx_bf16", {"ENGINE": "torch"}, "bf16"), ("fpu avx512f", {}, None),
    ("fpu avx512_bf16", {"ENGINE": "caffe"}, None), ("fpu avx512_bf16", {"GPU": "0"}, None),
    ("fpu avx512_bf16", {"PRECISION": "fp32"}, "fp32"), ("fpu avx512f", {"PRECISION": "bf16"}, "bf16")])
def test_the_demo_computes_in_bf16_where_the_processor_does(processor, flags, words, precision):
    processor.write_text(f"model name\t: some\nflags\t\t: {flags}\n")
    for name, text in texts("demo", **words).items():
        nets = name.startswith(("train", "predict", "crops", "report"))
        assert text.partition("--precision ")[2][:4] == (precision or "" if nets else "")
    assert "--precision" not in texts("all")["train/stage1"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("net", NETS)
def test_solvers_and_networks_that_are_named_are_there(target, net):
    if (target, net) == ("scratch", "vgg_gap_narrow"):
        return  # which has nothing else than scratch
    words = [word for text in texts(target, NET=net).values() for word in shlex.split(text)]
    named = {word for word in words if word.endswith(".prototxt")}
    assert named or target == "clean"
    made = {"build/demo/deploy.prototxt"} if target == "demo" else set()
    assert [name for name in named - made if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHOICES.items() for value in values
                                             if value and name not in (*MAKE_ONLY, *EXPERIMENT)])
def test_every_value_is_one_that_the_commands_know(name, value):
    for target in ("all", "doctor"):
        for words in commands(make_run({name: value}), target):
            if words[1] != "train":
                assert parse(words).command == words[1]


# ---------------------------------------------------------------- the command
def show(*words):
    return main(["pipeline", *words, "--show"])


@pytest.mark.parametrize("target", TARGETS)
def test_shown_are_the_commands_and_none_is_run(target, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert show(target, "RUN=r") == 0
    lines = [shlex.join(["python", "-m", *shlex.split(text)]) for text in texts(target, RUN="r").values()]
    assert capsys.readouterr().out.splitlines() == lines
    assert list(tmp_path.iterdir()) == []


def test_variables_come_from_the_environment_too_and_words_win(capsys, monkeypatch):
    monkeypatch.setenv("HAIR", "letter")
    monkeypatch.setenv("RUN", "r")
    assert show("stage1", "HAIR=none") == 0
    assert "--out r/clean/train --hair none" in capsys.readouterr().out
    assert show("demo") == 0
    assert "--out r/isic" in capsys.readouterr().out
    monkeypatch.setenv("HAIR", "")
    monkeypatch.setenv("RUN", "")
    assert show("demo") == 0
    assert capsys.readouterr().out.splitlines()[2].endswith("--out build/demo/clean/train --hair along")


def refused(capsys, *words, target="all"):
    """Return the line that refuses some words, given on the command line."""
    assert main(["pipeline", target, *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHOICES.items() for value in values if value])
def test_every_misspelt_value_names_the_nearest(name, value, capsys, monkeypatch):
    wrong = f"{value[:-1]}{value[-1] * 2}"
    expected = f"error: {name}={wrong}: '{wrong}' is not known, did you mean {value}? (known: "
    assert refused(capsys, f"{name}={wrong}").startswith(expected)
    if name not in MAKE_ONLY:
        monkeypatch.setenv(name, wrong)
        assert refused(capsys).startswith(expected)


@pytest.mark.parametrize("name", VARIABLES)
def test_every_misspelt_variable_names_the_nearest(name, capsys):
    wrong = f"{name}{name[-1]}"
    assert refused(capsys, f"{wrong}=1").startswith(f"error: {wrong!r} is not known, did you mean {name}? (known: ISIC, ")
    assert f"did you mean {name}?" in refused(capsys, f"{name.lower()}=1")


@pytest.mark.parametrize(("words", "message"), [
    ("RUN=my run", "error: RUN=my run: expected a path without spaces\n"),
    ("GPU=-1", "error: GPU=-1: expected a whole number\n"), ("GPU=cuda", "error: GPU=cuda: expected a whole number\n"),
    ("MAX_ITER=1e3", "error: MAX_ITER=1e3: expected a whole number\n"),
    ("SEEDS=1,2", "error: SEEDS=1,2: expected whole numbers\n"), ("BATCH=4 ", "error: BATCH=4 : expected a whole number\n"),
    ("report", "error: 'report' is not known, ")])
def test_a_value_of_another_form_is_one_line(words, message, capsys):
    assert refused(capsys, words).startswith(message)


def test_a_misspelt_target_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", "reprot"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: argument target: 'reprot' is not known, did you mean report?")


@pytest.fixture
def untouched(tmp_path, monkeypatch):
    """Return RUN=FOLDER of a run that must not begin: nothing is made, no command is run."""
    monkeypatch.setattr(pipeline.Runner, "execute", lambda *_, **__: pytest.fail("a command was run"))
    monkeypatch.setattr(pipeline, "is_current", lambda step: pytest.fail("a step was looked at"))
    yield f"RUN={tmp_path / 'r'}"
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("target", ["crops", "stage2", "table", "report", "all", "demo"])
@pytest.mark.parametrize(("region", "message"), [
    ("--treshold 0.5", "'--treshold' is not known, did you mean --threshold?"),
    ("--ground mim", "argument --ground: 'mim' is not known, did you mean min?"),
    ("--threshold 1.5", "argument --threshold: 1.5 is not in [0, 1)"), ("--control midle", "argument --control: 'midle'"),
    ("0.5", "unrecognized arguments: 0.5"), ("--threshold", "argument --threshold: expected one argument")])
def test_a_misspelt_region_ends_before_anything_is_done(untouched, target, region, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", target, untouched, f"REGION={region}"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("words", "message"), [
    ("REGION=--class true", "error: --class true: {run}/clean/val is not a folder named train, and the true class would leak "),
    ("REGION=--threshold '0.5", "error: REGION=--threshold '0.5: No closing quotation\n"),
    ("INIT=nowhere.caffemodel", "error: nowhere.caffemodel: no such weights file; "),
    ("START2=nowhere/stage1", "error: nowhere/stage1: no such weights file; "),
    ("SOLVERS=narow_", "error: NET=vgg_gap SOLVERS=narow_, solver: 'narow_stage1.prototxt' is not known, did you mean narrow_"),
])
def test_what_would_end_a_run_later_ends_it_at_once(untouched, words, message, capsys):
    assert refused(capsys, untouched, words).startswith(message.format(run=untouched[4:]))


def test_the_start_of_stage_2_may_be_what_the_run_makes(tmp_path):
    words = {"RUN": str(tmp_path / "r"), "START2": str(tmp_path / "r" / "stage1_scratch")}
    pipeline.refuse(make_run(words), commands(make_run(words), "all"))


def test_a_network_that_has_no_solver_for_a_target_is_refused(untouched, capsys):
    line = refused(capsys, untouched, "NET=vgg_gap_narrow", target="scratch")
    assert line.startswith("error: NET=vgg_gap_narrow SOLVERS=, solver: 'narrow_stage1_scratch.prototxt' is not known, did you ")


def test_pictures_in_a_folder_with_spaces_reach_the_command(capsys, tmp_path):
    """The error is that of the first command, which looked at the right folder."""
    line = refused(capsys, f"RUN={tmp_path / 'r'}", f"ISIC={tmp_path / 'my pictures'}", target="stage1")
    assert line.startswith(f"error: {tmp_path / 'my pictures'}: no pictures of split train")


# ---------------------------------------------------------------- running
@pytest.fixture
def runs(monkeypatch):
    """Return what was run: (program, command), with stand-ins for all commands; `current` names those that are up to date."""
    found = SimpleNamespace(ran=[], current=set(), status=0)

    def stand_in(words):
        step = SimpleNamespace(name=label(words))
        return SimpleNamespace(step=lambda args: step, run=lambda args: found.ran.append(("here", words)))

    def child(words):
        found.ran.append((words[0], words[2:]))
        return found.status
    monkeypatch.setattr(pipeline, "parse", stand_in)
    monkeypatch.setattr(pipeline, "is_current", lambda step: step.name in found.current)
    monkeypatch.setattr(pipeline, "wait", child)
    return found


def make(tmp_path, target="all", **words):
    run = pipeline.target_run(target, {"RUN": str(tmp_path), **words})
    (tmp_path / "results").mkdir(exist_ok=True)
    (tmp_path / "results" / "table1.md").write_text("| table |\n")
    pipeline.make(run, commands(run, target))
    return run


def test_everything_is_checked_once_before_the_first_step_that_works(runs, tmp_path, capsys):
    runs.current = {*CLEAN, "train/stage1"}
    run = make(tmp_path, NET="vgg_gap_narrow", INIT="w", BATCH="2")
    names = [label(words) for _, words in runs.ran]
    assert names == ["doctor", *(name for name in ORDER["all"] if name not in runs.current)]
    assert runs.ran[0][1] == [*commands(run, "doctor")[0], "--quiet"]
    assert [words[-1] for _, words in runs.ran if words[1] == "train"] == ["--checked"]
    out, err = capsys.readouterr()
    assert out.splitlines() == ["clean/train: up to date", "clean/val: up to date", "train/stage1: up to date",
                                f"report: {tmp_path}/results/report.html"]  # the command table1 has printed the table
    told = [line.split(" -m ")[1].split()[1] for line in err.splitlines()]
    assert told == [name.split("/")[0] for name in names[1:]]


def test_nothing_is_checked_where_nothing_works_and_the_table_is_shown(runs, tmp_path, capsys):
    runs.current = set(ORDER["all"])
    make(tmp_path)
    assert runs.ran == []
    out, err = capsys.readouterr()
    assert err == ""
    lines = [f"{name}: up to date" for name in ORDER["all"]]
    assert out.splitlines() == [*lines[:-1], "| table |", lines[-1], f"report: {tmp_path}/results/report.html"]


def test_the_demos_pictures_are_made_before_they_are_checked(runs, tmp_path):
    make(tmp_path, "demo")
    assert [label(words) for _, words in runs.ran[:3]] == ["synthetic", "edit", "doctor"]
    assert "solvers/demo_stage1.prototxt solvers/demo_stage2.prototxt" in shlex.join(runs.ran[2][1])


def test_what_is_checked_is_what_is_trained_and_what_follows_it(runs, tmp_path):
    both = ["solvers/stage1.prototxt", "solvers/stage2.prototxt"]
    for target, expected in (("stage1", both), ("scratch", ["solvers/stage1_scratch.prototxt"]),
                             ("stage2", both)):
        runs.ran.clear()
        make(tmp_path, target)
        checked = runs.ran[0][1]
        named = checked[checked.index("--solver") + 1:checked.index("--engine")]
        assert named[:len(expected)] == expected
        assert all((ROOT / name).is_file() for name in named)  # what comes later may be looked at too


def test_caffes_own_python_runs_the_nets_and_ours_the_rest(runs, tmp_path, capsys):
    caffe = tmp_path / "my caffe"
    caffe.mkdir()
    make(tmp_path, ENGINE="caffe", CAFFE=str(caffe))
    assert {program for program, _ in runs.ran} == {"here"}  # it is not installed completely
    (caffe / "complete").touch()
    runs.ran.clear()
    capsys.readouterr()
    make(tmp_path, ENGINE="caffe", CAFFE=str(caffe))
    assert {(program, words[1]) for program, words in runs.ran} == {
        *(("here", name) for name in ("clean", "lmdb", "table1")),
        *((str(caffe / "bin" / "python3"), name) for name in ("doctor", "train", "crops", "predict", "report"))}
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert {(line[1], line[4]) for line in lines} >= {("python3", "train"), (Path(sys.executable).name, "clean")}
    for engine in ("torch", "auto"):
        runs.ran.clear()
        make(tmp_path, ENGINE=engine, CAFFE=str(caffe))
        assert {program for program, _ in runs.ran} == {"here"}


def test_a_command_that_fails_in_caffes_python_ends_the_run(runs, tmp_path):
    (tmp_path / "complete").touch()
    runs.current, runs.status = set(CLEAN), 1
    with pytest.raises(SystemExit) as ended:
        make(tmp_path, ENGINE="caffe", CAFFE=str(tmp_path))
    assert ended.value.code == 1
    assert [label(words) for _, words in runs.ran] == ["doctor"]


def test_doctor_looks_at_both_trainings_and_marks_nothing(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(pipeline.Runner, "execute", lambda self, words, told=True: found.append((words, told)))
    assert main(["pipeline", "doctor", f"RUN={tmp_path / 'r'}"]) == 0
    assert found == [(commands(make_run({"RUN": str(tmp_path / "r")}), "doctor")[0], False)]
    assert not (tmp_path / "r").exists()


# ---------------------------------------------------------------- what may be deleted
def record(path):
    """Write a sound record of a step."""
    steps.write_record(path, steps.Record({}, {}, {}, True))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_run_is_deleted_and_nothing_else(tmp_path, capsys):
    run = tmp_path / "r"
    pipeline.mark(run)
    for name in pipeline.MADE:
        (run / name / "x").mkdir(parents=True)
        (run / name / "x" / "file").touch()
    (run / "thesis.tex").touch()
    (run / "isic" / "train").mkdir(parents=True)  # not made up here
    assert main(["pipeline", "clean", f"RUN={run}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"delete {run / name}" for name in pipeline.MADE), f"kept in {run}, not made by this run: isic, thesis.tex"]
    assert files(run) == [MARK, "isic", "isic/train", "thesis.tex"]


def test_a_folder_with_nothing_else_goes_with_its_made_up_pictures(tmp_path, capsys):
    run = tmp_path / "r"
    pipeline.mark(run)
    record(run / "isic" / ".made.json")
    (run / "stage1").mkdir()
    assert main(["pipeline", "clean", f"RUN={run}"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"delete {run / 'stage1'}", f"delete {run / 'isic'}"]
    assert files(tmp_path) == []


@pytest.mark.parametrize("content", [[], ["stage1/final.caffemodel", "clean/train/.clean.json"], None])
def test_a_folder_without_the_mark_is_refused(tmp_path, content, capsys):
    run = tmp_path / "r"
    for name in content or ():
        (run / name).parent.mkdir(parents=True)
        record(run / name)
    if content == []:
        run.mkdir()
    before = files(tmp_path)
    assert refused(capsys, f"RUN={run}", target="clean") == (
        f"error: RUN={run}: no folder of a run (no {MARK} in it); nothing was deleted\n")
    assert files(tmp_path) == before


def test_links_are_only_unlinked(tmp_path, capsys):
    run, elsewhere = tmp_path / "r", tmp_path / "elsewhere"
    pipeline.mark(run)
    for name in ("clean", "isic"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "precious").touch()
        (run / name).symlink_to(elsewhere / name)
    record(elsewhere / "isic" / ".made.json")
    (run / "crops").symlink_to(elsewhere / "gone")  # points nowhere
    assert main(["pipeline", "clean", f"RUN={run}"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"delete {run / name}" for name in ("clean", "crops", "isic")]
    assert files(tmp_path) == ["elsewhere", "elsewhere/clean", "elsewhere/clean/precious", "elsewhere/isic",
                               "elsewhere/isic/.made.json", "elsewhere/isic/precious"]


def test_the_runs_own_net_is_deleted_too(tmp_path):
    run = tmp_path / "r"
    pipeline.mark(run)
    assert main(["edit", "--net", str(ROOT / "prototxt/vgg_gap_narrow_deploy.prototxt"), "--patch", "128", "--out",
                 str(run / "deploy.prototxt")]) == 0
    assert main(["pipeline", "clean", f"RUN={run}"]) == 0
    assert not run.exists()


def test_a_run_behind_a_link_is_deleted_in_its_place(tmp_path):
    pipeline.mark(tmp_path / "big disk")
    (tmp_path / "big disk" / "stage1").mkdir()
    (tmp_path / "r").symlink_to(tmp_path / "big disk")
    assert main(["pipeline", "clean", f"RUN={tmp_path / 'r'}"]) == 0
    assert not (tmp_path / "big disk").exists()


@pytest.mark.parametrize("name", pipeline.MADE)
def test_a_folder_of_somebody_else_is_not_marked(tmp_path, name, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "make", lambda *_: pytest.fail("a run began"))
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.json").write_text("{}")
    line = refused(capsys, f"RUN={tmp_path}", target="stage1")
    assert line == f"error: RUN={tmp_path}: {name} in it was not made here; choose another folder\n"
    assert files(tmp_path) == [name, f"{name}/thesis.json"]


@pytest.mark.parametrize("name", ["clean/train/.clean.json", "lmdb/stage1_train/.lmdb.json", "crops/val/crops.json",
                                  "stage1/origin.json", "stage1_scratch/origin.json", "results/.stage1_val.csv.json"])
def test_what_the_commands_made_by_hand_is_ours(tmp_path, name):
    record(tmp_path / name)
    (tmp_path / "stage2").mkdir()  # empty
    pipeline.mark(tmp_path)
    assert (tmp_path / MARK).is_file()


def test_other_files_beside_a_run_are_no_hindrance(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "isic").mkdir()
    (tmp_path / "isic" / "picture.jpg").touch()
    pipeline.mark(tmp_path)
    pipeline.mark(tmp_path)
    assert files(tmp_path) == [MARK, "isic", "isic/picture.jpg", "thesis"]


# ---------------------------------------------------------------- the list of the variables
def test_the_list_of_variables_needs_no_package():
    words = [sys.executable, "-S", "-s", "-m", "pycam.variables"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "HAIR": "none"})
    assert done.stderr == ""
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        f"{name}={variable.default} {variable.text}" for name, variable in VARIABLES.items()]
    wrong = "HAIR=non: 'non' is not known, did you mean none? (known: along, letter, none)\n"
    for given, expected in (("HAIR=none", ""), ("HAIR=non", wrong), ("ISIC=a b", "")):
        done = subprocess.run([*words, "NET=vgg_gap", given], cwd=ROOT, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (expected, "")


def test_defaults_are_values_that_are_accepted():
    for name, variable in VARIABLES.items():
        assert variable.form in FORMS
        assert variables.problem(name, variable.default) == ""
        assert variables.problem(name, "") == ""
        for value in variable.values:
            assert variables.problem(name, value) == ""


def test_a_program_that_is_interrupted_ends_in_its_own_time():
    """As an engine does that writes its snapshot first; the signal has reached it too."""
    program = ("import os, signal, sys, time\n"
               "signal.signal(signal.SIGINT, lambda *_: (time.sleep(1), sys.exit(7)))\n"
               "os.kill(os.getppid(), signal.SIGINT)\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)")
    waiting = f"import sys; from pycam.pipeline import wait; sys.exit(wait([sys.executable, '-c', {program!r}]))"
    assert subprocess.run([sys.executable, "-c", waiting], cwd=ROOT, check=False).returncode == 7

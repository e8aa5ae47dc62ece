"""The experiment: its table can be read, names are checked, and its commands are those of the rows that are asked for."""

import csv
from pathlib import Path

import pytest

from pycam import experiment
from pycam.__main__ import main
from pycam.errors import CamError
from pycam.experiment import Experiment, read_table
from pycam.summary import read_rows, read_specs
from torchcaffe import processor

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "experiments" / "rows.csv"


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Return a function that gives the commands of an experiment in a folder E, joined, each once."""
    monkeypatch.setattr(experiment, "TABLE", TABLE)
    monkeypatch.setattr(processor, "INFO", tmp_path / "cpuinfo")
    processor.INFO.write_text("flags : fpu avx512_bf16\n")
    (tmp_path / "w").touch()

    def of(rows, **more):
        made = Experiment({"ROWS": rows, "SEEDS": "1 2", "RUN": "E", "INIT": str(tmp_path / "w"), "ISIC": "pics", **more})
        made.check()
        found = [" ".join(words) for _, needed in made.work() for words in needed]
        return list(dict.fromkeys(line.replace(str(tmp_path / "w"), "W") for line in found))
    of.weights = tmp_path / "w"
    return of


def of(lines, *words):
    return [line for line in lines if all(word in line for word in words)]


def test_the_pictures_are_cleaned_once_for_all_seeds(commands):
    lines = commands("stages")
    assert len(of(lines, "data_tools clean")) == 2
    assert lines[0] == ("data_tools clean --isic pics --split train --out E/clean/train --hair along "
                        "--exclude ISIC_0012970,ISIC_0012175,ISIC_0012271")
    assert [line.split(" --run ")[1] for line in of(lines, "pycam train", "--stage stage1")] == [
        f"E/seed{seed} --weights W --engine auto --precision bf16 --seed {seed}" for seed in (1, 2)]
    assert len(of(lines, "pycam train", "--stage stage2")) == 2
    assert lines.index(of(lines, "train", "stage1.prototxt")[0]) < lines.index(of(lines, "crops")[0])


@pytest.mark.parametrize(("flags", "more", "precision"), [
    ("avx2", {}, ""), ("avx2", {"GPU": "0"}, "bf16"), ("avx2", {"PRECISION": "bf16"}, "bf16"), ("amx_bf16", {}, "bf16"),
    ("amx_bf16", {"ENGINE": "caffe"}, ""), ("amx_bf16", {"PRECISION": "fp32"}, "fp32")])
def test_it_computes_in_bf16_where_that_is_fast(commands, flags, more, precision):
    processor.INFO.write_text(f"flags : {flags}\n")
    trainings = of(commands("stages", **more), "pycam train")
    assert {line.partition("--precision ")[2][:4] for line in trainings} == {precision}


def test_a_second_stage_shares_the_first_of_its_seed(commands):
    lines = commands("whole")
    assert {line.split(" --run ")[1].split()[0] for line in of(lines, "pycam train", "--stage stage1")} == {"E/seed1", "E/seed2"}
    second = of(lines, "train", "--run E/seed2-whole")
    assert second == ["pycam train --solver solvers/googlenet_stage2.prototxt --stage stage2 --run E/seed2-whole --weights "
                      "E/seed2/stage1 --engine auto --precision bf16 --seed 2"]
    crops = of(lines, "crops", "--out E/seed2-whole/crops/train")
    assert crops == ["pycam crops --net prototxt/googlenet_gap_deploy.prototxt --weights E/seed2/stage1 --images E/clean/train "
                     "--out E/seed2-whole/crops/train --control whole --engine auto --precision bf16"]


def test_random_patches_have_solvers_records_and_a_control_of_their_own(commands):
    lines = commands("patches", SEEDS="2")
    assert {line.split("solvers/")[1].split()[0] for line in of(lines, "pycam train")} == {
        "googlenet_random_stage1.prototxt", "googlenet_random_stage2.prototxt"} | {  # and what its rows are held against
        "googlenet_random_stage1.prototxt"}
    assert of(lines, "--weights E/seed2-patches/stage1", "--out E/seed2-patches-whole/crops/train", "--control whole")
    assert of(lines, "--weights E/seed2-patches-whole/stage2", "stage2_val_ten.csv --views ten")
    assert all("--augment random" in line for line in of(lines, "lmdb", "_train"))


def test_crops_of_the_table_say_where_the_cells_of_their_maps_lie(commands):
    """D26: the stored rows were made under another default; a control on whole pictures follows no map."""
    names = "stages tight patches centre released stretch pretrained narrow small smaller chosen regions"
    cut = [line for line in commands(names, SEEDS="1", NET="vgg16_gap") if line.startswith("pycam crops ")]
    followed = [line for line in cut if "--control whole" not in line]
    assert len(followed) > 20
    assert [line for line in followed if "--placement" not in line] == []
    assert {line.partition("--placement ")[2].split()[0] for line in followed} == {"exact", "stretch", "fade"}


def test_rows_of_one_seed(commands):
    lines = commands("pretrained oversample hairy scratch")
    assert not of(lines, "seed2")
    assert of(lines, "train", "E/seed1-pretrained --weights W")
    assert of(lines, "lmdb", "E/seed1-oversample", "--balance oversample")
    assert of(lines, "clean", "--out E/seed1-hairy/clean/train --hair none")
    assert of(lines, "lmdb --images E/seed1-hairy/clean/train")
    assert of(lines, "train", "googlenet_stage1_scratch.prototxt", "--into stage1_scratch")
    assert of(lines, "predict", "--weights E/seed1/stage1_scratch", "--out E/seed1/results/scratch_val.csv")


def test_the_narrow_network_starts_from_random_weights(commands):
    lines = commands("narrow", SEEDS="3")
    assert all("vgg_gap_narrow" in line for line in of(lines, "--net"))
    assert of(lines, "train", "narrow_stage1.prototxt --stage stage1 --run E/seed3-narrow --engine")
    assert of(lines, "train", "--run E/seed3-narrow-whole --weights E/seed3-narrow/stage1")


def test_folds_are_runs_on_a_part_of_the_training_pictures(commands):
    lines = commands("stages", SEEDS="2", FOLDS="yes")
    assert lines[2:5] == [
        "data_tools folds --images E/clean/train --out E/folds --folds 3",
        *(f"data_tools clean --hair none --images E/clean/train --truth E/folds/2_{split}.csv --out E/fold2/clean/{split}"
          for split in ("train", "val"))]
    assert of(lines, "predict", "--images E/fold2/clean/val --out E/fold2/results/stage1_val.csv")
    with pytest.raises(CamError, match="hairy are for FOLDS=no"):
        commands("hairy", FOLDS="yes")


def test_another_network_has_runs_of_its_own_and_splits_are_a_variable(commands):
    lines = commands("stages patches", NET="vgg_gap", SEEDS="1", SPLIT="test")
    assert of(lines, "train --solver solvers/stage1.prototxt", "--run E/vgg_gap1 ")
    assert of(lines, "train --solver solvers/random_stage1.prototxt")
    assert of(lines, "clean", "--split test --out E/clean/test")
    assert of(lines, "crops", "--images E/clean/test")
    assert of(lines, "--out E/vgg_gap1/results/stage2_test.csv")


@pytest.mark.parametrize(("given", "message"), [
    ({"ROWS": "stages tigth"}, "'tigth' is not known, did you mean tight?"),
    ({"INIT": "nowhere"}, "nowhere: no pretrained weights")])
def test_what_is_wrong_is_said_before_anything_is_done(commands, given, message):
    with pytest.raises(CamError) as caught:
        commands(given.get("ROWS", "stages"), **{name: value for name, value in given.items() if name != "ROWS"})
    assert message in str(caught.value)


@pytest.mark.parametrize(("column", "value", "message"), [
    ("on", "{run}-wohle", "line 5: stands on the run '{run}-wohle' is not known, did you mean {run}-tight?"),
    ("variables", "REGOIN=--control whole", "line 5: 'REGOIN' is not known, did you mean REGION?"),
    ("variables", "AUGMENT=papr", "line 5: AUGMENT=papr: 'papr' is not known, did you mean paper?"),
    ("variables", "whole", "line 5: expected NAME=VALUE, found whole"),
    ("seeds", "frist", "line 5: expected files"), ("predictions", "{run}-x/results/stage2_{split}.csv", "line 5: expected files"),
    ("predictions", "{run}/results/stage3_{split}.csv", "line 5: expected files")])
def test_every_name_of_the_table_is_checked(tmp_path, column, value, message):
    rows = read_rows(TABLE)
    rows[3][column] = value
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(CamError) as caught:
        read_table(tmp_path / "rows.csv")
    assert message in str(caught.value)


def test_the_table_can_be_read_and_every_solver_is_there():
    rows, runs = read_table(TABLE)
    assert len(rows) == len(read_specs(TABLE))
    assert {folder for row in rows for folder, *_ in row.files} == set(runs)
    assert (ROOT / "solvers" / "googlenet_random_stage2.prototxt").is_file()


@pytest.mark.parametrize(("net", "asked", "left_out"), [
    ("googlenet_gap", "", {"padded", "tuned", "chosen", "regions", "recipes"}), ("vgg16_gap", "", set()),
    ("vgg16_gap", "chosen", set())])
def test_rows_whose_edits_do_not_fit_the_network_are_left_out(tmp_path, monkeypatch, net, asked, left_out):
    monkeypatch.chdir(ROOT)
    (tmp_path / "w").touch()
    made = Experiment({"NET": net, "INIT": str(tmp_path / "w"), "ROWS": asked})
    made.check()
    assert set(made.names) == ({asked} if asked else {row.name for row in made.rows} - left_out)


def test_a_row_that_does_not_fit_and_is_asked_for_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (tmp_path / "w").touch()
    assert main(["experiment", "ROWS=chosen", f"INIT={tmp_path / 'w'}", "--show"]) == 1
    assert "error: ROWS: not for googlenet_gap: EDIT, conv4_*.lr_mult=1: layer" in capsys.readouterr().err


def test_the_command_shows_what_it_would_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (tmp_path / "w").touch()
    assert main(["experiment", "ROWS=stages", "SEEDS=1", f"INIT={tmp_path / 'w'}", "--show"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("python -m data_tools clean --isic data/isic2017 --split train")
    assert main(["experiment", "ROW=stages", "--show"]) == 1
    assert "'ROW' is not known, did you mean ROWS?" in capsys.readouterr().err

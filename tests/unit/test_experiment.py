"""The experiment's recipe: its rows can be read, and make knows every target that it asks for."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from pycam.summary import read_specs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "run.sh"


@pytest.fixture
def recorded(tmp_path):
    """Run rows of the recipe with a `make` and a Python that write down how they are called and make what is asked for."""
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "make"
    fake.write_text('#!/bin/sh\necho "make $*" >> "$LOG"\nfor last; do :; done\n'
                    'mkdir -p "$(dirname "$last")" && touch "$last"\n'
                    'for word; do case $word in RUN=*) folder=${word#RUN=};; esac; done\n'
                    'for part in clean stage1 lmdb/stage1_train lmdb/stage1_val; do mkdir -p "$folder/$part"; done\n')
    (tmp_path / "bin" / "py").write_text('#!/bin/sh\necho "py $*" >> "$LOG"\n[ "$2" = pycam ] || mkdir -p "$EXP/fold2/clean"\n')
    for program in (fake, tmp_path / "bin" / "py"):
        program.chmod(0o755)

    (tmp_path / "w").touch()

    def run(*rows, seeds="1 2", kind="seed"):
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(tmp_path / "log"),
                       "PYTHON": "py", "EXP": str(tmp_path / "exp"), "SEEDS": seeds, "KIND": kind, "ISIC": "pics", "INIT": "w"}
        subprocess.run(["sh", str(SCRIPT), *rows], cwd=tmp_path, env=environment, check=True)
        return (tmp_path / "log").read_text().replace(str(tmp_path / "exp"), "E").splitlines()
    run.folder = tmp_path
    return run


def test_all_rows_run_and_make_knows_what_they_ask_for(recorded):
    targets = {call.split()[-1] for call in recorded(seeds="1") if call.startswith("make")}
    assert {f"E/seed1-{name}/results/stage2_val.csv" for name in ("whole", "tight", "centre", "random")} < targets
    variables = ["NET=googlenet_gap", "PYTHON=py", "PRECISION=bf16", "RUN=E"]
    for name in ("clean/train/groundtruth.csv", "results/table1.csv", "results/stage1_val.csv", "results/stage2_val.csv"):
        assert any(target.endswith(f"/{name}") for target in targets)
        dry = subprocess.run(["make", "-n", *variables, f"E/{name}"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert dry.returncode == 0, dry.stderr


def test_without_pretrained_weights_one_line_says_how_to_get_them(recorded):
    (recorded.folder / "w").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        recorded("stages")
    assert not (recorded.folder / "log").exists()


def test_a_second_stage_shares_the_first_of_its_seed(recorded):
    recorded("stages")
    calls = recorded("whole")
    assert (recorded.folder / "exp" / "seed2-whole" / "stage1").resolve() == recorded.folder / "exp" / "seed2" / "stage1"
    assert calls[-1].endswith("SEED=2 REGION=--control whole E/seed2-whole/results/stage2_val.csv")


def test_random_patches_have_solvers_records_and_a_control_of_their_own(recorded):
    calls = [call for call in recorded("patches", seeds="2") if call.startswith("make")][2:]
    assert [call.split()[-1] for call in calls] == ["E/seed2-patches/results/table1.csv",
                                                   "E/seed2-patches-whole/results/stage2_val.csv"]
    assert all("SOLVERS=googlenet_random_ AUGMENT=random" in call for call in calls)
    for name in ("stage1", "lmdb/stage1_train"):
        link = recorded.folder / "exp" / "seed2-patches-whole" / name
        assert link.resolve() == recorded.folder / "exp" / "seed2-patches" / name


def test_the_narrow_network_starts_from_random_weights(recorded):
    """INIT, which names GoogLeNet's weights, reaches make through the environment and the make that started the script too."""
    calls = recorded("narrow", "oversample", seeds="1")
    assert [call.split()[-1] for call in calls if call.startswith("make")] == [
        *(f"E/./clean/{split}/groundtruth.csv" for split in ("train", "val")), "E/narrow1/results/table1.csv",
        "E/narrow1-whole/results/stage2_val.csv", "E/seed1-oversample/results/stage1_val.csv"]
    assert ["INIT= " in call for call in calls if "narrow" in call] == [True, True]


def test_folds_are_runs_on_a_part_of_the_training_pictures(recorded):
    calls = recorded("stages", "oversample", seeds="2", kind="fold")[2:]  # first, all pictures are cleaned
    assert calls[0] == "py -m data_tools folds --images E/clean/train --out E/folds"
    for split, call in zip(("train", "val"), calls[1:3]):
        assert call == (f"py -m data_tools clean --hair none --images E/clean/train --truth E/folds/2_{split}.csv "
                        f"--out E/fold2/clean/{split}")
    assert [call.split()[-1] for call in calls[3:]] == ["E/fold2/results/table1.csv", "E/fold2-oversample/results/stage1_val.csv"]
    assert (recorded.folder / "exp" / "fold2-oversample" / "clean").resolve() == recorded.folder / "exp" / "fold2" / "clean"
    with pytest.raises(subprocess.CalledProcessError):
        recorded("stages", "hairy", kind="fold")


def test_from_random_weights_is_a_training_more_of_the_same_run(recorded):
    made, scored = recorded("scratch", seeds="1")[-2:]
    assert made.endswith("RUN=E/seed1 SEED=1 E/seed1/stage1_scratch/final.caffemodel")
    assert scored.endswith("--weights E/seed1/stage1_scratch --images E/seed1/clean/val --precision bf16 "
                           "--out E/seed1/results/scratch_val.csv")


def test_the_rows_of_the_tables_can_be_read():
    for path in (ROOT / "experiments").glob("*.csv"):
        specs = read_specs(path)
        assert specs[0].against == ""
        files = [name for spec in specs for name in spec.files]
        form = r"(seed|fold|narrow)\{seed\}(-[\w-]+)?/results/(stage[12]|scratch)_val(_ten)?\.csv$"
        assert all(re.match(form, name) for name in files)

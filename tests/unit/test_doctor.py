"""The list of checks before a training, with an engine that says what it is told to say."""

import re
import shutil
from pathlib import Path

import pytest

from pycam import doctor
from pycam.__main__ import main
from pycam.probe import Probe

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"
NET = {"shapes": {"fc": [[3, 4], [3]]}, "parameters": 15, "values": 10}
STAGE1 = ["folder", "sources", "records", "mean", "fillers", "net", "weights", "memory", "disk", "time"]


@pytest.fixture
def look(run, monkeypatch, capsys):
    """Return a function that runs the doctor on the folder and gives its findings: title -> (mark, text)."""
    run.job()  # writes solver and net
    monkeypatch.chdir(ROOT)

    def lines(*words, status=0):
        findings(*words, status=status)
        return findings.said

    def findings(*words, failed="", problem="", status=0, **others):
        def probe(_, requests):
            names = ["engine", "device", *(request.name for request in requests)]
            found = {name: 2.5 if name.endswith(" time") else others.get(name.replace(" ", "_"), NET) for name in names}
            found.update(engine={"torchcaffe": "1.0.0", "Python": "3.11"}, device=1e-7)
            return Probe({name: found[name] for name in (names[:names.index(failed)] if failed else names)}, failed, problem)
        monkeypatch.setattr(doctor, "probe", probe)
        assert main(["doctor", "--solver", str(run.folder / "solver.prototxt"), "--net", str(DEPLOY), "--run", str(run.folder),
                     "--isic", str(run.folder / "isic"), "--engine", "torch", *words]) == status
        findings.said = capsys.readouterr().out.splitlines()
        found = [re.fullmatch(r"(ok  |FAIL|--  )  (.*?): (.*)|      (.*)", line) for line in findings.said]
        assert all(found)
        return {match.group(2): (match.group(1).strip(), match.group(3)) for match in found if match.group(2)}
    findings.folder, findings.lines = run.folder, lines
    return findings


def test_all_is_well(look):
    found = look()
    assert {mark for mark, _ in found.values()} == {"ok"}
    assert list(found) == ["engine", "device", "pictures", *(f"stage1 {title}" for title in STAGE1), "predictions"]
    assert found["engine"][1] == "torchcaffe 1.0.0, Python 3.11"
    assert found["pictures"][1].startswith(f"{look.folder}/isic: train 6 (melanoma ")
    assert found["stage1 time"][1] == "about 17 min for 400 iterations (2.5 s each), without tests"
    assert look("--max-iter", "20")["stage1 time"][1].startswith("about 50 s for 20 iterations")
    assert look("--quiet") == {}


def test_what_stands_on_a_failure_is_not_looked_at(look):
    found = look(failed="engine", problem="engine caffe: not here", status=1)
    assert found["engine"] == ("FAIL", "engine caffe: not here")
    unseen = [title for title, (mark, _) in found.items() if mark == "--"]
    assert unseen == ["device", *(f"stage1 {title}" for title in ("net", "weights", "memory", "disk", "time")), "predictions"]
    assert found["stage1 net"][1] == "not looked at, needs: engine"
    assert {found[f"stage1 {title}"][0] for title in STAGE1[:5]} == {"ok"}  # these need no engine
    assert "stage1 folder" not in look("--quiet", failed="engine", problem="x", status=1)


def test_a_net_that_ends_the_engine_leaves_the_others_open(look):
    found = look(failed="stage1 training", problem="Unknown layer type: Convulsion", status=1)
    assert found["stage1 net"] == ("FAIL", "the net cannot be made: Unknown layer type: Convulsion")
    assert {found[title][0] for title in ("stage1 weights", "stage1 disk", "stage1 time", "predictions")} == {"--"}
    found = look(failed="stage1 time", problem="out of memory", status=1)
    assert found["stage1 time"] == ("FAIL", "an iteration cannot be computed: out of memory")
    assert found["predictions"][0] == "ok"


def test_pictures_that_are_missing(look):
    next((look.folder / "isic" / "val").glob("*.jpg")).unlink()
    mark, text = look(status=1)["pictures"]
    assert mark == "FAIL"
    assert re.search(r"val: 1 of 3 pictures of .* are missing: SYN_\w+; make data fetches ISIC-2017, ISIC= names", text)


def test_a_run_whose_pictures_are_clean_needs_no_originals(look):
    shutil.move(str(look.folder / "isic"), str(look.folder / "clean"))
    assert look()["pictures"] == ("ok", f"{look.folder}/clean has what was made of them")
    shutil.rmtree(look.folder / "clean" / "val")
    assert look(status=1)["pictures"][0] == "FAIL"


def test_a_part_of_the_challenge_is_legal_and_noted(look):
    root = look.folder / "isic"
    (root / "val" / "groundtruth.csv").rename(root / "ISIC-2017_Validation_Part3_GroundTruth.csv")
    lines = look.lines()
    place = next(place for place, line in enumerate(lines) if line.startswith("ok    pictures"))
    assert "note: " in lines[place + 1]
    assert "3 rows, " in lines[place + 1]
    assert "the val split of ISIC-2017 has 150" in lines[place + 1]
    assert "delete" not in lines[place + 1]


@pytest.mark.parametrize("folder", ["isic", "clean"])
def test_validation_pictures_that_cannot_be_scored(look, folder):
    if folder == "clean":
        shutil.copytree(look.folder / "isic", look.folder / "clean")
    table = look.folder / folder / "val" / "groundtruth.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *(f"{row.split(',')[0]},0,0" for row in rows)]))
    mark, text = look(status=1)["pictures"]
    assert (mark, f"{table}: 0 of 3 pictures are melanoma, and a score (table1) needs both kinds" in text) == ("FAIL", True)


def test_records_that_are_cut_off_and_records_to_come(look):
    data = look.folder / "lmdb" / "stage1_val" / "data.mdb"
    data.write_bytes(data.read_bytes()[:-1])
    assert look(status=1)["stage1 records"][0] == "FAIL"
    shutil.rmtree(look.folder / "lmdb")
    found = look()
    assert found["stage1 sources"] == ("ok", "0 of 2 there, make stage1 makes the others")
    assert found["stage1 records"] == ("ok", "none yet")


def test_a_deploy_file_of_another_network(look):
    other = {**NET, "shapes": {"fc": [[3, 5], [3]], "more": [[1]]}}
    mark, text = look(predictions=other, status=1)["predictions"]
    assert mark == "FAIL"
    assert "its layers fc, more are not in the trained net with these shapes; name the deploy file" in text


def test_a_solver_that_cannot_be_read_or_names_no_stage(look):
    solver = look.folder / "other.prototxt"
    solver.write_text((look.folder / "solver.prototxt").read_text().replace('train_state { stage: "stage1" }', ""))
    found = look("--solver", str(look.folder / "solver.prototxt"), str(solver), "none.prototxt", status=1)
    assert found[str(solver)][1].startswith(f"{solver}: names no stage")
    assert "No such file" in found["none.prototxt"][1]
    assert found["stage1 net"][0] == "ok"


def test_stage_2_starts_from_what_stage_1_will_make_or_has_made(look, snapshot):
    second = look.folder / "second.prototxt"
    first = look.folder / "solver.prototxt"
    second.write_text(first.read_text().replace('"stage1"', '"stage2"').replace("/stage1/", "/stage2/"))
    words = ["--solver", str(first), str(second)]
    assert look(*words)["stage2 weights"] == ("ok", "those that stage1 will make")
    (look.folder / "stage1").mkdir()
    snapshot(look.folder, 1)
    (look.folder / "net_iter_1.caffemodel").rename(look.folder / "stage1" / "final.caffemodel")
    assert "fc; Caffe would abort" in look(*words, status=1)["stage2 weights"][1]
    fits = {"stage2_training": {**NET, "shapes": {"fc": [[100]]}}}
    assert "1 layers copied" in look(*words, **fits, status=1)["stage2 weights"][1]  # and predictions fail
    (look.folder / "stage2").mkdir()
    snapshot(look.folder / "stage2", 1)
    assert "1 layers copied" in look(*words, **fits, status=1)["stage2 weights"][1]  # a snapshot may be of another training
    (look.folder / "stage1" / "final.caffemodel").unlink()
    assert look(*words)["stage2 weights"][1] == "the newest snapshot"
    assert "nowhere" in look(*words, "--start2", "nowhere", **fits, status=1)["stage2 weights"][1]


def test_another_training_of_stage_1_has_a_folder_and_a_start_of_its_own(look, snapshot):
    scratch, first = look.folder / "scratch.prototxt", look.folder / "solver.prototxt"
    scratch.write_text(first.read_text().replace("/stage1/", "/stage1_scratch/"))
    snapshot(look.folder, 1)
    weights = look.folder / "net_iter_1.caffemodel"
    found = look("--solver", str(first), str(scratch), "--weights", str(weights), status=1)
    assert [title for title in found if title.startswith("stage1_scratch ")] == [f"stage1_scratch {title}" for title in STAGE1]
    assert found["stage1 weights"][0] == "FAIL"  # they do not fit
    assert found["stage1_scratch weights"] == ("ok", "none: every layer starts from its filler")
    assert "stage1_scratch can be written" in found["stage1_scratch folder"][1]

"""The list of checks before a training, with an engine that says what it is told to say."""

import re
import shutil
from pathlib import Path

import pytest

from pycam import doctor
from pycam.__main__ import main
from pycam.checks import Check
from pycam.errors import CamError
from pycam.probe import Probe

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"
NET = {"params": {"fc": [[3, 4], [3]]}, "numbers": 10}
WELL = [{"torchcaffe": "1.0.0", "Python": "3.11"}, {"error": 1e-7}, NET, NET, NET]
STAGE1 = ["folder", "sources", "records", "mean", "fillers", "net", "weights", "memory", "disk"]


@pytest.fixture
def look(run, monkeypatch, capsys):
    """Return a function that runs the doctor on the folder and gives its findings: title -> (mark, text)."""
    run.job()  # writes solver and net
    monkeypatch.chdir(ROOT)

    def findings(*words, lines=WELL, problem="", status=0):
        monkeypatch.setattr(doctor, "probe", lambda *_: Probe(lines, problem))
        assert main(["doctor", "--solver", str(run.folder / "solver.prototxt"), "--net", str(DEPLOY), "--run", str(run.folder),
                     "--isic", str(run.folder / "isic"), "--engine", "torch", *words]) == status
        found = [re.fullmatch(r"(ok  |FAIL|--  )  (.*?): (.*)|      (.*)", line) for line in capsys.readouterr().out.splitlines()]
        assert all(found)
        return {match.group(2): (match.group(1).strip(), match.group(3)) for match in found if match.group(2)}
    findings.folder = run.folder
    return findings


def test_all_is_well(look):
    found = look()
    assert {mark for mark, _ in found.values()} == {"ok"}
    assert list(found) == ["engine", "device", "pictures", *(f"stage1 {title}" for title in STAGE1), "predictions"]
    assert found["engine"][1] == "torchcaffe 1.0.0, Python 3.11"
    assert found["pictures"][1].startswith(f"{look.folder}/isic: train 6 (melanoma ")
    assert look("--quiet") == {}


def test_what_stands_on_a_failure_is_not_looked_at(look):
    found = look(lines=[], problem="engine caffe: not here", status=1)
    assert found["engine"] == ("FAIL", "engine caffe: not here")
    unseen = [title for title, (mark, _) in found.items() if mark == "--"]
    assert unseen == ["device", *(f"stage1 {title}" for title in ("net", "weights", "memory", "disk")), "predictions"]
    assert {found[f"stage1 {title}"][0] for title in STAGE1[:5]} == {"ok"}  # these need no engine
    assert "stage1 folder" not in look("--quiet", lines=[], problem="x", status=1)


def test_needs_are_passed_on():
    def fail():
        raise CamError("broken;\nmend it")
    looks = [Check("a", fail), Check("b", str, ("a",)), Check("c", lambda: "fine"), Check("d", lambda: "fine", ("c", "b"))]
    assert list(doctor.examine(looks)) == [
        doctor.Finding("a", False, "broken; mend it"), doctor.Finding("b", None, "not looked at, needs: a"),
        doctor.Finding("c", True, "fine"), doctor.Finding("d", None, "not looked at, needs: b")]


def test_a_net_that_ends_the_engine_leaves_the_others_open(look):
    found = look(lines=WELL[:2], problem="Unknown layer type: Convulsion", status=1)
    assert found["stage1 net"] == ("FAIL", "the net cannot be made: Unknown layer type: Convulsion")
    assert found["predictions"][0] == "--"


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


def test_official_labels_have_official_counts(look):
    root = look.folder / "isic"
    (root / "val" / "groundtruth.csv").rename(root / "ISIC-2017_Validation_Part3_GroundTruth.csv")
    mark, text = look(status=1)["pictures"]
    assert mark == "FAIL"
    assert "3 rows, " in text
    assert "the val split of ISIC-2017 has 150" in text


def test_records_that_are_cut_off_and_records_to_come(look):
    data = look.folder / "lmdb" / "stage1_val" / "data.mdb"
    data.write_bytes(data.read_bytes()[:-1])
    assert look(status=1)["stage1 records"][0] == "FAIL"
    shutil.rmtree(look.folder / "lmdb")
    found = look()
    assert found["stage1 sources"] == ("ok", "0 of 2 there, make stage1 makes the others")
    assert found["stage1 records"] == ("ok", "none yet")


def test_a_deploy_file_of_another_network(look):
    other = {"params": {"fc": [[3, 5], [3]], "more": [[1]]}, "numbers": 10}
    mark, text = look(lines=[*WELL[:4], other], status=1)["predictions"]
    assert mark == "FAIL"
    assert "its layers fc, more are not in the trained net with these shapes; name the deploy file" in text


def test_a_solver_that_cannot_be_read_or_names_no_stage(look):
    solver = look.folder / "other.prototxt"
    solver.write_text((look.folder / "solver.prototxt").read_text().replace("train_state", "test_state"))
    found = look("--solver", str(look.folder / "solver.prototxt"), str(solver), "none.prototxt", status=1)
    assert found[str(solver)][1].startswith(f"{solver}: names no stage")
    assert "No such file" in found["none.prototxt"][1]
    assert found["stage1 net"][0] == "ok"


def test_stage_2_starts_from_what_stage_1_will_make_or_has_made(look, snapshot):
    second = look.folder / "second.prototxt"
    first = look.folder / "solver.prototxt"
    second.write_text(first.read_text().replace('"stage1"', '"stage2"').replace("/stage1/", "/stage2/"))
    words = ["--solver", str(first), str(second)]
    lines = [*WELL[:4], NET, NET, NET]
    assert look(*words, lines=lines)["stage2 weights"] == ("ok", "those that stage1 will make")
    (look.folder / "stage1").mkdir()
    snapshot(look.folder, 1)
    (look.folder / "net_iter_1.caffemodel").rename(look.folder / "stage1" / "final.caffemodel")
    assert "fc; Caffe would abort" in look(*words, lines=lines, status=1)["stage2 weights"][1]
    lines = [*WELL[:4], *[{**NET, "params": {"fc": [[100]]}}] * 2, NET]
    assert "1 layers copied" in look(*words, lines=lines, status=1)["stage2 weights"][1]  # and predictions fail
    assert "nowhere" in look(*words, "--start2", "nowhere", lines=lines, status=1)["stage2 weights"][1]

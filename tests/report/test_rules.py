"""The report of crops by every rule and control; what its head says; when it is made anew; a section that cannot be shown."""
import re
import shutil
from dataclasses import asdict

import numpy as np
import pytest

from data_tools import steps
from data_tools.errors import DataError
from data_tools.files import write_image
from data_tools.isic import read_groundtruth, write_groundtruth
from pycam import crops, engine, examples, predictions, report, runinfo
from pycam.__main__ import main
from pycam.cam import merge, select
from pycam.errors import CamError
from pycam.region_rule import RegionRule, locate
from pycam.studies.controls import CONTROLS
from tests.unit.test_predict import FakeNet, SmallNet
from torchcaffe.errors import CaffeError

pytest.importorskip("matplotlib.figure")
DEPLOY = ("--net", "deploy.prototxt")
ALL_CLASSES = ("sum", "envelope", "contrast")


@pytest.fixture
def cut(finished_run, monkeypatch):
    """Return a function that cuts the crops of a run anew, with a stand-in for the network; `cut.folder` is the run's."""
    monkeypatch.setattr(crops, "open_net", lambda *files: FakeNet())
    monkeypatch.setattr(report, "open_net", lambda *files: FakeNet())
    monkeypatch.setattr(examples, "predict_with_maps", crops.predict_with_maps)
    monkeypatch.setattr(engine, "check_prototxt", lambda path: None)
    (finished_run / "stage1" / "final.caffemodel").write_bytes(b"weights")
    (finished_run / "net.prototxt").touch()
    shutil.rmtree(finished_run / "crops")

    def run(*options):
        words = {"--net": "net.prototxt", "--weights": "stage1", "--images": "clean/val", "--out": "crops/val"}
        files = [word for name, value in words.items() for word in (name, str(finished_run / value))]
        assert main(["crops", *files, "--force", *options]) == 0
    run.folder = finished_run
    return run


def write_report(folder, capsys):
    """Return the text of a run's report in which nothing is left out."""
    capsys.readouterr()
    assert main(["report", "--run", str(folder), "--net", str(folder / "net.prototxt"), "--out", str(folder / "r.html")]) == 0
    assert capsys.readouterr().err == ""
    return (folder / "r.html").read_text()


@pytest.mark.parametrize("rule", ["predicted", *ALL_CLASSES])
def test_a_report_follows_crops_of_every_class_rule(cut, rule, capsys):
    cut("--class", rule)
    text = write_report(cut.folder, capsys)
    assert text.count("<article class=item") == 9
    assert f"class_rule {rule}" in text
    rows = crops.read_boxes(cut.folder / "crops" / "val" / "boxes.csv")
    assert ({row.followed for row in rows.values()} == {rule}) == (rule in ALL_CLASSES)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_report_follows_crops_of_every_control(cut, control, capsys):
    cut("--control", control, "--threshold", "0.9", "--ground", "min")
    text = write_report(cut.folder, capsys)
    assert f"control {control}" in text
    reasons = re.findall(r" crop (\d+ x \d+) pixels(.*?) · Stage 1\+2", text)
    assert len(reasons) > 3
    assert {reason for _, reason in reasons} == {", the whole picture (whole)" if control == "whole" else f" ({control})"}
    assert ({size for size, _ in reasons} == {"60 x 40"}) == (control == "whole")


@pytest.mark.parametrize(("network", "cells", "options"), [
    (FakeNet, 10, {}), (FakeNet, 10, {"class_rule": "envelope"}), (FakeNet, 10, {"class_rule": "contrast", "views": "ten"}),
    (FakeNet, 10, {"class_rule": "sum", "placement": "stretch"}), (FakeNet, 10, {"views": "ten", "placement": "fade"}),
    (SmallNet, 3, {})])
def test_the_map_that_is_shown_is_the_one_that_was_followed(cut, monkeypatch, network, cells, options):
    rule, grid = RegionRule(**options), network.grid
    monkeypatch.setattr(crops, "open_net", lambda *files: network())
    cut(*(word for name, value in options.items() for word in (f"--{name.replace('_rule', '')}", value)))
    run = examples.Run(cut.folder, network)
    assert run.rule == rule
    for image_id in list(run.labels)[:3]:
        example = run.example(image_id)
        probs, cams = run.answers[image_id]
        assert cams.shape == (10 if rule.views == "ten" else 1, 3, cells, cells)
        found = locate(rule, cams, probs, example.image.shape[:2], grid)
        np.testing.assert_allclose(example.followed, found.cam, rtol=1e-5, atol=1e-4)
        assert example.row.followed == found.followed
        assert tuple(example.box) == found.region.box  # the pictures are small: not scaled
        np.testing.assert_allclose(example.cams, merge(cams, example.image.shape[:2], rule.placement, grid))
        assert select(rule.class_rule, cams, probs)[1] == found.followed


def test_crops_without_a_record_are_named(finished_run, capsys):
    (finished_run / "crops" / "val" / "crops.json").unlink()
    assert main(["report", "--run", str(finished_run), "--out", str(finished_run / "r.html"), *DEPLOY]) == 0
    error = capsys.readouterr().err
    assert error.count("crops/val: no record tells how the crops were cut; make them again with `python -m pycam crops`") == 4


# ---------------------------------------------------------------- sections
@pytest.mark.parametrize("error", [CamError, DataError, CaffeError])
def test_an_error_in_a_section_leaves_that_one_out_and_the_page_is_written(finished_run, monkeypatch, error, capsys):
    def fail(*_):
        raise error("no such device")

    monkeypatch.setattr(report, "open_net", fail)
    out = finished_run / "r.html"
    assert main(["report", "--run", str(finished_run), "--out", str(out), *DEPLOY]) == 0
    titles = ["Overview", "Maps", "Failures", "Gallery"]
    assert capsys.readouterr().err.splitlines() == [f"left out: {title}: no such device" for title in titles]
    assert out.read_text().count("Left out: no such device") == len(titles)
    assert "Stage 1+2" in out.read_text()


def test_the_papers_rows_stand_beside_its_own_pictures_only(finished_run, evil_id, let_be_official):
    truth = finished_run / "clean" / "val" / "groundtruth.csv"

    def page(prefix):
        ids = {image_id: f"{prefix}{n:07}" for n, image_id in enumerate(read_groundtruth(truth))}
        if prefix == "ISIC_":
            let_be_official(ids.values())
        labels = read_groundtruth(truth)
        other = finished_run / "truth.csv"
        write_groundtruth(other, {ids[image_id]: label for image_id, label in labels.items()})
        files = []
        for stage in ("1", "2"):
            probs = predictions.read(finished_run / "results" / f"stage{stage}_val.csv")
            files.append(f"--stage{stage}={finished_run}/stage{stage}.csv")
            predictions.write(finished_run / f"stage{stage}.csv", [(ids[image_id], row) for image_id, row in probs.items()])
        assert main(["table1", "--truth", str(other), "--out", str(finished_run / "results"), *files]) == 0
        assert main(["report", "--run", str(finished_run), "--out", str(finished_run / "r.html")]) == 0
        return (finished_run / "r.html").read_text().split("<h2>Table 1</h2>")[1].split("<h2>")[0]
    ours, theirs = page("MY_"), page("ISIC_")
    assert "paper, Stage 1+2" in theirs
    assert "the paper reports +0.037" in theirs
    assert "ISIC-2017, val" in theirs
    assert "paper" not in ours
    assert "own pictures, val" in ours


# ---------------------------------------------------------------- the head
def test_the_head_says_what_the_run_is_of(finished_run, monkeypatch):
    region = {**asdict(RegionRule(threshold=0.65)), "control": None}
    pictures = {f"ISIC_{n:07}": ("0" * 64, [0, 0, 0, 0]) for n in range(9)}
    facts = {"date": "2017-03-01 12:00", "seconds": 1800.0}
    for place, record in {
            "clean/val/.clean.json": steps.Record({"pictures": {"hair": "letter"}}, pictures, {}, True, facts),
            "crops/val/crops.json": steps.Record({"pictures": {"hair": "letter", "region": region}}, {}, {}, True, facts),
            "stage1/origin.json": steps.Record({"rounding": {"precision": "bf16"}}, {}, {}, True, {
                **facts, "net": "vgg_gap", "weights": "vgg16.caffemodel", "engine": "torchcaffe", "device": "CUDA 0"}),
            "stage2/origin.json": steps.Record({}, {}, {}, True, {**facts, "engine": "BVLC Caffe", "date": "2017-03-02 09:00"}),
            }.items():
        steps.write_record(finished_run / place, record)
    monkeypatch.setattr(runinfo, "commit", lambda: "skin-lesion-cam 9, commit abc-dirty")
    head = dict(runinfo.head(finished_run, "val"))
    assert head.pop("region rule") == ("class_rule predicted, rule threshold, ground none, threshold 0.65, margin 0.1, placement "
                                       "fade, views centre")
    assert head == {"data": "ISIC pictures, val, 9 pictures", "network": "vgg_gap", "starting weights": "vgg16.caffemodel",
                    "engine": "torchcaffe, BVLC Caffe", "device": "CUDA 0", "precision": "bf16", "hair removal": "letter",
                    "crops": "9, 1 of them whole pictures, median side 0.82 of the picture",
                    "made": "2017-03-02 09:00, 2.0 h of work", "code": "skin-lesion-cam 9, commit abc-dirty"}
    assert main(["report", "--run", str(finished_run), "--out", str(finished_run / "r.html")]) == 0
    lead = (finished_run / "r.html").read_text().split("<nav>")[0]
    assert all(word in lead for word in (*head, *head.values()))


@pytest.mark.parametrize(("prefix", "data"), [("SYN_", "made-up pictures"), ("MY_", "own pictures")])
def test_the_head_names_the_data_by_their_ids_and_the_page_begins_with_what_is_made_up(finished_run, prefix, data):
    pictures = {f"{prefix}{n}": ("0" * 64, [0, 0, 0, 0]) for n in range(9)}
    steps.write_record(finished_run / "clean" / "val" / ".clean.json", steps.Record({}, pictures, {}, True))
    assert dict(runinfo.head(finished_run, "val"))["data"] == f"{data}, val, 9 pictures"
    assert main(["report", "--run", str(finished_run), "--out", str(finished_run / "r.html")]) == 0
    lead = (finished_run / "r.html").read_text().split("<nav>")[0]
    assert ("All pictures of this page are made up." in lead) == (prefix == "SYN_")


# ---------------------------------------------------------------- up to date
def test_a_report_is_made_anew_when_what_it_shows_changed(finished_run, monkeypatch, capsys):
    def write_page(material, out, tables):
        """Write less: what is written is not looked at here."""
        out.parent.mkdir(exist_ok=True)
        out.write_text(str(material.folder))
        return [out]

    monkeypatch.setattr(report, "write_page", write_page)
    words = ["report", "--run", str(finished_run), "--out", str(finished_run / "out" / "r.html"), *DEPLOY]
    (finished_run / "stage1" / "final.caffemodel").write_bytes(b"weights")

    def done():
        capsys.readouterr()
        assert main(words) == 0
        told = capsys.readouterr().out
        assert told in ("", "report: up to date\n")
        return told == ""
    assert done()
    assert not done()
    image = np.zeros((40, 60, 3), np.uint8)
    for change in (lambda: write_image(finished_run / "clean" / "val" / "ISIC_0000001.jpg", image),
                   lambda: write_image(finished_run / "crops" / "val" / "ISIC_0000001.jpg", image),
                   lambda: (finished_run / "stage2" / "train.log").write_text("I0101 x] Iteration 0, loss = 7\n"),
                   lambda: (finished_run / "stage1" / "final.caffemodel").write_bytes(b"others."),
                   lambda: (finished_run / "results" / "stage1_val.csv").write_text(
                       (finished_run / "results" / "stage2_val.csv").read_text()),
                   lambda: (finished_run / "results" / "metrics.json").unlink(),
                   lambda: (finished_run / "out" / "r.html").write_text("")):
        change()
        assert done()
        assert not done()

import html.parser
import json
import re

import numpy as np
import pytest

from pycam import html_page, report, runinfo
from pycam.__main__ import main
from pycam.errors import CamError
from pycam.examples import median_melanoma, most_wrong, scale_box, shrink, spread
from pycam.regions import Box

pytest.importorskip("matplotlib.figure")


def test_pictures_are_spread_over_the_ranks_of_each_class():
    labels = {f"{c}{n}": c for c in range(3) for n in range(10)}
    probs = {i: [0.0, 0.0, 0.0] for i in labels}
    for i, label in labels.items():
        probs[i][label] = int(i[1]) / 10
    assert spread(labels, probs, 4) == [f"{c}{n}" for c in range(3) for n in (9, 6, 3, 0)]
    assert spread({"a": 1}, {"a": [0, 1, 0]}, 4) == ["a"]


def test_most_wrong_are_the_surest_mistakes():
    labels = {"right": 0, "sure": 0, "surer": 1, "unsure": 2}
    probs = {"right": [1, 0, 0], "sure": [.2, .8, 0], "surer": [.9, .1, 0], "unsure": [.34, .33, .33]}
    assert most_wrong(labels, probs) == ["surer", "sure", "unsure"]


def test_a_box_follows_its_picture_when_that_is_shrunk():
    image = np.zeros((720, 1440, 3), np.uint8)
    assert shrink(image).shape == (180, 360, 3)
    assert scale_box(Box(100, 200, 300, 400), 0.25, 0.25) == Box(25, 50, 75, 100)
    assert shrink(image[:100, :100]).shape == (100, 100, 3)


def test_overlay_leaves_the_picture_alone_where_there_is_no_evidence():
    from pycam.drawing import overlay

    image = np.full((4, 4, 3), 100, np.uint8)
    cam = np.full((4, 4), -1.0)
    np.testing.assert_array_equal(overlay(image, cam, 2.0), image)
    np.testing.assert_array_equal(overlay(image, cam, -1.0), image)
    cam[1, 1] = 2.0
    mixed = overlay(image, cam, 2.0)
    assert (mixed[1, 1] != 100).any()
    assert mixed[1, 1, 2] > mixed[1, 1, 0]  # the top of the scale is red


EVIL = "<script>alert(1)</script>&\"'"


def test_everything_on_the_page_is_escaped():
    parts = [html_page.paragraph(EVIL, EVIL), html_page.table([EVIL], [[EVIL]], style=EVIL), html_page.details(EVIL, ""),
             html_page.numbers([(EVIL, EVIL, EVIL)]), html_page.head([(EVIL, EVIL)]), html_page.drawing(b"<svg ></svg>", EVIL),
             html_page.card(EVIL, EVIL, [html_page.picture(b"x", "png", EVIL, value=EVIL)])]
    whole = html_page.document(EVIL, {EVIL: "".join(parts)}, html_page.paragraph(EVIL))
    assert whole.count("<script") == 1  # the page's own
    assert "alert(1)" in whole
    assert "alert(1)</script" not in whole


def test_the_head_is_a_list_of_names_and_values_in_their_order():
    text = html_page.head([("data", "ISIC-2017"), ("device", ""), ("engine", "torch")])
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text) == [("data", "ISIC-2017"), ("engine", "torch")]
    assert Outline(text).open == []


class Outline(html.parser.HTMLParser):
    """Check that tags close in the order in which they opened, and collect addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for key, value in attributes if key in ("src", "href")]
        if tag not in ("meta", "img", "link", "input", "path", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass  # <path/> and others of a drawing

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def make(run, *more):
    assert main(["report", "--run", str(run), "--out", str(run / "out" / "r.html"), *more]) == 0
    return (run / "out" / "r.html").read_text()


def test_the_page_is_whole_and_needs_no_other_file(finished_run, capsys):
    text = make(finished_run, "--net", "deploy.prototxt")
    outline = Outline(text)
    assert outline.open == []
    assert outline.addresses
    assert all(address.startswith(("data:", "#")) for address in outline.addresses)
    assert sorted(path.name for path in (finished_run / "out").iterdir()) == [".r.html.json", "r.html"]
    assert "left out" not in capsys.readouterr().err
    assert sorted(p.name for p in (finished_run / "results" / "figures").iterdir()) == sorted(
        f"{name}.{suffix}" for name in report.FIGURES for suffix in ("pdf", "png"))
    metrics = json.loads((finished_run / "results" / "metrics.json").read_text())
    assert f"{metrics['scores']['Stage1,2']['mean']['auc']:.3f}" in text
    assert text.count("<article class=item") == 9
    assert "Stage 1, fine-tuned" in text
    assert "base_lr 0.001" in text
    assert "D19 A network whose pretrained weights can be had" in text


def test_the_same_run_gives_the_same_page(finished_run):
    first = make(finished_run, "--net", "deploy.prototxt")
    (finished_run / "out" / ".r.html.json").unlink()  # so that it is made anew
    (finished_run / "out" / "r.html").unlink()
    assert make(finished_run, "--net", "deploy.prototxt") == first


@pytest.mark.parametrize(("removed", "titles", "words"), [
    ("results/metrics.json", ["Table 1"], "pycam table1"),
    ("results/stage2_val.csv", ["Decisions", "ROC curves", "Precision and recall", "Calibration", "Overview", "Maps",
                                "Failures", "Gallery"], "stage2_val.csv"),
    ("crops/val/boxes.csv", ["Crops", "Overview", "Maps", "Failures", "Gallery"], "pycam crops"),
    ("crops/val/ISIC_0000007.jpg", ["Overview", "Maps", "Failures", "Gallery"], "ISIC_0000007"),
])
def test_what_is_missing_is_left_out_and_named(finished_run, capsys, removed, titles, words):
    (finished_run / removed).unlink()
    text = make(finished_run, "--net", "deploy.prototxt")
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert [message.split(": ")[1] for message in messages] == titles
    assert all(words in message for message in messages)
    assert text.count("Left out: ") == len(titles)


def test_the_whole_picture_is_known_by_the_box(finished_run):
    text = make(finished_run, "--net", "deploy.prototxt")
    found = dict(re.findall(r"<article class=item data-id=\"(.*?)\" .*?data-whole=\"(.)\"", text))
    assert len(found) == 9
    assert [image_id for image_id, whole in found.items() if whole == "1"] == ["ISIC_0000000"]  # whose reason is "region"


@pytest.mark.parametrize(("box", "whole"), [((0, 0, 40, 60), True), ((0, 0, 60, 40), False), ((0, 0, 40, 59), False),
                                            ((1, 0, 40, 60), False), ((0, 1, 40, 60), False), ((0, 0, 39, 60), False)])
def test_a_box_is_whole_when_it_reaches_every_edge(box, whole):
    assert Box(*box).covers((40, 60)) == whole


def test_without_a_network_what_shows_maps_is_left_out(finished_run, capsys):
    make(finished_run)
    assert capsys.readouterr().err.count("the maps need the network: give --net") == 4


def test_a_run_from_scratch_is_a_curve_of_its_own(finished_run):
    (finished_run / "stage1_scratch").mkdir()
    (finished_run / "stage1_scratch" / "train.log").write_text("I0101 x] Iteration 0, loss = 3\n")
    assert "Stage 1, from scratch" in make(finished_run)


def test_a_damaged_metrics_file_is_named(finished_run, capsys):
    (finished_run / "results" / "metrics.json").write_text("{}")
    make(finished_run)
    assert "metrics.json" in capsys.readouterr().err


def test_nothing_to_report_is_an_error(tmp_path, capsys):
    assert main(["report", "--run", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 1
    assert "nothing to report yet" in capsys.readouterr().err
    assert main(["report", "--run", str(tmp_path / "none"), "--out", str(tmp_path / "r.html")]) == 1
    assert not (tmp_path / "r.html").exists()


def test_the_way_of_a_picture_is_shown_by_the_melanoma_of_middle_rank():
    labels = {"a": 0, "b": 0, "c": 0, "d": 1}
    probs = {"a": [.9, .1, 0], "b": [.2, .8, 0], "c": [.5, .5, 0], "d": [.6, .4, 0]}
    assert median_melanoma(labels, probs) == "c"
    with pytest.raises(CamError, match="no melanoma"):
        median_melanoma({"d": 1}, probs)


def test_every_decision_of_the_ledger_is_read():
    rows = runinfo.decisions()
    ledger = runinfo.DECISIONS.read_text(encoding="utf-8")
    assert [row[0][:3] for row in rows] == re.findall(r"^## (D\d+)", ledger, re.MULTILINE)
    assert all(choice and switch for _, choice, switch in rows)

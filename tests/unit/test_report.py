import html.parser
import json
import re

import numpy as np
import pytest

from data_tools.files import write_image
from data_tools.isic import write_groundtruth
from pycam import gallery, page, predictions, report
from pycam.__main__ import main
from pycam.gallery import most_wrong, scale_box, shrink, spread
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
    from pycam.figures import overlay

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
    whole = page.document(EVIL, [page.section(EVIL, page.paragraph(EVIL)), page.table([EVIL], [[EVIL]]),
                                 page.details(EVIL, ""),
                                 page.card(EVIL, EVIL, [page.picture(b"x", "png", EVIL, value=EVIL)])])
    assert "<script" not in whole
    assert "alert(1)&lt;/script&gt;" in whole


class Outline(html.parser.HTMLParser):
    """Check that tags close in the order in which they opened, and collect addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for key, value in attributes if key in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of nine pictures, and a network that is asked for its maps only."""
    random = np.random.RandomState(0)
    labels = {f"ISIC_{n:07}": n % 3 for n in range(9)}
    for name in ("clean", "crops"):
        (tmp_path / name / "val").mkdir(parents=True)
        for i in labels:
            write_image(tmp_path / name / "val" / f"{i}.jpg", random.randint(0, 255, (40, 60, 3), np.uint8))
        write_groundtruth(tmp_path / name / "val" / "groundtruth.csv", labels)
    lines = [f"{i},0,0,40,40,melanoma,{'region' if n else 'flat'}" for n, i in enumerate(labels)]
    (tmp_path / "crops" / "val" / "boxes.csv").write_text("\n".join(["image_id,y0,x0,y1,x1,class,reason", *lines]))
    (tmp_path / "results").mkdir()
    for stage in ("1", "2"):
        predictions.write(tmp_path / "results" / f"stage{stage}_val.csv", zip(labels, random.dirichlet([1, 1, 1], 9)))
        (tmp_path / f"stage{stage}").mkdir()
        log = "I0101 x] Iteration 0, loss = 1\nI0101 x] Iteration 5, loss = 2\n"
        (tmp_path / f"stage{stage}" / "train.log").write_text(log)
    main(["table1", "--truth", str(tmp_path / "clean/val/groundtruth.csv"), "--out", str(tmp_path / "results"),
          *[f"--stage{s}={tmp_path}/results/stage{s}_val.csv" for s in "12"]])
    monkeypatch.setattr(report, "open_net", lambda args: None)
    monkeypatch.setattr(gallery, "predict_with_maps", lambda net, images: (None, random.rand(len(images), 3, 10, 10)))
    return tmp_path


def make(run, *more):
    assert main(["report", "--run", str(run), "--out", str(run / "out" / "r.html"), *more]) == 0
    return (run / "out" / "r.html").read_text()


def test_the_page_is_whole_and_needs_no_other_file(run, capsys):
    text = make(run, "--net", "deploy.prototxt")
    outline = Outline(text)
    assert outline.open == ["html"] or outline.open == []
    assert outline.addresses
    assert all(address.startswith("data:image/") for address in outline.addresses)
    assert "left out" not in capsys.readouterr().err
    assert sorted(p.name for p in (run / "results" / "figures").iterdir()) == [
        "failures.png", "loss.png", "maps.png", "roc.png"]
    metrics = json.loads((run / "results" / "metrics.json").read_text())
    assert f"{metrics['scores']['Stage1,2']['mean']['auc']:.3f}" in text
    assert "0.858" in text
    assert len(re.findall("<article>", text)) == 9 + len(re.findall("ISIC_", text[text.index("Where it fails"):]))


@pytest.mark.parametrize(("removed", "title", "words"), [
    ("results/metrics.json", "Table 1", "pycam table1"), ("results/stage2_val.csv", "ROC curves", "pycam predict"),
    ("crops/val/boxes.csv", "What the network looks at", "pycam crops"),
    ("crops/val/ISIC_0000004.jpg", "What the network looks at", "ISIC_0000004"),
])
def test_what_is_missing_is_left_out_and_named(run, capsys, removed, title, words):
    (run / removed).unlink()
    text = make(run, "--net", "deploy.prototxt")
    message = next(line for line in capsys.readouterr().err.splitlines() if f"left out: {title}: " in line)
    assert words in message
    assert words in text
    assert "Left out: " in text


def test_without_a_network_only_the_maps_are_left_out(run, capsys):
    make(run)
    assert capsys.readouterr().err.count("left out") == 2


def test_a_damaged_metrics_file_is_named(run, capsys):
    (run / "results" / "metrics.json").write_text("{}")
    make(run)
    assert "metrics.json" in capsys.readouterr().err


def test_nothing_to_report_is_an_error(tmp_path, capsys):
    assert main(["report", "--run", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 1
    assert "nothing to report yet" in capsys.readouterr().err
    assert main(["report", "--run", str(tmp_path / "none"), "--out", str(tmp_path / "r.html")]) == 1
    assert not (tmp_path / "r.html").exists()

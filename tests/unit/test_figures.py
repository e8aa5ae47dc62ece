"""One colour a stage, wherever it is drawn."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.isic import CLASSES
from pycam import drawing, html_page, predictions, trainlog
from pycam.__main__ import main
from pycam.cells import lay
from pycam.crops import Row
from pycam.examples import Example
from pycam.gallery import card
from pycam.regions import Box

figures = pytest.importorskip("pycam.figures")
ORANGE, BLUE = drawing.STAGES
ROOT = Path(__file__).resolve().parents[2]
IDS = [f"ISIC_{number:07}" for number in range(9)]


def lines(axis):
    """Return the colours of an axis' lines by the word of their label that tells the stage."""
    return {line.get_label().partition(":")[0]: line.get_color() for line in axis.lines if line.get_label()[0] != "_"}


@pytest.mark.parametrize(("names", "expected"), [
    (["stage 1", "stage 2"], [ORANGE, BLUE]),
    (["build/results/stage2_val.csv", "build/results/stage1_val.csv"], [BLUE, ORANGE]),
    (["stage2_val.csv"], [BLUE]),
    (["stage1/train.log", "stage1_scratch/train.log", "stage2/train.log"], [ORANGE, figures.OTHERS[0], BLUE]),
    (["Stage 1+2", "Stage 1, from scratch"], [BLUE, figures.OTHERS[0]]),
    (["Stage 1", "Stage 1+2"], [ORANGE, BLUE]),
    (["stage 1, fine-tuned", "stage 1, from scratch"], [ORANGE, figures.OTHERS[0]]),
    (["/scratch/stage2_runs/mine/stage1_val.csv"], [ORANGE]),
    (["a/stage1/train.log", "b/stage1/train.log"], [ORANGE, figures.OTHERS[0]]),
    (["mine.csv", "stage2", "stage12"], [figures.OTHERS[0], BLUE, figures.OTHERS[1]]),
])
def test_a_name_that_tells_its_stage_has_the_stages_colour(names, expected):
    assert figures.colours(names) == dict(zip(names, expected))


def test_many_curves_have_colours_too():
    assert set(figures.colours(map(str, range(20))).values()) == set(figures.OTHERS)


@pytest.fixture
def files(tmp_path):
    """Return the truth and the predictions of both stages."""
    random = np.random.RandomState(0)
    rows = [f"{i},{int(n % 3 == 0)},{int(n % 3 == 1)}" for n, i in enumerate(IDS)]
    (tmp_path / "truth.csv").write_text("\n".join(["image_id,melanoma,seborrheic_keratosis", *rows]))
    paths = [tmp_path / f"stage{stage}_val.csv" for stage in (1, 2)]
    for path in paths:
        predictions.write(path, zip(IDS, random.dirichlet([1, 1, 1], len(IDS))))
    return tmp_path / "truth.csv", *paths


@pytest.mark.parametrize("order", [[2, 1], [1, 2], [2]])
def test_score_draws_each_stage_in_its_colour(files, monkeypatch, order):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    words = [str(files[stage]) for stage in order]
    assert main(["score", words[0], *(["--against", *words[1:]] if words[1:] else []), "--truth", str(files[0]),
                 "--roc", "roc.png"]) == 0
    for axis in drawn[0].axes:
        assert lines(axis) == {files[stage].name: drawing.STAGES[stage - 1] for stage in order}
        assert len(axis.collections) == len(order)  # the bands


NAMES = ["a$x_{$.csv", "$", "a$b$c", "\\$x^{$", "_x.csv", "__", "\u65e5\u672c.csv", "\udcff.csv", "a\nb.csv",
         "%s{}&<b>.csv", "$$$"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_drawn_letter_by_letter(tmp_path, name):
    labels, probs = np.array([0, 1, 2, 0, 1, 2]), np.random.RandomState(0).rand(6, 2)
    for figure, count in ((figures.roc_curves(labels, {name: probs, "other": probs}), 2), (figures.loss_curves({name: (
            {1: 2.0, 2: 1.0}, {}), "other": ({1: 2.0}, {})}), 2)):
        figures.save(figure, tmp_path / "drawn.svg")
        legend = figure.axes[0].get_legend()
        assert len(legend.get_texts()) == count
        shown = name.replace("\udcff", "?").split("\n")[0].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert shown in (tmp_path / "drawn.svg").read_text()


def test_a_name_of_any_bytes_is_told(files, tmp_path):
    """A name that is no UTF-8 goes through the whole command: the table on stdout, the figure."""
    other = tmp_path / "\udcff$_{.csv"
    other.write_bytes(files[1].read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    words = ["score", files[2], "--truth", files[0], "--against", other, "--roc", tmp_path / "a.png"]
    done = subprocess.run([sys.executable, "-m", "pycam", *words], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"\\udcff$_{.csv" in done.stdout


def test_loss_curves_of_a_run_without_stage_2_leave_its_colour_free():
    log = trainlog.TrainLog({0: 1.0, 5: 2.0}, {"loss": {0: 1.0}, "accuracy": {0: 0.5}})
    for axis in figures.loss_curves({"stage 1": log, "stage 1, from scratch": log}).axes:
        assert lines(axis) == {"stage 1": ORANGE, "stage 1, from scratch": figures.OTHERS[0]}


@pytest.fixture
def example():
    image = np.zeros((40, 60, 3), np.uint8)
    row = Row("a", 0, 0, 20, 20, CLASSES[1], "region", 40, 60)
    cams, box = np.ones((3, 40, 60)), Box(0, 0, 20, 20)
    return Example("a", 0, [.5, .3, .2], [.1, .2, .7], image, cams, cams[0], row, box, image, lay((10, 10), (40, 60)))


def test_the_bars_of_a_picture_are_the_stages(example):
    from matplotlib.colors import to_hex

    from pycam.sheets import overview

    axes = overview(example).axes
    assert [{to_hex(bar.get_facecolor()) for bar in axis.patches} for axis in axes] == [set(), {ORANGE}, set(), set(), {BLUE}]


def test_the_bars_of_a_card_and_of_the_page_are_the_stages(example):
    for hexadecimal, bgr in zip(drawing.STAGES, drawing.BARS):
        assert "#" + "".join(f"{part:02x}" for part in bgr[::-1]) == hexadecimal
    assert "--stage1: 217 113 60; --stage2: 60 143 217;" in html_page.document("t", {}, "")
    assert [part.partition(">")[0] for part in card(example, "x", (1, 1)).split("<tr class=")[1:]] == ["stage1", "stage2"]


def test_no_two_modules_import_each_other():
    from tests.unit.test_imports import FILES, imports

    wanted = {f"pycam.{path.stem}": imports(path) for path in FILES["pycam"]}
    pairs = [(one, other) for one in wanted for other in wanted
             if one < other and other in names(wanted[one]) and one in names(wanted[other])]
    assert pairs == []


def names(imported):
    """Return the modules of names such as pycam.figures.save."""
    return {".".join(name.split(".")[:2]) for name in imported}


def test_a_figure_that_places_its_axes_keeps_them_when_it_is_saved_twice(example):
    from pycam.sheets import sheet

    drawn = sheet([example])
    before = [axis.get_position().bounds for axis in drawn.axes]
    for suffix in (".png", ".pdf"):
        figures.render(drawn, suffix)
    assert [axis.get_position().bounds for axis in drawn.axes] == before

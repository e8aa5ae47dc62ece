"""Sections that need more than a run's own files: shown where these are there, one line where not; the page follows them."""
import re
import shutil

import pytest

from data_tools.isic import read_groundtruth
from pycam import clinical
from pycam.__main__ import main

pytest.importorskip("matplotlib.figure")


def sections(folder, capsys, *more):
    """Return the sections of a run's page by their titles, and whether it was made anew."""
    capsys.readouterr()
    assert main(["report", "--run", str(folder), "--out", str(folder / "r.html"), *more]) == 0
    parts = re.split(r"<h2>(.*?)</h2>", (folder / "r.html").read_text())
    return dict(zip(parts[1::2], parts[2::2])), "up to date" not in capsys.readouterr().out


def test_what_is_not_there_is_told_in_one_line_and_shown_once_it_is(finished_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(clinical, "FEWEST", 1)
    isic, results = tmp_path / "isic", finished_run / "results"
    isic.mkdir()
    labels = read_groundtruth(finished_run / "clean" / "val" / "groundtruth.csv")
    page, _ = sections(finished_run, capsys, "--isic", str(isic))
    for title in ("Control crops", "Age and sex", "Lesions"):
        assert page[title].count("Not shown: ") == 1
    assert "on these same 9 val pictures, so both look better than they are" in page["Decisions"]
    assert not sections(finished_run, capsys, "--isic", str(isic))[1]

    def control():
        other = finished_run.with_name(f"{finished_run.name}-whole") / "results"
        other.mkdir(parents=True)
        shutil.copy(results / "stage1_val.csv", other / "stage2_val.csv")

    def people():
        rows = [f"{image_id},{30 + 40 * (n % 2)},{'male' if n < 4 else 'female'}" for n, image_id in enumerate(labels)]
        (isic / "ISIC-2017_Validation_Data_metadata.csv").write_text("\n".join(["image_id,age_approximate,sex", *rows]))

    def lesions():
        (finished_run / "localization").mkdir()
        (finished_run / "localization" / "localization.csv").write_text("rule,class,n,box_iou\nA,nevus,1,0.1\nA,all,7,0.4321\n")

    def test_split():
        shutil.copy(results / "metrics.json", results / "metrics_test.json")

    def training_pictures():
        shutil.copytree(finished_run / "clean" / "val", finished_run / "clean" / "train")
        for stage in ("stage1", "stage2"):
            shutil.copy(results / f"{stage}_val.csv", results / f"{stage}_train.csv")

    for change, title, shown in ((control, "Control crops", "control: whole"), (people, "Age and sex", "age 60 and over"),
                                 (lesions, "Lesions", "0.432"), (test_split, "Table 1", "Stage 1+2, test, 9 pictures"),
                                 (training_pictures, "Decisions", "on the 9 train pictures.")):
        assert shown not in page[title]
        change()
        page, anew = sections(finished_run, capsys, "--isic", str(isic))
        assert anew, title
        assert shown in page[title]
    assert "0.1" not in re.findall(r"<td>(.*?)</td>", page["Lesions"])


def test_test_pictures_choose_no_threshold(finished_run, capsys):
    for place in ("clean", "crops"):
        shutil.copytree(finished_run / place / "val", finished_run / place / "test")
    for stage in ("stage1", "stage2"):
        shutil.move(finished_run / "results" / f"{stage}_val.csv", finished_run / "results" / f"{stage}_test.csv")
    page, _ = sections(finished_run, capsys, "--split", "test")
    assert "test pictures choose nothing; predict val too" in page["Decisions"]


def test_both_stages_have_failures_and_names_have_one_form(finished_run, capsys):
    page, _ = sections(finished_run, capsys, "--net", "deploy.prototxt")
    assert re.findall(r"<h3 class=part>(.*?)</h3>", page["Failures"]) == ["Stage 1", "Stage 1+2"]
    body = " ".join(text for title, text in page.items() if title != "This run")
    told = re.sub(r"<script>.*?</script>|<[^>]+>", " ", body, flags=re.DOTALL)
    assert not re.search(r"\bstage ?[12]\b(?!_)|Stage1|Stage 2", told)


def test_a_gallery_card_names_its_map_and_has_signs(finished_run, capsys):
    page, _ = sections(finished_run, capsys, "--net", "deploy.prototxt")
    cards = page["Gallery"].split("<article ")[1:]
    assert all("map of melanoma" in card for card in cards)
    for card in cards:
        outcome = re.search(r"data-outcome=\"(\w+) (\w+)\"", card).groups()
        assert tuple(re.findall(r"<span role=img aria-label=(\w+)>", card)) == outcome

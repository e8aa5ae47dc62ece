"""A finished run whose names try to be HTML, for the tests of the report."""
from dataclasses import asdict

import numpy as np
import pytest

from data_tools import isic, steps
from data_tools.files import write_image
from data_tools.isic import write_groundtruth

EVIL_ID = "ISIC_<img src=x onerror=alert(1)>&amp;"  # may be a file's name


@pytest.fixture(scope="session")
def evil_id():
    """Return an image id of the run that would be HTML if nobody escaped it."""
    return EVIL_ID


def write_run(folder, monkeypatch):
    """Write a finished run of nine pictures; its network is asked for its maps only, figures are coarse."""
    from pycam import crops, examples, figures, predictions, report, report_pictures
    from pycam.__main__ import main
    from pycam.region_rule import RegionRule
    from tests.unit.test_predict import FakeNet

    random = np.random.RandomState(0)
    labels = {(f"ISIC_{n:07}" if n != 4 else EVIL_ID): n % 3 for n in range(9)}
    for name in ("clean", "crops"):
        (folder / name / "val").mkdir(parents=True)
        for i in labels:
            write_image(folder / name / "val" / f"{i}.jpg", random.randint(0, 255, (40, 60, 3), np.uint8))
        write_groundtruth(folder / name / "val" / "groundtruth.csv", labels)
    lines = [f"{i},0,0,40,{40 if n else 60},melanoma,{'region' if n != 1 else 'centre'},40,60" for n, i in enumerate(labels)]
    (folder / "crops" / "val" / "boxes.csv").write_text("\n".join([",".join(crops.COLUMNS), *lines]))
    region = {**asdict(RegionRule()), "control": None}
    steps.write_record(folder / "crops" / "val" / "crops.json",
                       steps.Record({"pictures": {"hair": "along", "region": region}, "format": "jpg"}, {}, {}, True))
    (folder / "results").mkdir()
    for stage in ("1", "2"):
        predictions.write(folder / "results" / f"stage{stage}_val.csv", zip(labels, random.dirichlet([1, 1, 1], 9)))
        (folder / f"stage{stage}").mkdir()
        log = "I0101 x] Finetuning from w\nI0101 x] Iteration 0, loss = 1\nI0101 x] Iteration 5, loss = 2\n"
        (folder / f"stage{stage}" / "train.log").write_text(log)
        trained = steps.Record({"base_lr": 0.001, "max_iter": 5}, {}, {}, True)
        steps.write_record(folder / f"stage{stage}" / "origin.json", trained)
        (folder / f"stage{stage}" / "solver.prototxt").write_text("changed {since")  # what was run stands in the record
    monkeypatch.setattr(isic, "check_id", lambda *_: None)  # which would refuse the name before the page has to escape it
    main(["table1", "--truth", str(folder / "clean/val/groundtruth.csv"), "--out", str(folder / "results"),
          *[f"--stage{s}={folder}/results/stage{s}_val.csv" for s in "12"]])
    monkeypatch.setattr(report, "open_net", lambda *files: FakeNet())
    monkeypatch.setattr(examples, "predict_with_maps", random_maps)
    monkeypatch.setattr(figures, "DPI", 30)
    monkeypatch.setattr(report_pictures, "SHOWN", 1)
    monkeypatch.setattr(report_pictures, "FAILURES", 1)
    return folder


def random_maps(net, pictures):
    """Stand in for the network: probabilities and maps that are the same for the same pictures."""
    random = np.random.RandomState(int(np.sum(pictures[0][0])) % 1000)
    return random.dirichlet([1, 1, 1], len(pictures)), random.rand(len(pictures), len(pictures[0]), 3, 10, 10)


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """Return the folder of a finished run, in which every test may do as it likes."""
    return write_run(tmp_path / "<b>run", monkeypatch)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory):
    """Return the folder of a finished run that the tests of a module only look at."""
    with pytest.MonkeyPatch.context() as patch:
        yield write_run(tmp_path_factory.mktemp("shared") / "<b>run", patch)

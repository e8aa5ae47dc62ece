"""A finished run whose names try to be HTML, for the tests of the report."""
import numpy as np
import pytest

from data_tools.files import write_image
from data_tools.isic import write_groundtruth

EVIL_ID = "ISIC_<img src=x onerror=alert(1)>&amp;"  # may be a file's name


@pytest.fixture
def evil_id():
    """Return an image id of the run that would be HTML if nobody escaped it."""
    return EVIL_ID


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """A finished run of nine pictures, and a network that is asked for its maps only; names try to be HTML."""
    from pycam import examples, predictions, report
    from pycam.__main__ import main

    folder = tmp_path / "<b>run"
    random = np.random.RandomState(0)
    labels = {(f"ISIC_{n:07}" if n != 4 else EVIL_ID): n % 3 for n in range(9)}
    for name in ("clean", "crops"):
        (folder / name / "val").mkdir(parents=True)
        for i in labels:
            write_image(folder / name / "val" / f"{i}.jpg", random.randint(0, 255, (40, 60, 3), np.uint8))
        write_groundtruth(folder / name / "val" / "groundtruth.csv", labels)
    lines = [f"{i},0,0,40,40,melanoma,{'region' if n else 'flat'}" for n, i in enumerate(labels)]
    (folder / "crops" / "val" / "boxes.csv").write_text("\n".join(["image_id,y0,x0,y1,x1,class,reason", *lines]))
    (folder / "results").mkdir()
    for stage in ("1", "2"):
        predictions.write(folder / "results" / f"stage{stage}_val.csv", zip(labels, random.dirichlet([1, 1, 1], 9)))
        (folder / f"stage{stage}").mkdir()
        log = "I0101 x] Finetuning from w\nI0101 x] Iteration 0, loss = 1\nI0101 x] Iteration 5, loss = 2\n"
        (folder / f"stage{stage}" / "train.log").write_text(log)
        (folder / f"stage{stage}" / "solver.prototxt").write_text("net: \"n\"\nbase_lr: 0.001\nmax_iter: 5\n")
    main(["table1", "--truth", str(folder / "clean/val/groundtruth.csv"), "--out", str(folder / "results"),
          *[f"--stage{s}={folder}/results/stage{s}_val.csv" for s in "12"]])
    monkeypatch.setattr(report, "open_net", lambda args: None)
    monkeypatch.setattr(examples, "predict_with_maps", lambda net, images: (None, random.rand(len(images), 3, 10, 10)))
    return folder

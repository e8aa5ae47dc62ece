"""Prediction and crops with a stand-in for the network whose answers can be worked out by hand."""
import csv
import os
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from data_tools import steps
from data_tools.errors import DataError
from data_tools.files import read_image, write_image
from data_tools.isic import load_samples, write_groundtruth
from pycam import crops, engine, forward, predictions
from pycam.__main__ import main
from pycam.cam import Grid
from pycam.errors import CamError
from pycam.preprocess import MEAN_BGR, views
from pycam.region_rule import RegionRule, locate
from pycam.studies.controls import CONTROLS


class FakeBlob:
    shape = property(lambda self: self.data.shape)

    def __init__(self, *shape):
        self.reshape(*shape)

    def reshape(self, *shape):
        self.data = np.zeros(shape, np.float32)


class FakeNet(forward.Network):
    """Feature c of a cell is the mean of colour c in its 16-pixel block; class c sees colour c. It stands for its `net` too."""

    net = property(lambda self: self)

    def __init__(self):
        self.blobs = {"data": FakeBlob(1, 3, 224, 224), "CAM_conv": FakeBlob(1, 3, 10, 10), "CAM_fc3": FakeBlob(1, 3),
                      "prob": FakeBlob(1, 3)}
        self.params = {"CAM_fc3": [FakeBlob(3, 3), FakeBlob(3)]}
        self.batches = []
        self.params["CAM_fc3"][0].data[...] = np.eye(3)

    def reshape(self):
        count, *_, side = self.blobs["data"].data.shape
        self.batches.append(count)
        self.blobs["CAM_conv"].reshape(count, 3, side // 16 - 4, side // 16 - 4)
        self.blobs["prob"].reshape(count, 3)

    def forward(self, blobs=()):
        pixels = self.blobs["data"].data + np.array(MEAN_BGR, np.float32)[:, None, None]
        blocks = pixels.reshape(-1, 3, side := pixels.shape[-1] // 16, 16, side, 16).mean(axis=(3, 5))[..., 2:-2, 2:-2]
        self.blobs["CAM_conv"].data[...] = blocks
        means = blocks.mean(axis=(2, 3)) + 1e-3
        self.blobs["prob"].data[...] = means / means.sum(axis=1, keepdims=True)


class SmallNet(FakeNet):
    """The same with inputs of 112 pixels, cut out of pictures of 128 (PATCH=112)."""

    grid = Grid(39.5, 16, 112, 128)


@pytest.fixture
def net(monkeypatch):
    fake = FakeNet()
    monkeypatch.setattr(forward, "open_net", lambda *files: fake)
    monkeypatch.setattr(crops, "open_net", lambda *files: fake)
    monkeypatch.setattr(engine, "check_prototxt", lambda path: None)
    return fake


@pytest.fixture
def source(tmp_path):
    """Five pictures of 300 x 400: black with one bright spot, in the colour of the class the network will see."""
    folder = tmp_path / "train"
    folder.mkdir()
    labels = {}
    for n in range(5):
        image = np.zeros((300, 400, 3), np.uint8)
        image[120:150, 100 + 40 * n:140 + 40 * n, n % 3] = 250
        write_image(folder / f"ISIC_{n:07}.png", image)
        labels[f"ISIC_{n:07}"] = (n + 1) % 3  # never the class that the network sees
    write_groundtruth(folder / "groundtruth.csv", labels)
    (tmp_path / "net.prototxt").write_text("")
    (tmp_path / "final.caffemodel").write_bytes(b"weights")
    return folder


def run(command, source, *more):
    base = source.parent
    return main([command, "--net", str(base / "net.prototxt"), "--weights", str(base), "--images", str(source), *more])


def test_ten_views_are_averaged_and_each_picture_keeps_its_row(net):
    random = np.random.RandomState(0)
    images = [random.randint(0, 255, (256, 256, 3), np.uint8) for _ in range(3)]
    together = forward.predict(net, [views(image, "ten") for image in images])
    assert net.batches == [30]
    patches = [images[1][y:y + 224, x:x + 224] for y, x in ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))]
    each = [forward.predict(net, [[p]])[0] for p in patches + [p[:, ::-1] for p in patches]]
    np.testing.assert_allclose(together[1], np.mean(each, axis=0), rtol=1e-5)


def test_maps_come_from_the_pass_that_gave_the_probabilities(net):
    image = np.zeros((256, 256, 3), np.uint8)
    image[..., 1] = 90
    probs, cams = forward.predict_with_maps(net, [views(image), views(image)])
    assert cams.shape == (2, 1, 3, 10, 10)
    np.testing.assert_allclose(cams[1, 0, 1], 90, rtol=1e-5)
    assert probs[0].argmax() == 1
    np.testing.assert_array_equal(probs, forward.predict(net, [views(image), views(image)]))


def test_the_maps_of_ten_views_stay_with_their_picture(net):
    images = [np.zeros((256, 256, 3), np.uint8) for _ in range(2)]
    images[1][:200, :200, 2] = 90  # all that the cells of the first view see
    probs, cams = forward.predict_with_maps(net, [views(image, "ten") for image in images])
    assert cams.shape == (2, 10, 3, 10, 10)
    assert cams[0].max() == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(cams[1, 0, 2], 90, rtol=1e-5)
    assert cams[1, 3, 2].min() < 1  # those of the last corner's end in the dark
    assert probs.shape == (2, 3)


def test_predict_command(net, source, tmp_path, capsys):
    out, submission = tmp_path / "results" / "p.csv", tmp_path / "s.csv"
    assert run("predict", source, "--out", str(out), "--submission", str(submission), "--batch", "2") == 0
    assert net.batches == [2, 2, 1]
    found = predictions.read(out)
    assert {i: int(np.argmax(row)) for i, row in found.items()} == {f"ISIC_{n:07}": n % 3 for n in range(5)}
    assert submission.read_text().splitlines()[0] == "image_id,melanoma,seborrheic_keratosis"
    assert predictions.read(submission)["ISIC_0000001"] == found["ISIC_0000001"][:2]
    assert capsys.readouterr().out == f"{out}: 5 pictures\n"


def test_slices_come_in_order_one_ahead_and_an_error_when_it_is_due():
    made = []

    def make(item):
        made.append(item)
        if item == 9:
            raise CamError("nine")
        return item * 10

    slices = forward.ahead(make, list(range(1, 10)), 3)
    assert next(slices) == [(1, 10), (2, 20), (3, 30)]
    assert max(made) <= 6
    assert next(slices) == [(4, 40), (5, 50), (6, 60)]
    with pytest.raises(CamError, match="nine"):
        next(slices)
    assert list(forward.ahead(make, [], 3)) == []


def test_an_output_that_cannot_be_written_is_told_before_the_work(net, source, tmp_path, capsys):
    assert run("predict", source, "--out", str(tmp_path)) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert net.batches == []


def test_predict_needs_no_ground_truth(net, source, tmp_path):
    (source / "groundtruth.csv").unlink()
    assert run("predict", source, "--out", str(tmp_path / "p.csv")) == 0
    assert len(predictions.read(tmp_path / "p.csv")) == 5


def test_probabilities_survive_the_file_bit_by_bit(tmp_path):
    probs = np.random.RandomState(1).dirichlet([1, 1, 1], 50)
    predictions.write(tmp_path / "p.csv", [(f"i{n}", row) for n, row in enumerate(probs)])
    np.testing.assert_array_equal(list(predictions.read(tmp_path / "p.csv").values()), probs)


def test_weights_that_are_not_finite_are_told_by_picture(net, source, tmp_path, capsys):
    net.params["CAM_fc3"][0].data[...] = np.nan
    net.forward = lambda blobs: net.blobs["prob"].data.fill(np.nan)
    assert run("predict", source, "--out", str(tmp_path / "p.csv")) == 1
    assert "ISIC_0000000" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def content(folder):
    """Return the bytes of a folder's files, and what decides in its record: the rest are stamps and dates."""
    record = steps.find_record(folder)
    decides = [record.parameters, *({name: digest for name, (digest, _) in marks.items()}
                                    for marks in (record.inputs, record.outputs))]
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != crops.RECORD}, decides


def boxes(folder):
    with open(folder / "boxes.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_crops_hold_the_original_pixels_around_the_spot(net, source, tmp_path):
    out = tmp_path / "crops"
    assert run("crops", source, "--out", str(out), "--format", "png") == 0
    for n, (sample, row) in enumerate(zip(load_samples(out), boxes(out))):
        assert row["image_id"] == sample.image_id
        assert row["class"] == ("melanoma", "seborrheic_keratosis", "nevus")[n % 3]
        assert row["reason"] == "region"
        y0, x0, y1, x1 = (int(row[k]) for k in ("y0", "x0", "y1", "x1"))
        assert y1 - y0 == x1 - x0 < 200
        assert y0 <= 120 < 150 <= y1
        assert x0 <= 100 + 40 * n < 140 + 40 * n <= x1
        picture = read_image(source / f"{sample.image_id}.png")
        np.testing.assert_array_equal(read_image(sample.path), picture[y0:y1, x0:x1])
    assert (out / "groundtruth.csv").read_bytes() == (source / "groundtruth.csv").read_bytes()
    assert [(row["height"], row["width"]) for row in boxes(out)] == [("300", "400")] * 5
    assert not (out / ".boxes.csv").exists()


@pytest.mark.usefixtures("net")
def test_crops_of_a_smaller_input_are_cut_by_its_own_patch_and_cells(source, tmp_path, monkeypatch):
    net = SmallNet()
    monkeypatch.setattr(crops, "open_net", lambda *files: net)
    assert run("crops", source, "--out", str(tmp_path / "crops")) == 0
    assert net.blobs["data"].data.shape[2:] == (112, 112)
    for sample, row in zip(load_samples(source), boxes(tmp_path / "crops")):
        (probs,), (cams,) = forward.predict_with_maps(net, [net.views(read_image(sample.path))])
        found = locate(RegionRule(), cams, probs, (300, 400), net.grid)
        assert tuple(map(str, found.region.box)) == tuple(row[k] for k in ("y0", "x0", "y1", "x1"))
        assert cams.shape == (1, 3, 3, 3)


@pytest.mark.parametrize(("rule", "shift"), [("predicted", 0), ("max", 0), ("true", 1)])
def test_whose_map_is_followed(net, source, tmp_path, rule, shift):
    assert run("crops", source, "--out", str(tmp_path / "crops"), "--class", rule) == 0
    names = ["melanoma", "seborrheic_keratosis", "nevus"]
    assert [row["class"] for row in boxes(tmp_path / "crops")] == [names[(n + shift) % 3] for n in range(5)]


def test_the_true_class_is_refused_outside_train(net, source, tmp_path, capsys):
    val = source.rename(tmp_path / "val")
    assert run("crops", val, "--out", str(tmp_path / "crops"), "--class", "true") == 1
    assert "leak" in capsys.readouterr().err
    assert run("crops", val, "--out", str(tmp_path / "crops"), "--class", "true", "--force") == 0


def test_crops_go_on_after_an_interruption(net, source, tmp_path, monkeypatch, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run("crops", source, "--out", str(whole))
    forward, calls = net.forward, []

    def stop(**options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        forward(**options)

    net.forward = stop
    assert run("crops", source, "--out", str(broken), "--batch", "2") == 130
    assert not (broken / "groundtruth.csv").exists()
    assert not steps.find_record(broken).finished
    with open(broken / ".boxes.csv", "a") as journal:
        journal.write("ISIC_0000004,0,0,9")  # a line cut short, of a crop that was written
    (broken / "ISIC_0000004.jpg").write_bytes((broken / "ISIC_0000000.jpg").read_bytes())
    net.forward = forward
    capsys.readouterr()
    assert run("crops", source, "--out", str(broken), "--batch", "2") == 0
    assert "5 crops, 1 made now" in capsys.readouterr().out
    assert content(whole) == content(broken)
    assert run("crops", source, "--out", str(broken), "--batch", "2") == 0
    assert capsys.readouterr().out == "crops/broken: up to date\n"


def test_a_finished_folder_is_kept_and_other_parameters_make_it_anew(net, source, tmp_path, capsys):
    out = tmp_path / "crops"
    for more, told in (((), "5 crops, 5 made now"), ((), "crops/crops: up to date\n"),
                       (("--placement", "exact"), "5 crops, 5 made now"), (("--margin", "0.3"), "5 crops, 5 made now"),
                       (("--margin", "0.3", "--format", "png"), "5 crops, 5 made now"),
                       (("--margin", "0.3", "--format", "png", "--batch", "2"), "crops/crops: up to date\n")):
        assert run("crops", source, "--out", str(out), *more) == 0
        assert told in capsys.readouterr().out
    assert len(load_samples(out)) == 5  # no old .jpg beside a new .png
    (tmp_path / "final.caffemodel").write_bytes(b"other weights")
    run("crops", source, "--out", str(out), "--margin", "0.3", "--format", "png")
    assert "5 made now" in capsys.readouterr().out


def test_a_crop_that_was_deleted_is_made_again(net, source, tmp_path, capsys):
    out = tmp_path / "crops"
    run("crops", source, "--out", str(out))
    (out / "ISIC_0000003.jpg").unlink()
    run("crops", source, "--out", str(out))
    assert "5 crops, 1 made now" in capsys.readouterr().out
    assert (out / "ISIC_0000003.jpg").exists()


def test_somebody_elses_folder_is_not_touched(net, source, tmp_path, capsys):
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    assert run("crops", source, "--out", str(source)) == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "groundtruth.csv").write_text("precious")
    assert run("crops", source, "--out", str(other)) == 1
    assert "choose an empty or new folder" in capsys.readouterr().err
    assert (other / "groundtruth.csv").read_text() == "precious"
    assert {p.name: p.read_bytes() for p in source.iterdir()} == before


def alter(path, content=None):
    """Change a file's content but not its size nor its times, as far as programs can."""
    status = path.stat()
    content = content or bytes(reversed(path.read_bytes()))
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_picture_of_the_same_size_and_time_is_seen_to_be_another(net, source, tmp_path, capsys):
    """The crops and the probabilities of the one that changed are made anew, and are those of a new folder."""
    out, table = tmp_path / "crops", tmp_path / "p.csv"
    for number in range(5):  # plain pictures, so that all files have one size
        (source / f"ISIC_{number:07}.png").unlink()
        write_bitmap(source / f"ISIC_{number:07}.png", number)
    assert run("crops", source, "--out", str(out)) == run("predict", source, "--out", str(table)) == 0
    others = {path.name: path.stat().st_mtime_ns for path in out.glob("*.jpg") if path.stem != "ISIC_0000003"}
    write_bitmap(tmp_path / "other.png", 4)
    alter(source / "ISIC_0000003.png", (tmp_path / "other.png").read_bytes())
    capsys.readouterr()
    assert run("crops", source, "--out", str(out)) == run("predict", source, "--out", str(table)) == 0
    assert "5 crops, 1 made now" in capsys.readouterr().out
    assert others == {name: (out / name).stat().st_mtime_ns for name in others}
    run("crops", source, "--out", str(tmp_path / "new" / "crops"))
    run("predict", source, "--out", str(tmp_path / "new" / "p.csv"))
    assert content(out) == content(tmp_path / "new" / "crops")
    assert table.read_bytes() == (tmp_path / "new" / "p.csv").read_bytes()


def write_bitmap(path, number):
    """Write a picture with a spot as a PNG that is not compressed."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[120:150, 100 + 40 * number:140 + 40 * number, number % 3] = 250
    path.write_bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes())


@pytest.mark.parametrize("what", ["label", "gone", "net", "order", "crop"])
def test_crops_follow_every_input(net, source, tmp_path, what, capsys):
    out, labels = tmp_path / "crops", {f"ISIC_{n:07}": (n + 1) % 3 for n in range(5)}
    run("crops", source, "--out", str(out), "--class", "true")
    {"label": lambda: labels.update(ISIC_0000003=0), "gone": lambda: labels.pop("ISIC_0000003"),
     "net": lambda: (tmp_path / "net.prototxt").write_text("# other"),
     "order": lambda: labels.update(ISIC_0000000=labels.pop("ISIC_0000000")),
     "crop": lambda: alter(out / "ISIC_0000003.jpg")}[what]()
    write_groundtruth(source / "groundtruth.csv", labels)
    capsys.readouterr()
    assert run("crops", source, "--out", str(out), "--class", "true") == 0
    made = {"label": 1, "gone": 0, "net": 5, "order": 0, "crop": 1}[what]
    assert f"{len(labels)} crops, {made} made now" in capsys.readouterr().out
    run("crops", source, "--out", str(tmp_path / "new" / "crops"), "--class", "true")
    assert content(out) == content(tmp_path / "new" / "crops")


def test_labels_written_otherwise_are_the_same_labels(net, source, tmp_path, capsys):
    out = tmp_path / "crops"
    run("crops", source, "--out", str(out))
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    rows = (source / "groundtruth.csv").read_text().replace(".0", "")
    (source / "groundtruth.csv").write_text(rows)
    capsys.readouterr()
    run("crops", source, "--out", str(out))
    assert capsys.readouterr().out == "crops/crops: up to date\n"
    assert times == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    run("crops", source, "--out", str(tmp_path / "new" / "crops"))
    assert content(out) == content(tmp_path / "new" / "crops")


def test_probabilities_follow_every_input(net, source, tmp_path, capsys):
    out = tmp_path / "p.csv"
    more = ["--out", str(out)]

    def done():
        capsys.readouterr()
        assert run("predict", source, *more) == 0
        told = capsys.readouterr().out
        assert told in (f"{out}: 5 pictures\n", "predict/p: up to date\n")
        return "up to date" not in told
    assert done()
    time = out.stat().st_mtime_ns
    more += ["--batch", "3"]
    assert not done()
    assert out.stat().st_mtime_ns == time
    for change in (lambda: more.extend(["--views", "ten"]), lambda: more.extend(["--submission", str(tmp_path / "s.csv")]),
                   lambda: (tmp_path / "s.csv").unlink(), lambda: out.write_text(out.read_text().replace("0", "1")),
                   lambda: alter(tmp_path / "final.caffemodel"), lambda: (tmp_path / "net.prototxt").write_text("# other"),
                   lambda: write_groundtruth(source / "groundtruth.csv", {f"ISIC_{n:07}": 0 for n in range(4, -1, -1)}),
                   lambda: (tmp_path / ".p.csv.json").unlink()):
        change()
        assert done()
        assert not done()
    assert list(predictions.read(out)) == [f"ISIC_{n:07}" for n in range(4, -1, -1)]


@pytest.mark.parametrize("image_id", ["net", "weights"])
def test_a_picture_of_any_name_does_not_hide_a_change_of_the_network(net, source, tmp_path, image_id, capsys):
    for path in source.glob("*.png"):
        path.unlink()
    write_bitmap(source / f"{image_id}.png", 1)
    write_groundtruth(source / "groundtruth.csv", {image_id: 1})
    calls = [("predict", tmp_path / "p.csv"), ("crops", tmp_path / "crops")]

    def done():
        capsys.readouterr()
        assert [run(command, source, "--out", str(out)) for command, out in calls] == [0, 0]
        return capsys.readouterr().out
    done()
    assert done() == "predict/p: up to date\ncrops/crops: up to date\n"
    alter(tmp_path / "final.caffemodel")
    assert "up to date" not in done()
    (tmp_path / "net.prototxt").write_text("# other")
    assert "1 crops, 1 made now" in done()
    write_bitmap(source / f"{image_id}.png", 2)
    assert "1 crops, 1 made now" in done()


def test_the_record_tells_by_which_rule_and_from_what_pictures(net, source, tmp_path):
    record = steps.Record({"pictures": {"hair": "letter"}}, {}, {}, True)
    steps.write_record(source / ".clean.json", record)
    run("crops", source, "--out", str(tmp_path / "c"), "--threshold", "0.5", "--control", "random")
    assert steps.find_record(tmp_path / "c").parameters["pictures"] == {
        "hair": "letter", "region": {**asdict(RegionRule(threshold=0.5)), "control": "random"}}


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_have_their_boxes_and_their_count(net, source, tmp_path, control, capsys):
    run("crops", source, "--out", str(tmp_path / "region"), "--threshold", "0.5")
    capsys.readouterr()
    run("crops", source, "--out", str(tmp_path / "c"), "--threshold", "0.5", "--control", control)
    rows, regions = (list(crops.read_boxes(tmp_path / name / "boxes.csv").values()) for name in ("c", "region"))
    assert {row.reason for row in rows} == {control}
    assert [row.box.size for row in rows] == ([(300, 400)] * 5 if control == "whole" else [row.box.size for row in regions])
    assert [row.y0 for row in rows] != [row.y0 for row in regions]
    assert ("5 of them whole pictures, median side 1.00" if control == "whole" else "0 of them whole") in capsys.readouterr().out


def row(box, reason="region", size=(300, 400)):
    return crops.Row("a", *box, "nevus", reason, *size)


def test_whole_pictures_are_counted_by_the_box_not_by_the_reason(net, source, tmp_path, capsys):
    for path in source.glob("*.png"):
        write_image(path, np.maximum(read_image(path), 20))  # evidence everywhere
    assert run("crops", source, "--out", str(tmp_path / "c"), "--threshold", "0", "--placement", "exact") == 0
    assert {row["reason"] for row in boxes(tmp_path / "c")} == {"region"}
    told = capsys.readouterr().out
    assert "5 of them whole pictures, median side 1.00 of the picture; a stage 2 on whole pictures learns nothing" in told
    quarter, whole = row((0, 0, 150, 200)), row((0, 0, 300, 400))
    assert crops.describe([quarter] * 4) == "0 of them whole pictures, median side 0.50 of the picture"
    assert crops.describe([quarter, quarter, quarter, whole]) == "1 of them whole pictures, median side 0.50 of the picture"
    assert crops.describe([quarter, whole, whole]).startswith("2 of them whole pictures, median side 1.00 of the picture; a ")
    assert not row((0, 0, 300, 300), "flat").is_whole


def test_a_black_picture_gives_the_whole_picture_and_the_reason(net, source, tmp_path):
    write_image(source / "ISIC_0000002.png", np.zeros((300, 400, 3), np.uint8))
    net.params["CAM_fc3"][0].data[...] *= -1
    assert run("crops", source, "--out", str(tmp_path / "c")) == 0
    row = boxes(tmp_path / "c")[2]
    assert [row[k] for k in ("y0", "x0", "y1", "x1", "reason")] == ["0", "0", "300", "400", "nowhere positive"]


def test_boxes_with_other_columns_are_refused(tmp_path):
    (tmp_path / "boxes.csv").write_text("image_id,x\nA,1\n")
    with pytest.raises(DataError, match="expected image_id,y0"):
        crops.read_boxes(tmp_path / "boxes.csv")


@pytest.mark.parametrize(("box", "words"), [
    (("1", "2", "30", "401"), r"the box \(1, 2, 30, 401\) does not lie in a picture of 300 x 400"),
    (("9", "9", "9", "20"), "does not lie"),
    (("-1", "0", "9", "9"), "Expected `int` >= 0 - at `$.y0`"),
    (("1", "2", "x", "4"), "Expected `int`, got `str` - at `$.y1`"),
    (("1", "2", "3", "nan"), "got `str` - at `$.x1`")])
def test_a_box_that_cannot_be_is_refused_in_boxes_and_dropped_from_the_journal(tmp_path, box, words):
    text = ",".join(("a", *box, "nevus", "region", "300", "400"))
    (tmp_path / "boxes.csv").write_text(f"{','.join(crops.COLUMNS)}\n{text}\n")
    with pytest.raises(DataError, match=rf"boxes.csv: line 2: .*{words.replace('$', '[$]')}.*make the crops again"):
        crops.read_boxes(tmp_path / "boxes.csv")
    (tmp_path / "journal").write_text(f"b,0,0,9,9,nevus,region,300,400\n{text}\n\nc,0,0\nd,0,0,9,9,nevus,region,300,400")
    assert list(crops.read_journal(tmp_path / "journal")) == ["b"]  # the last line has no end

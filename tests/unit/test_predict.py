"""Prediction and crops with a stand-in for the network whose answers can be worked out by hand."""
import csv

import numpy as np
import pytest

from data_tools.files import read_image, write_image
from data_tools.isic import load_samples, write_groundtruth
from pycam import crops, maps, predict, predictions
from pycam.__main__ import main
from pycam.cam import VGG_GAP
from pycam.errors import CamError
from pycam.preprocess import MEAN_BGR


class FakeBlob:
    def __init__(self, *shape):
        self.reshape(*shape)

    def reshape(self, *shape):
        self.data = np.zeros(shape, np.float32)


class FakeNet:
    """Feature c of a cell is the mean of colour c in its 16-pixel block; class c sees colour c."""

    def __init__(self):
        self.blobs = {"data": FakeBlob(1, 3, 224, 224), "CAM_conv": FakeBlob(1, 3, 10, 10), "prob": FakeBlob(1, 3)}
        self.params = {"CAM_fc3": [FakeBlob(3, 3), FakeBlob(3)]}
        self.params["CAM_fc3"][0].data[...] = np.eye(3)
        self.batches = []

    def reshape(self):
        count = self.blobs["data"].data.shape[0]
        self.batches.append(count)
        self.blobs["CAM_conv"].reshape(count, 3, 10, 10)
        self.blobs["prob"].reshape(count, 3)

    def forward(self, blobs=()):
        pixels = self.blobs["data"].data + np.array(MEAN_BGR, np.float32)[:, None, None]
        blocks = pixels.reshape(-1, 3, 14, 16, 14, 16).mean(axis=(3, 5))[..., 2:-2, 2:-2]
        self.blobs["CAM_conv"].data[...] = blocks
        means = blocks.mean(axis=(2, 3)) + 1e-3
        self.blobs["prob"].data[...] = means / means.sum(axis=1, keepdims=True)


@pytest.fixture
def net(monkeypatch):
    fake = FakeNet()
    monkeypatch.setattr(predict, "open_net", lambda args: fake)
    monkeypatch.setattr(crops, "open_net", lambda args: fake)
    monkeypatch.setattr(crops, "read_grid", lambda path: VGG_GAP)
    monkeypatch.setattr(maps.engine, "check_prototxt", lambda path: None)
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
    together = predict.predict(net, images, "ten")
    assert net.batches == [30]
    patches = [images[1][y:y + 224, x:x + 224] for y, x in ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))]
    each = [predict.forward(net, [p])[0] for p in patches + [p[:, ::-1] for p in patches]]
    np.testing.assert_allclose(together[1], np.mean(each, axis=0), rtol=1e-5)


def test_maps_come_from_the_pass_that_gave_the_probabilities(net):
    image = np.zeros((256, 256, 3), np.uint8)
    image[..., 1] = 90
    probs, cams = predict.predict_with_maps(net, [image, image])
    assert cams.shape == (2, 3, 10, 10)
    np.testing.assert_allclose(cams[1, 1], 90, rtol=1e-5)
    assert probs[0].argmax() == 1


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

    slices = predict.ahead(make, list(range(1, 10)), 3)
    assert next(slices) == [(1, 10), (2, 20), (3, 30)]
    assert max(made) <= 6
    assert next(slices) == [(4, 40), (5, 50), (6, 60)]
    with pytest.raises(CamError, match="nine"):
        next(slices)
    assert list(predict.ahead(make, [], 3)) == []


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
    assert not (out / "boxes.partial.csv").exists()


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
    with open(broken / "boxes.partial.csv", "a") as journal:
        journal.write("ISIC_0000004,0,0,9")  # a line cut short, of a crop that was written
    (broken / "ISIC_0000004.jpg").write_bytes((broken / "ISIC_0000000.jpg").read_bytes())
    net.forward = forward
    capsys.readouterr()
    assert run("crops", source, "--out", str(broken), "--batch", "2") == 0
    assert "5 crops, 1 made now" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in broken.iterdir()}


def test_a_finished_folder_is_kept_and_other_parameters_make_it_anew(net, source, tmp_path, capsys):
    out = tmp_path / "crops"
    for more, made in (((), 5), ((), 0), (("--margin", "0.3"), 5), (("--margin", "0.3", "--format", "png"), 5)):
        assert run("crops", source, "--out", str(out), *more) == 0
        assert f"5 crops, {made} made now" in capsys.readouterr().out
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


def test_a_black_picture_gives_the_whole_picture_and_the_reason(net, source, tmp_path):
    write_image(source / "ISIC_0000002.png", np.zeros((300, 400, 3), np.uint8))
    net.params["CAM_fc3"][0].data[...] *= -1
    assert run("crops", source, "--out", str(tmp_path / "c")) == 0
    row = boxes(tmp_path / "c")[2]
    assert [row[k] for k in ("y0", "x0", "y1", "x1", "reason")] == ["0", "0", "300", "400", "nowhere positive"]


def test_boxes_with_other_columns_are_refused(tmp_path):
    (tmp_path / "boxes.csv").write_text("image_id,x\nA,1\n")
    with pytest.raises(CamError, match="expected image_id,y0"):
        crops.read_boxes(tmp_path / "boxes.csv")

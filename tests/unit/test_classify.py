"""From a picture to its answer, with a stand-in for the networks; and the real narrow net by its weights."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.files import read_image, write_image
from pycam import classify
from pycam.__main__ import main
from pycam.cam import VGG_GAP
from pycam.drawing import BARS, CARD, LINE, card, contour
from pycam.errors import CamError
from pycam.regions import Box

from .test_predict import FakeNet


@pytest.fixture
def stages(monkeypatch):
    both = classify.Stages(FakeNet(), FakeNet(), VGG_GAP)
    monkeypatch.setattr(classify, "open_stages", lambda *args, **how: both)
    return both


def spot(colour=1):
    image = np.full((300, 400, 3), 40, np.uint8)
    image[120:150, 180:220, colour] = 250
    return image


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", spot())
    write_image(tmp_path / "in" / "b.jpg", spot(2))
    return tmp_path


def run(folder, *images, more=()):
    return main(["classify", *map(str, images), "--stage1", "1", "--stage2", "2", "--out", str(folder / "out"), *more])


def test_the_crop_lies_on_the_spot_and_stage_2_sees_only_it(stages):
    answer = classify.classify(stages, spot(), hair=False, threshold=0.6)
    assert answer.followed == "seborrheic_keratosis"
    assert answer.region.reason == "region"
    assert answer.region.box.y0 < 125
    assert answer.region.box.y1 > 145
    assert answer.region.box.size[0] == answer.region.box.size[1] < 150
    assert answer.probs[1] > answer.stage1[1]  # more of the crop is spot
    assert answer.cam.shape == answer.clean.shape[:2] == (300, 400)
    assert answer.cams.shape == (1, 3, 10, 10)


def test_choices_are_those_of_crops(stages):
    whole = classify.classify(stages, spot(), hair=False, threshold=0.0).region.box
    tight = classify.classify(stages, spot(), hair=False, ground="min").region.box
    assert tight.size[0] < whole.size[0]
    assert classify.classify(stages, spot(), hair=False, class_rule="envelope").followed == "envelope"
    assert classify.classify(stages, spot(), hair=False, views="ten").cams.shape == (10, 3, 10, 10)


def test_hair_is_removed_first(stages):
    image = np.full((400, 500, 3), (140, 170, 210), np.uint8)
    cv2.line(image, (50, 60), (420, 330), (20, 25, 30), 3, cv2.LINE_AA)
    answer = classify.classify(stages, image)
    assert answer.clean.min() > 100
    assert classify.classify(stages, image, hair=False).clean.min() < 60


def test_the_command_writes_a_card_and_json_for_each_picture_of_a_folder(stages, folder, capsys):
    (folder / "in" / "notes.txt").write_text("no picture")
    assert run(folder, folder / "in", more=["--maps", "--threshold", "0.6"]) == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "a.jpg", "a.json", "a.npy", "b.jpg", "b.json", "b.npy"]
    found = json.loads((folder / "out" / "b.json").read_text())
    assert found["predicted"] == found["map"] == "nevus"
    assert (found["height"], found["width"], found["reason"]) == (300, 400, "region")
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert set(found["box"]) == {"y0", "x0", "y1", "x1"}
    assert np.load(folder / "out" / "a.npy").shape == (1, 3, 10, 10)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["a.png", "b.jpg"]
    assert f"nevus {found['probabilities']['nevus']:.3f} (stage 1: " in lines[1]


def test_a_broken_file_is_told_and_the_others_go_on(stages, folder, capsys):
    whole = (folder / "in" / "b.jpg").read_bytes()
    (folder / "in" / "aa.jpg").write_bytes(whole[:len(whole) // 2])
    assert run(folder, folder / "in", folder / "nowhere.tif") == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert "aa.jpg: cut off" in errors[0]
    assert "nowhere.tif: cannot be read" in errors[1]
    assert "2 of 4 pictures could not be classified: aa.jpg, nowhere.tif" in errors[2]


@pytest.mark.parametrize("suffix", [".bmp", ".tiff", ".webp", ".ppm"])
def test_other_formats_are_read(tmp_path, suffix):
    _, content = cv2.imencode(suffix, spot(), [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else [])
    (tmp_path / f"a{suffix}").write_bytes(content.tobytes())
    assert classify.list_images([tmp_path]) == [tmp_path / f"a{suffix}"]
    np.testing.assert_array_equal(classify.read_any(tmp_path / f"a{suffix}"), spot())


def test_names_that_would_overwrite_each_other_and_empty_folders_are_refused(stages, folder, capsys):
    write_image(folder / "a.jpg", spot())
    assert run(folder, folder / "in", folder / "a.jpg") == 1
    assert "same name, a;" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert run(folder, folder / "empty") == 1
    assert "no pictures" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["vgg_gap_narrow", "vgg_gap", "googlenet_gap"])
def test_the_network_is_found_by_the_weights(tmp_path, monkeypatch, name):
    path = classify.source("prototxt") / f"{name}_deploy.prototxt"
    shapes = {layer.name: [(layer.convolution_param.num_output or layer.inner_product_param.num_output, 9, 3, 3)]
              for layer in classify.read_net(str(path)).layer if layer.type in ("Convolution", "InnerProduct")}
    (tmp_path / "w.caffemodel").write_bytes(b"")
    monkeypatch.setattr(classify.engine, "weight_shapes", lambda path: shapes)
    assert classify.find_net(tmp_path / "w.caffemodel") == path
    shapes["CAM_fc3"] = [(1000, 1024)]
    with pytest.raises(CamError, match="name its deploy file"):
        classify.find_net(tmp_path / "w.caffemodel")


def test_a_card_shows_picture_map_crop_and_bars():
    image, cam = spot(), np.zeros((300, 400), np.float32)
    cam[120:150, 180:220] = 2
    drawn = card(image, cam, 1.0, Box(100, 150, 180, 230), [("stage 1", np.array([1, 0, 0])), ("stage 2", np.array([0, 0, 1]))])
    assert drawn.shape == (CARD + 4 * LINE, 2 * 480 + CARD, 3)  # two pictures of 4 : 3 and a square crop
    painted = [(drawn[CARD:] == colour).all(axis=2) for colour in BARS]
    rows = [sorted(set(np.flatnonzero(bar.sum(axis=1) > 50) // LINE)) for bar in painted]
    assert rows == [[1], [3]]  # melanoma of stage 1, nevus of stage 2
    assert painted[0].any(axis=0).sum() == pytest.approx(0.7 * 0.36 * drawn.shape[1], abs=3)


def test_a_contour_runs_around_the_region_and_leaves_the_picture_alone_elsewhere():
    image, region = np.full((60, 60, 3), 128, np.uint8), np.zeros((60, 60), bool)
    region[20:40, 20:40] = True
    drawn = contour(image, region)
    assert (drawn[20, 25:35] > 200).all()
    np.testing.assert_array_equal(drawn[25:35, 25:35], image[25:35, 25:35])
    np.testing.assert_array_equal(drawn[:10], image[:10])
    assert (image == 128).all()


def test_the_documented_lines_of_python_exist():
    lines = [line.strip() for line in classify.__doc__.split("::")[1].splitlines() if line.strip()]
    assert len(lines) == 4
    compile("\n".join(lines), "docstring", "exec")
    assert callable(classify.open_stages)
    assert read_image(Path(__file__).parents[2] / "examples" / "ISIC_0000225.jpg").shape[2] == 3

"""From a picture to its answer, with a stand-in for the networks; and the real narrow net by its weights."""
import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from data_tools import steps
from data_tools.clean import HAIR
from data_tools.files import read_image, write_image
from data_tools.isic import write_groundtruth
from pycam import engine, predictions, two_stages
from pycam.__main__ import main
from pycam.crops import read_boxes
from pycam.drawing import BARS, CARD, LINE, card, contour
from pycam.errors import CamError
from pycam.region_rule import RegionRule
from pycam.regions import Box
from pycam.train import EDITED

from .test_predict import FakeNet

NET = two_stages.source("prototxt") / "vgg_gap_narrow_deploy.prototxt"


@pytest.fixture
def nets(monkeypatch):
    """Put a stand-in in the place of every network."""
    monkeypatch.setattr(engine, "load", lambda *backend: None)
    monkeypatch.setattr(engine, "deploy_net", lambda *files, **options: FakeNet())
    monkeypatch.setattr(two_stages, "find_net", lambda weights: NET)


def stages(hair="none", **region):
    """Return two stand-ins whose stage 2 was trained on regions of some rule."""
    return two_stages.Stages(FakeNet(), FakeNet(), two_stages.Preparation(hair, RegionRule(**region)))


def spot(colour=1):
    image = np.full((300, 400, 3), 40, np.uint8)
    image[120:150, 180:220, colour] = 250
    return image


@pytest.fixture
def folder(tmp_path):
    for name in ("in", "1", "2"):
        (tmp_path / name).mkdir()
    trained(tmp_path / "2", {"hair": "none", "region": {**asdict(RegionRule(threshold=0.6)), "control": None}})
    write_image(tmp_path / "in" / "a.png", spot())
    write_image(tmp_path / "in" / "b.jpg", spot(2))
    return tmp_path


def trained(folder, pictures):
    """Write the record of a stage 2 that was trained on some pictures."""
    folder.mkdir(exist_ok=True)
    steps.write_record(folder / "origin.json", steps.Record({"seed": 1, "pictures": pictures}, {}, {}, True))


def run(folder, *images, more=()):
    return main(["classify", *map(str, images), "--stage1", str(folder / "1"), "--stage2", str(folder / "2"),
                 "--out", str(folder / "out"), *more])


def test_the_crop_lies_on_the_spot_and_stage_2_sees_only_it():
    answer = two_stages.classify(stages(threshold=0.6), spot())
    found = answer.found
    assert found.followed == "seborrheic_keratosis"
    assert found.region.reason == "region"
    assert found.region.box.y0 < 125
    assert found.region.box.y1 > 145
    assert found.region.box.size[0] == found.region.box.size[1] < 150
    assert answer.probs[1] > answer.stage1[1]  # more of the crop is spot
    assert found.cam.shape == answer.clean.shape[:2] == (300, 400)
    assert answer.cams.shape == (1, 3, 10, 10)


def test_choices_are_those_of_crops():
    whole = two_stages.classify(stages(threshold=0.0), spot()).found.region.box
    tight = two_stages.classify(stages(ground="min"), spot()).found.region.box
    assert tight.size[0] < whole.size[0]
    assert two_stages.classify(stages(class_rule="envelope"), spot()).found.followed == "envelope"
    assert two_stages.classify(stages(views="ten"), spot()).cams.shape == (10, 3, 10, 10)
    with pytest.raises(CamError, match="'treshold' is not known, did you mean threshold"):
        two_stages.classify(stages(), spot(), treshold=0.5)


def hairy():
    image = np.full((400, 500, 3), (140, 170, 210), np.uint8)
    cv2.line(image, (50, 60), (420, 60), (20, 25, 30), 3, cv2.LINE_AA)
    return image


def test_hair_is_removed_first():
    assert two_stages.classify(stages("along"), hairy()).clean.min() > 100
    assert two_stages.classify(stages("letter"), hairy()).clean.min() > 100
    assert two_stages.classify(stages("none"), hairy()).clean.min() < 60
    assert two_stages.classify(stages("along"), hairy(), cleaned=True).clean.min() < 60


# ---------------------------------------------------------------- what stage 2 was trained on
@pytest.mark.parametrize("hair", HAIR)
@pytest.mark.parametrize("region", [{}, {"threshold": 0.65, "ground": "min"}, {"class_rule": "scored", "views": "ten"}])
def test_rule_and_hair_are_those_of_the_stage_2_that_is_given(nets, tmp_path, hair, region, capsys):
    rule = RegionRule(**region)
    for control in ({}, {"control": None}):
        trained(tmp_path, {"hair": hair, "region": {**asdict(rule), **control}})
        (tmp_path / "net_iter_5.caffemodel").touch()
        for stage2 in (tmp_path, tmp_path / "net_iter_5.caffemodel"):
            assert two_stages.open_stages("a", stage2).preparation == (hair, rule)
    changed = two_stages.open_stages("a", tmp_path, hair="letter", margin=0.4).preparation
    assert changed == ("letter", rule.changed(margin=0.4))
    assert capsys.readouterr().err == ""


def test_two_rules_give_two_boxes_and_what_is_named_wins(nets, folder, capsys):
    found = {}
    for threshold in (0.25, 0.65):
        trained(folder / "2", {"hair": "none", "region": {**asdict(RegionRule(threshold=threshold)), "control": None}})
        assert run(folder, folder / "in" / "a.png") == 0
        found[threshold] = json.loads((folder / "out" / "a.json").read_text())
    assert found[0.25]["box"] != found[0.65]["box"]
    assert found[0.25]["probabilities"] != found[0.65]["probabilities"]
    assert found[0.25]["stage1"] == found[0.65]["stage1"]
    assert run(folder, folder / "in" / "a.png", more=["--threshold", "0.25"]) == 0
    assert json.loads((folder / "out" / "a.json").read_text()) == found[0.25]
    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize("region", [{"threshold": 0.65}, {"ground": "median", "class_rule": "contrast"}, {"views": "ten"}])
def test_boxes_and_probabilities_are_those_of_the_pipeline(nets, folder, monkeypatch, region):
    monkeypatch.setattr(engine, "check_prototxt", lambda path: None)
    monkeypatch.setattr(engine, "weights_file", lambda path: NET)
    write_groundtruth(folder / "in" / "groundtruth.csv", {"a": 1, "b": 2})
    rule = RegionRule(**region)
    options = [word for name, value in region.items() for word in (f"--{name.replace('_rule', '')}", str(value))]
    common = ["--net", str(NET), "--weights", "w", "--images"]
    assert main(["crops", *common, str(folder / "in"), "--out", str(folder / "crops"), *options]) == 0
    assert main(["predict", *common, str(folder / "crops"), "--out", str(folder / "p.csv")]) == 0
    trained(folder / "2", steps.find_record(folder / "crops").parameters["pictures"])
    opened = two_stages.open_stages("a", folder / "2")
    assert opened.preparation == ("along", rule)
    boxes, probs = read_boxes(folder / "crops" / "boxes.csv"), predictions.read(folder / "p.csv")
    for path in (folder / "in" / "a.png", folder / "in" / "b.jpg"):
        answer = two_stages.classify(opened, read_image(path), cleaned=True)
        assert answer.found.region.box == boxes[path.stem].box
        np.testing.assert_allclose(answer.probs, probs[path.stem], atol=1e-7)


def test_a_copy_without_hair_has_gone_through_a_file_as_in_the_pipeline():
    clean = two_stages.without_hair(hairy(), "along")
    assert np.abs(clean.astype(int) - two_stages.remove_hair(hairy())[0]).max() > 0
    np.testing.assert_array_equal(clean, two_stages._through_jpeg(two_stages.remove_hair(hairy())[0]))
    plain = hairy()[100:]
    np.testing.assert_array_equal(two_stages.without_hair(plain, "along"), plain)  # nothing was found: the file is copied


@pytest.mark.parametrize("pictures", [None, {}, {"hair": "letter"}])
def test_without_a_record_of_crops_the_defaults_are_taken_and_it_is_said(nets, tmp_path, pictures, capsys):
    if pictures is not None:
        trained(tmp_path, pictures)
    assert two_stages.open_stages("a", tmp_path).preparation == ("along", RegionRule())
    assert capsys.readouterr().err == f"note: {tmp_path}: no record tells by which rule its crops were cut; D09's defaults " \
                                      "are taken\n"


def test_a_stage_2_of_a_control_is_refused(nets, folder, capsys):
    trained(folder / "2", {"hair": "none", "region": {**asdict(RegionRule()), "control": "random"}})
    assert run(folder, folder / "in") == 1
    assert capsys.readouterr().err == (
        f"error: {folder / '2'}: a control, trained on boxes that do not follow the maps (random); classify with a stage 2 that "
        "was trained on regions\n")


@pytest.mark.parametrize(("options", "message"), [
    ({"treshold": 0.5}, "region rule: 'treshold' is not known, did you mean threshold"),
    ({"class_rule": "predict"}, "class_rule: 'predict' is not known, did you mean predicted"),
    ({"threshold": 2}, r"threshold: 2 is not in \[0, 1\)"), ({"hair": "alon"}, "'alon' is not known, did you mean along"),
    ({"hair": "no"}, "'no' is not known, did you mean none")])
def test_misspelt_options_of_the_function_name_the_nearest(nets, folder, options, message):
    with pytest.raises(CamError, match=message):
        two_stages.open_stages(folder / "1", folder / "2", **options)


@pytest.mark.parametrize(("words", "message"), [
    (["--hair", "alon"], "argument --hair: 'alon' is not known, did you mean along?"),
    (["--treshold", "0.5"], "'--treshold' is not known, did you mean --threshold?"),
    (["--stages", "2"], "'--stages' is not known, did you mean --stage"),
    (["--engine", "tourch"], "argument --engine: 'tourch' is not known, did you mean torch?"),
    (["--precision", "bf61"], "argument --precision: 'bf61' is not known, did you mean bf16?")])
def test_misspelt_options_of_the_command_name_the_nearest(nets, folder, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        run(folder, folder / "in", more=words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


# ---------------------------------------------------------------- the command
def test_the_command_writes_a_card_and_json_for_each_picture_of_a_folder(nets, folder, capsys):
    (folder / "in" / "notes.txt").write_text("no picture")
    assert run(folder, folder / "in", more=["--maps"]) == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "a.jpg", "a.json", "a.npy", "b.jpg", "b.json", "b.npy"]
    found = json.loads((folder / "out" / "b.json").read_text())
    assert found["predicted"] == found["map"] == "nevus"
    assert (found["height"], found["width"], found["reason"]) == (300, 400, "region")
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert set(found["box"]) == {"y0", "x0", "y1", "x1"}
    assert np.load(folder / "out" / "a.npy").shape == (1, 3, 10, 10)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["for research, no diagnosis", "a.png", "b.jpg"]
    assert f"nevus {found['probabilities']['nevus']:.3f} (stage 1: " in lines[2]


def test_a_broken_file_is_told_and_the_others_go_on(nets, folder, capsys):
    whole = (folder / "in" / "b.jpg").read_bytes()
    (folder / "in" / "aa.jpg").write_bytes(whole[:len(whole) // 2])
    assert run(folder, folder / "in", folder / "nowhere.tif") == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert "aa.jpg: cut off" in errors[0]
    assert "nowhere.tif: cannot be read" in errors[1]
    assert "2 of 4 pictures could not be classified: aa.jpg, nowhere.tif" in errors[2]


@pytest.mark.parametrize("suffix", [".bmp", ".tiff", ".webp", ".ppm"])
def test_other_formats_are_read(tmp_path, suffix):
    _, content = cv2.imencode(suffix, spot(), [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else [])
    (tmp_path / f"a{suffix}").write_bytes(content.tobytes())
    assert two_stages.list_images([tmp_path]) == [tmp_path / f"a{suffix}"]
    np.testing.assert_array_equal(two_stages.read_any(tmp_path / f"a{suffix}"), spot())


def test_names_that_would_overwrite_each_other_and_empty_folders_are_refused(nets, folder, capsys):
    write_image(folder / "a.jpg", spot())
    assert run(folder, folder / "in", folder / "a.jpg") == 1
    assert "same name, a;" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert run(folder, folder / "empty") == 1
    assert "no pictures" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["vgg_gap_narrow", "vgg_gap", "vgg16_gap", "googlenet_gap"])
def test_the_network_is_found_by_the_weights(tmp_path, monkeypatch, name):
    path = two_stages.source("prototxt") / f"{name}_deploy.prototxt"
    net = pytest.importorskip("torchcaffe").Net(str(path), 1)
    shapes = {layer: [blob.shape for blob in blobs] for layer, blobs in net.params.items()}
    (tmp_path / "w.caffemodel").write_bytes(b"")
    monkeypatch.setattr(two_stages.engine, "weight_shapes", lambda path: shapes)
    assert two_stages.find_net(tmp_path / "w.caffemodel") == path
    shapes["CAM_fc3"] = [(1000, 1024)]
    with pytest.raises(CamError, match="name its deploy file"):
        two_stages.find_net(tmp_path / "w.caffemodel")


def test_the_network_of_a_run_with_other_fields_is_the_runs_own(tmp_path):
    steps.write_record(tmp_path / "stage1" / "origin.json", steps.Record({EDITED: [], "patch": 128}, {}, {}, True))
    with pytest.raises(CamError, match="was trained with EDIT or PATCH"):
        two_stages.find_net(tmp_path / "stage1")
    (tmp_path / "deploy.prototxt").touch()
    for weights in ("stage1", "stage1/final.caffemodel"):
        assert two_stages.find_net(tmp_path / weights) == tmp_path / "deploy.prototxt"


def test_a_card_shows_picture_map_crop_and_bars():
    image, cam = spot(), np.zeros((300, 400), np.float32)
    cam[120:150, 180:220] = 2
    drawn = card(image, cam, 1.0, Box(100, 150, 180, 230), [("stage 1", np.array([1, 0, 0])), ("stage 2", np.array([0, 0, 1]))])
    assert drawn.shape == (CARD + 5 * LINE, 2 * 480 + CARD, 3)  # two pictures of 4 : 3 and a square crop
    painted = [(drawn[CARD + LINE:] == colour).all(axis=2) for colour in BARS]
    rows = [sorted(set(np.flatnonzero(bar.sum(axis=1) > 50) // LINE)) for bar in painted]
    assert rows == [[1], [3]]  # melanoma of stage 1, nevus of stage 2
    assert painted[0].any(axis=0).sum() == pytest.approx(0.7 * 0.36 * drawn.shape[1], abs=3)


@pytest.mark.parametrize(("height", "width"), [(500, 1), (500, 3), (10, 2000), (1, 9000)])
def test_a_card_of_a_thin_picture_has_its_height_and_no_endless_width(height, width):
    box = Box(0, 0, min(height, width), min(height, width))
    image, cam = np.full((height, width, 3), 128, np.uint8), np.ones((height, width), np.float32)
    drawn = card(image, cam, 0.5, box, [("stage 1", np.ones(3) / 3)])
    assert drawn.shape[0] == CARD + 5 * LINE
    assert drawn.shape[1] <= 3 * 4 * CARD


def test_a_contour_runs_around_the_region_and_leaves_the_picture_alone_elsewhere():
    image, region = np.full((60, 60, 3), 128, np.uint8), np.zeros((60, 60), bool)
    region[20:40, 20:40] = True
    drawn = contour(image, region)
    assert (drawn[20, 25:35] > 200).all()
    np.testing.assert_array_equal(drawn[25:35, 25:35], image[25:35, 25:35])
    np.testing.assert_array_equal(drawn[:10], image[:10])
    assert (image == 128).all()

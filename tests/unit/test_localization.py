"""Measures on arrays whose answers are fractions, and the command with a stand-in for the network."""
import csv

import numpy as np
import pytest

from data_tools.files import locked, read_image, write_image
from pycam import engine
from pycam.__main__ import main
from pycam.cam import Grid, cell_centres, place
from pycam.drawing import CARD, LINE
from pycam.errors import CamError
from pycam.region_rule import Located, RegionRule
from pycam.regions import Box, Region, square_up
from pycam.studies import deletion, localization, maps
from pycam.studies.localization import mask_box, measure_map, measure_region, overlap, peak, reference

from .test_predict import FakeNet

MASK = np.zeros((10, 20), bool)
MASK[2:6, 4:12] = True  # 32 of 200


def test_overlap_of_boxes():
    assert overlap(Box(0, 0, 4, 4), Box(2, 2, 6, 6)) == pytest.approx(4 / 28)
    assert overlap(Box(0, 0, 4, 4), Box(4, 0, 8, 4)) == 0
    assert overlap(Box(0, 0, 4, 4), Box(0, 0, 4, 4)) == 1


def test_measures_are_the_fractions_that_one_counts():
    cam = np.full((10, 20), -1.0)
    cam[2:4, 4:12] = 1  # 16 in the lesion
    cam[8, 0:8] = 2  # 8 of twice the height outside
    tight = Box(2, 4, 4, 12)
    located = Located(Region(square_up(tight, MASK.shape, 0), "region"), Region(tight, "region"), cam, 0.5, "nevus")
    found = {**measure_map(cam, MASK), **measure_region(located, MASK)}
    assert found["box_iou"] == pytest.approx(16 / 32)
    assert found["mask_iou"] == pytest.approx(16 / (32 + 8))
    assert found["pointing"] == 0
    assert found["energy"] == pytest.approx(16 / 32)
    assert found["crop_side"] == pytest.approx(8 / np.sqrt(200))
    assert found["covered"] == 1
    assert found["whole"] == 0


def test_the_peak_of_a_border_cell_is_its_centre_not_the_edge():
    cam = np.zeros((10, 10))
    cam[0, 9] = 1
    assert peak(place(cam, (256, 256), "exact")) == (55, 200)  # the last pixels of the plateau: 16 + 39.5 and 16 + 183.5
    assert peak(np.eye(5)[:, ::-1] * np.arange(5)) == (0, 4)


def test_the_reference_is_the_whole_picture_and_its_middle():
    assert mask_box(MASK) == Box(2, 4, 6, 12)
    found = reference(MASK)
    assert found["box_iou"] == found["mask_iou"] == pytest.approx(32 / 200)
    assert found["energy"] == pytest.approx(32 / 200, rel=1e-3)
    assert (found["pointing"], found["crop_side"], found["covered"], found["whole"]) == (1, 1, 1, 1)  # (5, 10) is in it


@pytest.fixture
def net(monkeypatch):
    fake = FakeNet()

    def load_net(net, weights, backend, **options):
        """Let the length of the weights file be the strength of the last layer."""
        fake.params["CAM_fc3"][0].data[...] = np.eye(3) * engine.weights_file(weights).stat().st_size
        return fake
    monkeypatch.setattr(localization, "load_net", load_net)
    monkeypatch.setattr(engine, "check_prototxt", lambda path: None)
    return fake


@pytest.fixture
def folder(tmp_path):
    """Four pictures, grey with a bright spot; the masks of three lie on the spot, the fourth's beside it; a fifth has none."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for number in range(5):
        image = np.full((256, 256, 3), 40, np.uint8)
        image[90:130, 100:150, number % 3] = 250
        write_image(tmp_path / "images" / f"A{number}.png", image)
        mask = np.zeros((256, 256), np.uint8)
        mask[80:140, 90:160] = 255
        if number < 4:
            write_image(tmp_path / "masks" / f"A{number}_segmentation.png", mask if number < 3 else np.roll(mask, 90, axis=1))
    (tmp_path / "truth.csv").write_text("image_id,melanoma,seborrheic_keratosis\nA0,1,0\nA1,0,1\nA2,0,0\nA3,1,0\n")
    (tmp_path / "net.prototxt").write_text("")
    (tmp_path / "final.caffemodel").write_bytes(b"weights")
    return tmp_path


def run(folder, *more):
    return main(["localize", "--net", str(folder / "net.prototxt"), "--weights", str(folder), "--images", str(folder / "images"),
                 "--masks", str(folder / "masks"), "--out", str(folder / "out"), *more])


def table(folder, name="localization.csv"):
    return list(csv.DictReader((folder / "out" / name).read_text().splitlines()))


def test_the_command_measures_each_class_and_all(net, folder, capsys):
    assert run(folder, "--truth", str(folder / "truth.csv"), "--threshold", "0.6") == 0
    rows = {row["class"]: row for row in table(folder) if row["class_rule"] == "predicted"}
    assert [(name, row["n"], float(row["pointing"])) for name, row in rows.items()] == [
        ("melanoma", "2", 0.5), ("seborrheic_keratosis", "1", 1), ("nevus", "1", 1), ("all", "4", 0.75)]
    assert float(rows["nevus"]["box_iou"]) > 0.4 > float(rows["melanoma"]["box_iou"])
    rows = table(folder, "pictures.csv")
    assert len(rows) == 8  # four pictures, the reference and one rule
    assert all(0 <= float(row[key]) <= 1 for row in rows for key in localization.MEASURES)  # numbers, no repr of numpy's
    assert "| predicted | threshold | none | 0.6 | fade | centre | all | 4 |" in capsys.readouterr().out


def test_maps_are_computed_once_and_anew_when_something_changed(net, folder):
    run(folder, "--class", "predicted", "max", "--rule", "threshold", "otsu", "released", "--threshold", "0.2", "0.5")
    assert net.batches == [4]
    assert len({row["class_rule"] + row["rule"] + row["threshold"] for row in table(folder)}) == 1 + 2 * (2 + 1 + 1)
    run(folder, "--ground", "min", "median", "--placement", "stretch")
    assert net.batches == [4]
    run(folder, "--views", "ten", "centre")
    assert net.batches == [4, 10, 10, 10, 10]
    for change in (lambda: (folder / "final.caffemodel").write_bytes(b"other"),
                   lambda: (folder / "net.prototxt").write_text("# other"),
                   lambda: (folder / "out" / "cams_centre.npy").unlink(),
                   lambda: (folder / "out" / "probs_centre.npy").write_bytes(b""),
                   lambda: write_image(folder / "images" / "A1.png", np.full((256, 256, 3), 9, np.uint8)),
                   lambda: write_image(folder / "masks" / "A4_segmentation.png", np.full((256, 256), 255, np.uint8))):
        before = len(net.batches)
        change()
        more = ["--margin", str(before / 100)]  # the tables of the same rules would be up to date without maps
        assert run(folder, *more) == 0
        assert net.batches[before:] in ([4], [5])
        assert run(folder, *more) == 0
        assert len(net.batches) == before + 1


def test_maps_of_other_weights_in_the_same_folder_are_not_taken(net, folder):
    pictures, common = {"A0": folder / "images" / "A0.png"}, engine.Backend("torch").parameters()
    (folder / "other.caffemodel").write_bytes(b"longer weights")
    found = {}
    for name in ("final", "other", "final"):
        weights = folder / f"{name}.caffemodel"
        network, files = localization.load_net(None, weights, None), {"/weights": weights}
        made = maps.get_maps(network, files, common, pictures, "centre", folder / "out", 16)
        again = maps.get_maps(network, files, common, pictures, "centre", folder / "out", 1)
        np.testing.assert_array_equal(made.cams, again.cams)
        np.testing.assert_array_equal(made.cams, found.setdefault(name, made.cams))
    assert net.batches == [1, 1, 1]
    np.testing.assert_allclose(found["other"] * len(b"weights"), found["final"] * len(b"longer weights"), rtol=1e-6)
    assert found["final"].shape == (1, 1, 3, 10, 10)


def test_maps_that_lie_there_without_a_record_are_not_taken(net, folder):
    for kind in maps.Maps._fields:
        (folder / "out").mkdir(exist_ok=True)
        np.save(folder / "out" / f"{kind}_centre.npy", np.zeros((4, 3)))
    assert run(folder) == 0
    assert net.batches == [4]


def test_rules_that_differ_only_in_what_is_not_read_are_one():
    options = {"class_rule": ["max"], "rule": ["threshold", "otsu"], "ground": ["none", "min"], "threshold": [0.2, 0.4],
               "margin": 0.3}
    found = localization.rules(options)
    assert found[-1] == RegionRule(class_rule="max", rule="otsu", margin=0.3)
    assert [(rule.ground, rule.threshold) for rule in found[:-1]] == [("none", 0.2), ("none", 0.4), ("min", 0.2), ("min", 0.4)]
    assert localization.rules({}) == [RegionRule()]
    with pytest.raises(CamError, match="did you mean threshold"):
        localization.rules({"treshold": [0.2]})


def test_without_label_files_there_is_one_group_and_no_true_class(net, folder, capsys):
    assert run(folder) == 0
    assert {row["class"] for row in table(folder)} == {"all"}
    assert run(folder, "--class", "true") == 1
    assert "--truth" in capsys.readouterr().err
    (folder / "truth.csv").write_text("image_id,melanoma,seborrheic_keratosis\nA0,1,0\n")
    assert run(folder, "--truth", str(folder / "truth.csv")) == 1
    assert "no label of A1, A2, A3" in capsys.readouterr().err


@pytest.mark.parametrize(("mask", "message"), [
    (np.zeros((256, 256), np.uint8), "nothing is marked"),
    (np.full((9, 8), 255, np.uint8), "8 x 9 pixels; its picture has 256 x 256")])
def test_masks_that_cannot_be_right_are_refused_and_earlier_tables_stay(net, folder, capsys, mask, message):
    assert run(folder) == 0
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir() if path.is_file()}
    write_image(folder / "masks" / "A2_segmentation.png", mask)
    assert run(folder) == 1
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir() if path.is_file()} == before


def test_a_folder_without_masks_is_refused(net, folder, capsys):
    assert run(folder, "--masks", str(folder / "images")) == 1
    assert "no <image_id>_segmentation.png" in capsys.readouterr().err


def test_pictures_are_drawn(net, folder):
    assert run(folder, "--draw", "2") == 0
    assert sorted(path.name for path in (folder / "out" / "pictures").glob("*.jpg")) == ["A0.jpg", "A1.jpg"]
    assert read_image(folder / "out" / "pictures" / "A0.jpg").shape == (CARD + LINE, CARD, 3)  # its class and a colour bar below


def test_hiding_the_top_cells_first_takes_the_probability_away_first(net, folder, capsys):
    assert run(folder, "--deletion", "7") == 0
    rows = table(folder, "deletion.csv")
    assert [(row["image_id"], row["order"]) for row in rows[:4]] == [
        ("A0", "map"), ("A0", "random"), ("A0", "shifted"), ("A1", "map")]
    areas = {order: np.mean([float(row["area"]) for row in rows if row["order"] == order]) for order in deletion.ORDERS}
    assert areas["map"] < min(areas["random"], areas["shifted"])
    for start in range(0, len(rows), 3):  # all begin with the whole patch and end with nothing of it
        assert len({row["0"] for row in rows[start:start + 3]}) == len({row["7"] for row in rows[start:start + 3]}) == 1
    assert "by order: map" in capsys.readouterr().out


def test_the_deletion_can_follow_the_map_of_the_true_class(net, folder):
    """Of A3, whose class is another one than the network sees, that map is empty: blocks go in their order."""
    (folder / "truth.csv").write_text("image_id,melanoma,seborrheic_keratosis\nA0,1,0\nA1,0,1\nA2,0,0\nA3,0,1\n")
    more = ["--deletion", "4", "--truth", str(folder / "truth.csv"), "--class"]
    areas = {}
    for name in ("true", "predicted"):
        assert run(folder, *more, name) == 0
        areas[name] = {row["image_id"]: float(row["area"]) for row in table(folder, "deletion.csv") if row["order"] == "map"}
    assert [areas["true"][i] == areas["predicted"][i] for i in ("A0", "A1", "A2")] == [True] * 3
    assert areas["true"]["A3"] > areas["predicted"]["A3"]


def test_the_deletion_of_ten_views_hides_the_mirrored_centre(net, folder):
    assert run(folder, "--deletion", "4", "--views", "ten") == 0
    found = table(folder, "deletion.csv")
    assert run(folder, "--deletion", "4") == 0
    whole = {row["image_id"]: float(row["0"]) for row in table(folder, "deletion.csv")}
    assert [float(row["0"]) for row in found] == pytest.approx([whole[row["image_id"]] for row in found], rel=1e-5)


@pytest.mark.parametrize(("words", "message"), [
    (["--deletion", "-1"], "argument --deletion: '-1': expected a whole number from 0 to 196"),
    (["--scale", "nan"], "argument --scale: 'nan': expected a finite number"),
    (["--mean", "1", "inf", "x"], "argument --mean: 'inf': expected a finite number"),
    (["--draw", "x"], "argument --draw: 'x': expected a whole number from 0"),
    (["--masks"], "argument --masks: expected one argument"), (["--mask-folder", "x"], "'--mask-folder' is not known")])
def test_wrong_usage_is_one_line(net, folder, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        run(folder, *words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_blocks_are_hidden_where_the_map_is_high():
    patch = np.zeros((224, 224, 3), np.uint8)
    patch[16:32, 32:48] = 200
    values = np.zeros((14, 14))
    values[1, 2] = 1
    first = deletion.orders(values, "a")["map"][:1]
    assert deletion.hide(patch, first).max() == 0
    assert deletion.hide(patch, first[:0]).max() == 200


def test_blocks_divide_inputs_of_any_side():
    """A ramp that is its own coordinate, read at the middles of the blocks; every pixel is in the block that holds it."""
    side, grid = 227, Grid(33, 16, 227)
    ramp = np.tile(cell_centres(11, grid=grid), (11, 1))
    middles = (np.arange(14) + 0.5) * side / 14 - 0.5
    expected = np.clip(middles, ramp.min(), ramp.max())
    np.testing.assert_allclose(deletion.block_values(ramp, "exact", grid)[3], expected, rtol=1e-6)
    patch = np.zeros((side, side, 3), np.uint8)
    patch[:100, :100] = 200
    hidden = deletion.hide(patch, np.arange(14))  # the first row of blocks
    assert (np.flatnonzero(hidden[:, 50].any(axis=1))[0], np.flatnonzero(hidden[:, 50].any(axis=1))[-1]) == (17, 99)


def test_the_area_under_a_curve():
    assert deletion.area(np.array([1, 0, 0])) == 0.25
    assert deletion.area(np.array([1, 1])) == 1


def test_numbers_in_the_tables_are_plain_numbers(net, folder):
    """Whatever a version of NumPy makes of `repr`."""
    assert run(folder, "--deletion", "3") == 0
    for name in ("pictures.csv", "deletion.csv", "localization.csv"):
        rows = table(folder, name)
        assert rows
        assert not [value for row in rows for value in row.values() if "(" in value and "float" in value]


def test_two_runs_at_once_do_not_mix(net, folder, capsys):
    with locked((folder / "out").resolve()):
        assert run(folder) == 1
    assert "another process is writing there" in capsys.readouterr().err
    assert run(folder, "--draw", "2") == 0
    assert run(folder, "--class", "max") == 0
    assert not (folder / "out" / "pictures").exists()  # drawn under other rules

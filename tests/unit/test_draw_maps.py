"""The command ``cam`` on networks of others, and what else takes their maps: regions, localization, the deletion curve."""
import csv
import json

import numpy as np
import pytest

import torchcaffe
from data_tools.files import read_image, write_image
from pycam import forward
from pycam.__main__ import main
from pycam.cam import merge
from pycam.drawing import CARD, LINE
from pycam.region_rule import RegionRule, find
from tests.contract import cam_nets

NAMES = ["tench, Tinca tinca", "goldfish", "great white shark", "tiger shark", "hammerhead", "ray", "cock"]
ANY_ENDING = [*cam_nets.WITH_AVERAGE, cam_nets.alexnet_dense]


@pytest.fixture
def folder(tmp_path):
    random = np.random.RandomState(8)
    (tmp_path / "in").mkdir()
    for number in range(2):
        image = np.full((90, 120, 3), 40, np.uint8)
        image[20:60, 30:80] = random.randint(0, 255, (40, 50, 3))
        write_image(tmp_path / "in" / f"a{number}.png", image)
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n\n")
    return tmp_path


def other(folder, build):
    """Write a network and its weights; return the words that name them."""
    path = folder / "other.prototxt"
    path.write_text(build())
    weights = cam_nets.save(torchcaffe, path, folder / "other.caffemodel")
    return ["--net", str(path), "--weights", str(weights), "--engine", "torch"]


def cam(folder, words, *more):
    return main(["cam", str(folder / "in"), *words, "--out", str(folder / "out"), *more])


def result(folder, name="a0"):
    return json.loads((folder / "out" / f"{name}.json").read_text()), np.load(folder / "out" / f"{name}.npy")


@pytest.mark.parametrize("build", ANY_ENDING, ids=lambda build: build.__name__)
def test_networks_of_any_ending_are_mapped(folder, build, capsys):
    assert cam(folder, other(folder, build), "--top", "2") == 0
    answer, maps = result(folder)
    assert answer["method"] == ("gradcam" if build is cam_nets.alexnet_dense else "cam")
    probs = [one["probability"] for one in answer["classes"]]
    assert probs == sorted(probs, reverse=True)
    assert (len(probs), maps.shape[:2]) == (2, (1, 2))
    out = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in out] == ["a0.png", "a1.png"]
    shown = [f"{one['name']} {one['probability']:.3f}" for one in answer["classes"]]
    assert out[0] == f"a0.png: {', '.join(shown)}"
    width = round(120 * CARD / 90)
    assert read_image(folder / "out" / "a0.jpg").shape == (CARD + LINE, 3 * width, 3)


def test_boxes_and_maps_are_those_of_the_functions(folder):
    words = other(folder, cam_nets.vgg16_cam)
    assert cam(folder, words, "--classes", str(folder / "names.txt"), "--all", "--placement", "fade", "--threshold", "0.5",
               "--views", "ten", "--size", "240", "--mean", "100", "110", "120", "--scale", "0.5") == 0
    answer, maps = result(folder)
    assert sorted(one["name"] for one in answer["classes"]) == sorted(NAMES)
    network = forward.load_net(folder / "other.prototxt", folder / "other.caffemodel", classes=NAMES, size=240,
                               mean=(100, 110, 120), scale=0.5)
    image = read_image(folder / "in" / "a0.png")
    (probs,), (cams,) = forward.predict_with_maps(network, [network.views(image, "ten")])
    assert [one["number"] for one in answer["classes"]] == np.argsort(-probs).tolist()
    assert 0.2 < probs.max() < 0.9
    rule = RegionRule(placement="fade", threshold=0.5, views="ten")
    for place, one in enumerate(answer["classes"]):
        number = NAMES.index(one["name"])
        assert (one["number"], one["probability"]) == (number, pytest.approx(probs[number]))
        np.testing.assert_allclose(maps[:, place], cams[:, number], rtol=0, atol=1e-6 * np.abs(cams).max())
        found = find(rule, merge(cams[:, number], (90, 120), "fade", network.grid), "")
        assert one["box"] == found.region.box._asdict()


def test_mean_size_and_scale_change_what_the_network_sees(folder):
    words, found = other(folder, cam_nets.squeezenet), {}
    for more in ((), ("--mean", "0", "0", "0"), ("--size", "64"), ("--scale", "0.017")):
        assert cam(folder, words, *more) == 0
        found[more] = result(folder)[1].tobytes()
    assert len(set(found.values())) == 4


def test_a_layer_can_be_named(folder):
    words = other(folder, cam_nets.vgg16_cam)
    assert cam(folder, words, "--cam-layer", "conv4_3") == 0
    answer, maps = result(folder)
    assert (answer["method"], answer["blob"], maps.shape[2:]) == ("gradcam", "conv4_3", (28, 28))


def test_a_folder_named_maps_is_made_where_none_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["cam", "in/a0.png", *other(folder, cam_nets.resnet)]) == 0
    assert sorted(path.name for path in (folder / "maps").iterdir()) == ["a0.jpg", "a0.json", "a0.npy"]


def test_a_broken_file_is_told_and_the_others_go_on(folder, capsys):
    (folder / "in" / "a0.png").write_bytes((folder / "in" / "a0.png").read_bytes()[:900])
    assert cam(folder, other(folder, cam_nets.resnet)) == 1
    out, err = capsys.readouterr()
    assert [line[:7] for line in out.splitlines()] == ["a1.png:"]
    assert "error: 1 of 2 pictures could not be mapped: a0.png" in err


@pytest.mark.parametrize(("more", "said"), [
    (["--classes", "names.txt"], "fc1000 has 5 outputs; expected 7 (tench, Tinca tinca, goldfish"),
    (["--classes", "nowhere.txt"], "nowhere.txt: cannot be read"),
    (["--cam-layer", "fc100"], "layer 'fc100' is not known, did you mean fc1000?"),
    (["--cam-layer", "conv1", "--method", "cam"], "does not work on the global average of conv1"),
    (["--fc-layer", "conv1"], "conv1 has 1536 values, prob 5; name the layer that gives a score a class with --fc-layer"),
    (["--scale", "0"], "scale 0.0: expected finite numbers, and a scale that is not 0"),
    (["--size", "32"], "64 pixels a side; expected a size of at least that, not 32")])
def test_what_cannot_be_mapped_is_told_in_a_line(folder, monkeypatch, capsys, more, said):
    monkeypatch.chdir(folder)
    assert cam(folder, other(folder, cam_nets.resnet), *more) == 1
    err = capsys.readouterr().err.splitlines()
    assert len([line for line in err if line.startswith("error: ")]) == 1
    assert said in err[-1]
    assert not (folder / "out").exists()


def test_commands_for_lesions_refuse_other_classes(folder, capsys):
    words = other(folder, cam_nets.vgg16_cam)
    assert main(["predict", *words, "--images", str(folder / "in"), "--out", str(folder / "p.csv")]) == 1
    assert "CAM_fc has 7 outputs; expected 3 (melanoma, seborrheic_keratosis, nevus)" in capsys.readouterr().err


@pytest.mark.parametrize("build", [cam_nets.alexnet_cam, cam_nets.alexnet_dense], ids=lambda build: build.__name__)
def test_localization_and_the_deletion_curve_take_these_maps(folder, build, capsys):
    (folder / "masks").mkdir()
    mask = np.zeros((90, 120), np.uint8)
    mask[20:60, 30:80] = 255
    for number in range(2):
        write_image(folder / "masks" / f"a{number}_segmentation.png", mask)
    words = ["localize", *other(folder, build), "--images", str(folder / "in"), "--masks", str(folder / "masks"), "--out",
             str(folder / "out")]
    assert main([*words, "--deletion", "3", "--draw", "1", "--class", "predicted", "contrast"]) == 0
    names = [f"class {number}" for number in range(7)]
    rows = list(csv.DictReader((folder / "out" / "deletion.csv").read_text().splitlines()))
    assert len(rows) == 2 * 3
    assert all(row["class"] in names for row in rows)
    probs = np.load(folder / "out" / "probs_centre.npy")
    assert float(rows[0]["0"]) == pytest.approx(probs[0].max(), rel=1e-4)
    assert np.load(folder / "out" / "cams_centre.npy").shape[:3] == (2, 1, probs.shape[1])
    assert len(list(csv.DictReader((folder / "out" / "localization.csv").read_text().splitlines()))) == 3
    capsys.readouterr()
    assert main([*words, "--class", "scored"]) == 1
    assert "class scored: is for melanoma, seborrheic_keratosis, nevus" in capsys.readouterr().err
    assert main([*words, "--method", "gradcam"]) == 0
    assert "maps/centre: up to date" not in capsys.readouterr().out  # made in another way: not those that are there

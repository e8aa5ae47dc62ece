"""One rule from maps to a region: its values, its function, its options on the command lines."""
import argparse
from dataclasses import FrozenInstanceError, asdict, fields

import numpy as np
import pytest

from pycam import region_rule
from pycam.__main__ import make_parser
from pycam.cam import PLACEMENT, VGG_GAP, merge
from pycam.errors import CamError
from pycam.region_rule import CHOICES, SHARES, RegionRule, find, locate
from pycam.regions import Box, level, released_boxes, square_up, tight_region, to_grey

REQUIRED = {"crops": ["--net", "n", "--weights", "w", "--images", "i", "--out", "o"],
            "classify": ["i", "--stage1", "a", "--stage2", "b", "--out", "o"],
            "localize": ["--net", "n", "--weights", "w", "--images", "i", "--masks", "m", "--out", "o"]}


def blob_map():
    cam = np.zeros((100, 160))
    cam[20:40, 30:60] = 1.0
    cam[70:90, 100:150] = 0.9  # larger, but does not hold the maximum
    return cam


def test_the_strongest_component_is_squared():
    found = find(RegionRule(margin=0), blob_map(), "nevus")
    assert found.region == (Box(15, 30, 45, 60), "region")
    assert found.tight == (Box(20, 30, 40, 60), "region")
    assert (found.followed, found.lowest) == ("nevus", 0.2)
    np.testing.assert_array_equal(found.cam, blob_map())


def test_the_released_rule_starts_from_its_largest_box():
    cam = blob_map()
    assert find(RegionRule(rule="released", margin=0), cam, "").region.box == square_up(released_boxes(to_grey(cam))[0],
                                                                                       cam.shape, 0)


@pytest.mark.parametrize(("cam", "reason"), [(np.full((40, 90), 3.0), "flat"), (np.zeros((40, 90)), "nowhere positive")])
def test_a_map_without_a_region_gives_the_whole_picture_not_a_square(cam, reason):
    found = find(RegionRule(), cam, "nevus")
    assert found.region == found.tight == (Box(0, 0, 40, 90), reason)
    assert found.lowest == np.inf


@pytest.mark.parametrize("options", [{"rule": "otsu"}, {"ground": "min"}, {"ground": "median"}, {"threshold": 0.7},
                                     {"margin": 0.4}, {"placement": "stretch"}, {"placement": "fade"}, {"class_rule": "sum"},
                                     {"class_rule": "scored"}, {"class_rule": "contrast"}])
def test_every_field_has_its_part_in_the_region(options):
    """The steps are those of the modules below, in their order; and each field changes the box."""
    cams = np.random.RandomState(0).rand(1, 3, 10, 10) ** 4 + 0.1
    probs, size, usual = np.array([0.1, 0.2, 0.7]), (200, 300), RegionRule(placement="exact")
    rule = usual.changed(**options)
    maps = {"predicted": cams[:, 2], "sum": cams.sum(axis=1), "scored": cams[:, 1],
            "contrast": cams[:, 2] - cams[:, :2].mean(axis=1)}
    cam = merge(maps[rule.class_rule], size, rule.placement, VGG_GAP)
    tight = tight_region(cam, rule.rule, threshold=rule.threshold, ground=rule.ground)
    found = locate(rule, cams, probs, size, VGG_GAP)
    np.testing.assert_allclose(found.cam, cam, rtol=1e-6)
    assert found.tight == tight
    assert found.region.box == square_up(tight.box, size, rule.margin)
    assert found.lowest == level(found.cam, rule.rule, threshold=rule.threshold, ground=rule.ground)
    assert found.region != locate(usual, cams, probs, size, VGG_GAP).region


def test_a_region_reaches_the_edge_only_where_values_are_repeated():
    """D26: whatever the map, the default box stays within a cell of what the network has seen."""
    cams, probs, size = np.ones((1, 3, 10, 10)), np.array([0, 0, 1.0]), (256, 256)
    cams[..., 3:] = 0
    for placement, left in ((RegionRule().placement, 16 + 39.5 - 16), ("exact", 0)):
        found = locate(RegionRule(placement=placement, margin=0), cams, probs, size, VGG_GAP)
        assert left <= found.tight.box.x0 <= left + 4
    assert PLACEMENT == "fade"


def test_ten_views_are_merged_and_another_number_is_an_error():
    probs, size = np.array([1.0, 0, 0]), (64, 64)
    ten = np.zeros((10, 3, 10, 10))
    ten[4, 0, 2, 2] = ten[9, 0, 2, 7] = 1  # the same place, seen by the centre patch and by the mirrored one
    once = locate(RegionRule(), ten[4:5], probs, size, VGG_GAP)
    twice = locate(RegionRule(views="ten"), ten, probs, size, VGG_GAP)
    assert once.region == twice.region
    np.testing.assert_allclose(twice.cam, 2 * once.cam, atol=1e-6)
    for count in (0, 2, 5, 9, 11, 20):
        with pytest.raises(CamError, match=f"^{count} views to merge; expected 1 or 10"):
            merge(np.ones((count, 10, 10)), size)


def test_the_true_class_is_followed_where_it_is_known():
    cams = np.zeros((1, 3, 10, 10))
    cams[0, 1, 5, 5] = 1
    rule = RegionRule(class_rule="true")
    assert locate(rule, cams, np.array([1.0, 0, 0]), (64, 64), VGG_GAP, 1).followed == "seborrheic_keratosis"
    with pytest.raises(CamError, match="the true class is not known"):
        locate(rule, cams, np.array([1.0, 0, 0]), (64, 64), VGG_GAP)


# ---------------------------------------------------------------- values
@pytest.mark.parametrize("name", CHOICES)
def test_a_misspelt_value_is_answered_with_the_nearest(name):
    for value in CHOICES[name][0]:
        assert getattr(RegionRule(**{name: value}), name) == value
        with pytest.raises(CamError, match=f"region rule, {name}: '{value}x' is not known, did you mean {value}\\?"):
            RegionRule(**{name: f"{value}x"})


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("value", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_a_share_is_in_its_range(name, value):
    with pytest.raises(CamError, match=rf"region rule, {name}: {value} is not in \[0, 1\)"):
        RegionRule(**{name: value})


@pytest.mark.parametrize(("word", "nearest"), [("treshold", "threshold"), ("class", "class_rule"), ("grund", "ground"),
                                               ("view", "views"), ("Margin", "margin")])
def test_a_misspelt_field_is_answered_with_the_nearest(word, nearest):
    with pytest.raises(CamError, match=f"region rule: '{word}' is not known, did you mean {nearest}\\?"):
        RegionRule().changed(**{word: 0.5})


def test_a_rule_does_not_change():
    rule = RegionRule(threshold=0.3)
    with pytest.raises(FrozenInstanceError):
        rule.threshold = 0.4
    assert rule.changed(ground="min") == RegionRule(threshold=0.3, ground="min")
    assert rule.changed() == rule
    assert RegionRule(**asdict(rule)) == rule


def test_every_field_is_a_choice_or_a_share():
    assert sorted([*CHOICES, *SHARES]) == sorted(field.name for field in fields(RegionRule))


# ---------------------------------------------------------------- command lines
def option(name):
    return "--class" if name == "class_rule" else f"--{name}"


@pytest.mark.parametrize("command", REQUIRED)
def test_every_field_is_an_option_and_what_is_not_named_is_not_given(command):
    parser = make_parser()
    assert region_rule.given(parser.parse_args([command, *REQUIRED[command]])) == {}
    for name in (field.name for field in fields(RegionRule)):
        value = CHOICES[name][0][-1] if name in CHOICES else 0.625
        given = region_rule.given(parser.parse_args([command, *REQUIRED[command], option(name), str(value)]))
        several = command == "localize" and name != "margin"
        assert given == {name: [value] if several else value}


@pytest.mark.parametrize("command", REQUIRED)
@pytest.mark.parametrize(("words", "expected"), [
    (["--ground", "mim"], "argument --ground: 'mim' is not known, did you mean min?"),
    (["--rule", "otsi"], "argument --rule: 'otsi' is not known, did you mean otsu?"),
    (["--class", "predict"], "argument --class: 'predict' is not known, did you mean predicted?"),
    (["--tresholt", "0.5"], "'--tresholt' is not known, did you mean --threshold?"),
    (["--tresholt=0.5"], "'--tresholt' is not known, did you mean --threshold?"),
    (["--threshold", "1"], "argument --threshold: 1 is not in [0, 1)"),
    (["--margin", "0,1"], "argument --margin: 0,1 is not in [0, 1)"),
    (["--margin", "nan"], "argument --margin: nan is not in [0, 1)"),
])
def test_wrong_options_are_one_line(command, words, expected, capsys):
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args([command, *REQUIRED[command], *words])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: {expected}")
    assert err.endswith(f"; see python -m pycam {command} --help\n")


def test_several_values_are_lists():
    parser = argparse.ArgumentParser()
    region_rule.add_arguments(parser, several=True)
    words = ["--class", "max", "true", "--threshold", "0.2", "0.5", "--margin", "0.3"]
    assert region_rule.given(parser.parse_args(words)) == {"class_rule": ["max", "true"], "threshold": [0.2, 0.5], "margin": 0.3}

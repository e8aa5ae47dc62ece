"""A small part of benchmarks/hair.py, which docs/results/hair.md has whole: real pictures, painted hair of known place."""
from __future__ import annotations

import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("hair")


def test_painted_hair_is_found_and_nothing_else(bench, tmp_path) -> None:
    """The method before D18's last change had 0.961 at 0.973, IoU 0.77 and 29.9 dB on these sixteen."""
    for number in ("0000014", "0000031", "0011137", "0014603"):  # of 512 x 512
        (tmp_path / f"ISIC_{number}.jpg").symlink_to(ROOT / "examples" / f"ISIC_{number}.jpg")
    scenes = [make() for held_out in (False, True) for make in bench.scenes(tmp_path, None, held_out, 4, 0)]
    assert len(scenes) == 16
    found = bench.mean([bench.measure({"along": bench.remove_hair}, scene)["along"] for scene in scenes])
    assert found["recall"] > 0.97
    assert found["precision"] > 0.96
    assert found["IoU"] > 0.8
    assert found["PSNR in"] > 31.5
    assert found["PSNR out"] > 47
    assert found["marked"] < 0.1


def test_figures_of_a_known_find(bench) -> None:
    """Half of a hair found, and as much beside it: the tolerance is 1 px."""
    image = np.full((512, 512, 3), 200, np.uint8)
    hair, found = np.zeros((512, 512), bool), np.zeros((512, 512), bool)
    hair[100:110, 0:400] = found[100:110, 0:200] = found[300:310, 0:200] = True
    painted = bench.Painted(np.where(hair[..., None], np.uint8(20), image), hair, hair, hair)
    figures = bench.compare(bench.Scene("", None, image, None, painted), image, found)
    assert figures["strict recall"] == figures["strict precision"] == 0.5
    assert figures["IoU"] == pytest.approx(1 / 3)
    assert figures["recall"] == pytest.approx(201 / 400)
    assert figures["PSNR in"] == bench.NO_CHANGE


def test_no_picture_and_no_hair_is_in_both_parts(bench) -> None:
    parts = [[make() for make in bench.scenes(ROOT / "examples", None, held_out, 1, 0)] for held_out in (False, True)]
    names = [{scene.name for scene in part} for part in parts]
    assert names[0]
    assert names[1]
    assert not names[0] & names[1]


def test_the_same_seed_paints_the_same_hair(bench) -> None:
    one, same, other = (bench.scenes(ROOT / "examples", None, False, 1, seed)[0]() for seed in (0, 0, 1))
    assert np.array_equal(one.painted.image, same.painted.image)
    assert not np.array_equal(one.painted.hair, other.painted.hair)


def test_hair_that_is_no_darker_is_not_counted(bench) -> None:
    """On black, dark hair cannot be seen."""
    look = bench.Look("thick", "straight", "dark brown", "sharp", "many")
    black, white = (bench.paint(np.full((256, 256, 3), level, np.uint8), look, np.random.default_rng(1)) for level in (0, 255))
    assert black.hair.any()
    assert not black.dark.any()
    assert np.array_equal(white.dark, white.hair)
    assert white.touched[white.hair].all()
    assert cv2.countNonZero(white.touched.astype(np.uint8)) > white.hair.sum()

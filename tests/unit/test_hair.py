from __future__ import annotations

from typing import Tuple

import cv2
import numpy as np
import pytest

from data_tools import hair, hair_branches
from data_tools.__main__ import main
from data_tools.errors import DataError
from data_tools.hair import remove_hair
from data_tools.hair_fill import LETTER_BEYOND, fill_hair, touched
from data_tools.hair_preview import GAP, preview_sheet

HAIR = (18, 26, 40)  # BGR of a dark brown hair


def skin(height: int = 400, width: int = 512, noise: float = 2.0) -> np.ndarray:
    """Draw skin: a smooth slope of colour with a little noise."""
    rng = np.random.default_rng(1)
    slope = np.linspace(-12, 12, width)[None, :, None] + np.linspace(-8, 8, height)[:, None, None]
    grain = rng.normal(0, noise, (height, width, 3))
    return np.clip(np.array([150, 165, 205]) + slope + grain, 0, 255).astype(np.uint8)


def draw(image: np.ndarray, points: np.ndarray, thickness: int, colour: Tuple[int, ...] = HAIR) -> Tuple:
    """Draw an anti-aliased stroke on a copy; return it and the mask of the pixels it covers at least half."""
    cover = np.zeros(image.shape[:2], np.uint8)
    cv2.polylines(cover, [np.round(points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)
    alpha = cover[..., None] / 255
    return np.rint(image * (1 - alpha) + np.array(colour) * alpha).astype(np.uint8), cover >= 128


def arc(size: float = 1.0) -> np.ndarray:
    """Return an arc of some 330 px: 130 px radius, 145 degrees."""
    angle = np.radians(np.linspace(200, 345, 80))
    return size * np.stack([256 + 130 * np.cos(angle), 260 + 130 * np.sin(angle)], axis=1)


def scores(found: np.ndarray, truth: np.ndarray) -> Tuple[float, float]:
    return (found & truth).sum() / truth.sum(), (found & truth).sum() / max(1, found.sum())


@pytest.mark.parametrize("thickness", [1, 2, 4, 6])
def test_a_curved_hair_is_found_and_filled(thickness: int) -> None:
    image = skin()
    hairy, truth = draw(image, arc(), thickness)
    clean, mask = remove_hair(hairy)
    recall, precision = scores(mask, truth)
    assert recall > 0.9
    assert precision > (0.5 if thickness == 1 else 0.8)
    error = clean[truth].astype(float) - image[truth]
    assert np.sqrt(np.mean(error ** 2)) < 5
    assert np.abs(clean.astype(int) - image).max() < 40  # no dark rest anywhere


def test_crossing_and_border_hairs_leave_no_rest() -> None:
    image = skin()
    hairy, truth = image, np.zeros(image.shape[:2], bool)
    for points in ([[100, 0], [400, 399]], [[0, 300], [511, 120]], [[256, 0], [240, 399]], [[470, 399], [478, 388]]):
        hairy, covered = draw(hairy, np.array(points, float), 5)
        truth |= covered
    clean, mask = remove_hair(hairy)
    assert scores(mask, truth)[0] > 0.97
    assert np.abs(clean.astype(int) - image).max() < 45


def test_hair_that_meets_a_dark_frame_is_found_and_the_frame_stays() -> None:
    image = frame(skin())
    hairy, truth = draw(image, np.array([[200.0, 150.0], [260.0, -5.0]]), 5)
    clean, mask = remove_hair(hairy)
    assert scores(mask, truth)[0] > 0.95
    assert (clean[0, 300:500] == 20).all()


def test_the_stump_of_a_hair_at_the_edge_is_found() -> None:
    hairy, truth = draw(skin(), np.array([[300.0, -9.0], [305.0, 7.0]]), 5)
    assert scores(remove_hair(hairy)[1], truth)[0] > 0.9


def test_round_tips_and_the_middle_of_a_knot_are_found() -> None:
    hairy, truth = skin(), np.zeros((400, 512), bool)
    for angle in np.radians([10, 70, 130]):
        reach = 120 * np.array([np.cos(angle), np.sin(angle)])
        hairy, covered = draw(hairy, np.array([256, 200]) + np.stack([-reach, reach]), 6)
        truth |= covered
    mask = remove_hair(hairy)[1]
    assert scores(mask, truth)[0] > 0.98
    assert mask[190:210, 246:266][truth[190:210, 246:266]].mean() > 0.97


@pytest.mark.parametrize("method", ["along", "letter"])
def test_contract_of_what_is_returned(method: str) -> None:
    hairy, _ = draw(skin(), np.array([[20.0, 200.0], [500.0, 200.0]]), 3)
    before = hairy.copy()
    clean, mask = remove_hair(hairy, method=method)
    assert (clean.shape, clean.dtype, mask.shape, mask.dtype) == (hairy.shape, np.uint8, hairy.shape[:2], bool)
    assert mask.any()
    assert np.array_equal(hairy, before)
    outside = touched(mask) == 0
    assert np.array_equal(clean[outside], hairy[outside])


@pytest.mark.parametrize("method", ["along", "letter"])
def test_without_hair_the_picture_comes_back_bit_for_bit(method: str) -> None:
    image = skin()
    clean, mask = remove_hair(image, method=method)
    assert not mask.any()
    assert np.array_equal(clean, image)
    assert clean is not image


def lesion_edge(image: np.ndarray) -> np.ndarray:
    lesion = cv2.GaussianBlur(cv2.circle(np.zeros(image.shape[:2], np.float32), (256, 200), 110, 1.0, -1), (0, 0), 3)
    return np.rint(image * (1 - 0.6 * lesion[..., None])).astype(np.uint8)


def network(image: np.ndarray) -> np.ndarray:
    """Draw a pigment network: dark honeycomb lines 2-3 px wide around bright holes of 11 px."""
    y, x = np.mgrid[:image.shape[0], :image.shape[1]]
    row = y // 11
    hole = np.hypot((x + 5.5 * (row % 2)) % 11 - 5.5, y % 11 - 5.5) < 4.2
    inside = np.hypot(x - 256, y - 200) < 120
    line = cv2.GaussianBlur(np.where(inside & ~hole, 1.0, 0.0), (0, 0), 0.8)
    return np.rint(image * (1 - line[..., None] * (0.4, 0.3, 0.18))).astype(np.uint8)


def specks(image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(3)
    spotted = image.copy()
    for x, y in rng.integers(10, 390, (60, 2)):
        cv2.circle(spotted, (int(x), int(y)), int(rng.integers(2, 6)), HAIR, -1, cv2.LINE_AA)
    return spotted


def frame(image: np.ndarray) -> np.ndarray:
    framed = image.copy()
    framed[:2], framed[:, -1] = 20, 30
    return framed


@pytest.mark.parametrize("paint", [lesion_edge, network, specks, frame])
def test_what_is_not_hair_stays(paint) -> None:
    image = paint(skin())
    assert np.abs(image.astype(int) - skin()).max() > 50  # the picture does hold something dark
    clean, mask = remove_hair(image)
    assert mask.mean() < 0.002
    assert np.mean(np.any(clean != image, axis=2)) < 0.004


def test_hair_over_a_network_is_told_from_it() -> None:
    image = network(skin())
    hairy, truth = draw(image, arc(), 4)
    _, mask = remove_hair(hairy)
    recall, precision = scores(mask, truth)
    assert recall > 0.95
    assert precision > 0.45  # some meshes that touch the hair go with it
    assert mask.mean() < 2.5 * truth.mean()


def test_ink_and_pigment_that_are_bright_in_one_channel_stay() -> None:
    inked, _ = draw(skin(), arc(), 4, colour=(190, 60, 190))
    assert not remove_hair(inked)[1].any()


@pytest.mark.parametrize("size", [0.5, 2.5, 5.0])
def test_lengths_scale_with_the_picture(size: float) -> None:
    image = skin(int(400 * size), int(512 * size))
    hairy, truth = draw(image, arc(size), max(1, round(4 * size)))
    recall, precision = scores(remove_hair(hairy)[1], truth)
    assert recall > 0.93
    assert precision > 0.75


def test_a_short_hair_of_a_small_picture_is_long_enough() -> None:
    hairy, truth = draw(skin(100, 128), np.array([[50.0, 40.0], [68.0, 52.0]]), 1)
    assert scores(remove_hair(hairy)[1], truth)[0] > 0.8


def test_large_pictures_are_searched_at_the_reference_size() -> None:
    small, unit = hair._reduced(np.zeros((2000, 3000, 3), np.uint8))
    assert small.shape == (427, 640, 3)
    assert unit == 1


def test_a_turned_picture_gives_the_turned_mask() -> None:
    hairy, _ = draw(skin(), arc(), 4)
    turned = np.ascontiguousarray(np.rot90(hairy))
    upright, mask = remove_hair(hairy)[1], np.rot90(remove_hair(turned)[1], -1)
    assert (upright & mask).sum() / (upright | mask).sum() > 0.95


def test_the_letter_finds_straight_hair_and_misses_curved() -> None:
    straight, truth = draw(skin(), np.array([[20.0, 200.0], [500.0, 200.0]]), 3)
    assert scores(remove_hair(straight, method="letter")[1], truth)[0] > 0.9
    curved, truth = draw(skin(), arc(), 3)
    assert scores(remove_hair(curved, method="letter")[1], truth)[0] < 0.5
    assert scores(remove_hair(curved)[1], truth)[0] > 0.9


def test_the_letter_uses_the_elements_of_1997() -> None:
    row = hair._line(hair.LETTER_LINE, 0)
    diagonal = hair._line(hair.LETTER_DIAGONAL, np.pi / 4)
    assert row.shape == (11, 11)
    assert row[5].all()
    assert row.sum() == 11
    assert np.array_equal(diagonal, np.eye(7, dtype=np.uint8))


def test_fill_is_the_linear_blend_of_both_sides() -> None:
    """On a constant gradient across the hair, interpolation restores the gradient exactly."""
    ramp = np.broadcast_to((60 + 4 * np.arange(40, dtype=np.uint8))[None, :, None], (50, 40, 3)).copy()
    mask = np.zeros((50, 40), bool)
    mask[:, 18:23] = True
    spoilt = ramp.copy()
    spoilt[mask] = 0
    filled = fill_hair(spoilt, mask)
    assert np.abs(filled.astype(int) - ramp).max() <= 1


def test_the_letter_fills_from_eleven_pixels_outside() -> None:
    picture = np.full((60, 80, 3), 200, np.uint8)
    picture[:, 30:50] = 100  # darker skin right beside the hair
    mask = np.zeros((60, 80), bool)
    mask[:, 38:42] = True
    assert LETTER_BEYOND == 11
    assert fill_hair(picture, mask)[30, 40, 0] == 100
    assert fill_hair(picture, mask, letter=True)[30, 40, 0] == 200


def test_nothing_but_hair_stays_as_it_is() -> None:
    image = skin(40, 40)
    assert np.array_equal(fill_hair(image, np.ones((40, 40), bool)), image)


@pytest.mark.parametrize(("code", "arms"), [(0b00000001, 1), (0b00010001, 2), (0b01010100, 3), (0b00011100, 3), (0, 0)])
def test_arms_of_a_skeleton_pixel(code: int, arms: int) -> None:
    assert hair_branches._arms_of(code) == arms


def test_arms_follow_the_neighbours_around_the_pixel() -> None:
    cross = np.zeros((7, 7), np.uint8)
    cross[3, 1:6] = cross[3:6, 3] = 1
    arms = hair_branches._arms(cross)
    assert (arms[3, 1], arms[3, 5], arms[5, 3], arms[3, 3]) == (1, 1, 1, 3)
    assert arms[3, 2] == 2
    assert not arms[cross == 0].any()


@pytest.mark.parametrize(("image", "method", "words"), [
    (np.zeros((9, 9), np.uint8), "along", "9 x 9 of uint8"),
    (np.zeros((9, 9, 4), np.uint8), "along", "9 x 9 x 4"),
    (np.zeros((9, 9, 3), np.float32), "along", "float32"),
    (np.zeros((0, 9, 3), np.uint8), "along", "0 x 9 x 3"),
    (None, "along", "NoneType"),
    (np.zeros((9, 9, 3), np.uint8), "inpaint", "along, letter"),
])
def test_bad_input_is_one_clear_line(image, method: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        remove_hair(image, method=method)
    assert "\n" not in str(caught.value)


def test_preview_puts_three_panels_side_by_side() -> None:
    image = skin(100, 200)
    mask = np.zeros((100, 200), bool)
    mask[40:60] = True
    sheet = preview_sheet(image, 255 - image, mask, width=100)
    assert sheet.shape == (50, 3 * 100 + 2 * GAP, 3)
    assert tuple(sheet[25, 100 + GAP + 50]) == (0, 255, 0)
    assert preview_sheet(image, image, mask).shape == (100, 3 * 200 + 2 * GAP, 3)


def test_preview_command_writes_the_sheet(tmp_path) -> None:
    hairy, _ = draw(skin(100, 128), np.array([[10.0, 20.0], [110.0, 70.0]]), 3)
    cv2.imwrite(str(tmp_path / "hairy.png"), hairy)
    assert main(["hair-preview", str(tmp_path / "hairy.png"), "--out", str(tmp_path / "new" / "sheet.png")]) == 0
    sheet = cv2.imread(str(tmp_path / "new" / "sheet.png"))
    assert np.array_equal(sheet, preview_sheet(hairy, *remove_hair(hairy)))


def test_preview_command_refuses_in_one_line(tmp_path, capsys) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert main(["hair-preview", str(tmp_path / "broken.jpg"), "--out", str(tmp_path / "sheet.jpg")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "sheet.jpg").exists()

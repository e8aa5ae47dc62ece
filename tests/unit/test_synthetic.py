import cv2
import numpy as np
import pytest

from data_tools import synthetic
from data_tools.augment import resize_square
from data_tools.files import read_image
from data_tools.isic import find_split, load_samples

SMALL = {"height": 150, "width": 200}


def picture(label, number=0, **size):
    return synthetic.make_picture(np.random.default_rng([9, number]), label, **size)


def roughness(image, mask):
    """Median size of the second difference inside a region: how much of the finest texture is there."""
    inside = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0
    return float(np.median(np.abs(cv2.Laplacian(image[:, :, 1].astype(np.float32), -1))[inside]))


def test_pictures_have_the_form_that_was_asked_for():
    image, mask = picture(0)
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((600, 800, 3), np.uint8, (600, 800), bool)
    assert picture(0, height=90, width=120).image.shape == (90, 120, 3)
    np.testing.assert_array_equal(picture(1, 4).image, picture(1, 4).image)
    assert (picture(1, 4).image != picture(1, 5).image).any()


def test_the_lesion_is_dark_and_covers_a_small_part_somewhere():
    pictures = [picture(number % 3, number) for number in range(30)]
    for image, mask in pictures:
        assert 0.045 < mask.mean() < 0.15
        assert image[mask].mean() < 0.8 * image[~mask].mean()
    centres = np.array([np.argwhere(mask).mean(0) for _, mask in pictures])
    assert (centres.std(0) > [50, 80]).all()


def test_the_classes_fine_texture_is_in_the_full_picture_and_not_in_the_small_one(monkeypatch):
    monkeypatch.setattr(synthetic, "HAIRS", (0, 0))
    monkeypatch.setattr(synthetic, "GRAIN", (0.1, 0.1))
    full, small = np.zeros((2, 3, 6))
    for label in range(3):
        for number in range(6):
            image, mask = picture(label, number)
            full[label, number] = roughness(image, mask)
            shrunk = cv2.resize(mask.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) > 0
            small[label, number] = roughness(resize_square(image), shrunk)
    for label in (0, 1):  # against the same lesions without texture
        assert (full[label] > 2 * full[2]).all()
        assert np.median(small[label] / small[2] - 1) < 0.3 * np.median(full[label] / full[2] - 1)


def test_textures_leave_the_mean_alone_so_that_only_the_weak_cue_is_coarse(monkeypatch):
    monkeypatch.setattr(synthetic, "TRUTHFUL", 0.0)

    def mean(label, number):
        image, mask = picture(label, number)
        return image[mask].mean()
    means = np.array([[mean(label, number) for number in range(8)] for label in range(3)])
    assert np.abs(means - means[2]).max() < 3.0  # grey levels, of the same lesion; black patches clip the texture a little


def test_the_coarse_cue_separates_but_not_well():
    def blue(label, number):
        image, mask = picture(label, number, **SMALL)
        tone = image[mask].mean(0)
        return tone[0] / tone[2]
    melanoma, nevus = (np.array([blue(label, 1000 * label + number) for number in range(100)]) for label in (0, 2))
    auc = (melanoma[:, None] > nevus).mean()
    assert 0.65 < auc < 0.95


def test_a_root_is_a_data_set_that_is_found_and_is_the_same_each_time(tmp_path):
    for name in "ab":
        synthetic.make_root(tmp_path / name, {"train": 20, "val": 10, "test": 0}, seed=3, **SMALL)
    samples = load_samples(*find_split(tmp_path / "a", "train"))
    assert [sum(sample.label == label for sample in samples) for label in range(3)] == [7, 6, 7]
    assert [sample.label for sample in samples] != sorted(sample.label for sample in samples)
    assert len(load_samples(*find_split(tmp_path / "a", "val"))) == 10
    names = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(names) == 2 * 30 + 2 + 1
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    sample = samples[0]
    mask = cv2.imread(str(tmp_path / "a" / "masks" / f"{sample.image_id}_segmentation.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == read_image(sample.path).shape[:2] == (150, 200)
    assert set(np.unique(mask)) == {0, 255}


def test_more_processes_draw_the_same(tmp_path):
    for jobs in (1, 2):
        synthetic.make_root(tmp_path / str(jobs), {"train": 9, "val": 4}, jobs=jobs, **SMALL)
    names = [path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file()]
    assert len(names) == 2 * 13 + 2 + 1
    assert all((tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes() for name in names)


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_labels_have_the_wanted_shares(count):
    counts = np.bincount(synthetic._labels(count, 1, 0), minlength=3)
    assert counts.sum() == count
    assert np.abs(counts - np.array(synthetic.SHARES) * count).max() <= 1

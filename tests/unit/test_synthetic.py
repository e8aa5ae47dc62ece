import cv2
import numpy as np
import pytest

from data_tools import synthetic, synthetic_picture
from data_tools.augment import resize_square
from data_tools.files import read_image
from data_tools.isic import find_split, load_samples

SMALL = {"height": 150, "width": 200}


def picture(label, number=0, **size):
    return synthetic_picture.make_picture(np.random.default_rng([9, number]), label, **size)


DEMO = {"height": 330, "width": 440}


def fine(image, mask):
    """Return what is finer than a few pixels, inside a region."""
    inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
    green = image[:, :, 1].astype(np.float32)
    return (green - cv2.GaussianBlur(green, (0, 0), 3))[inside]


def bare(monkeypatch):
    """Draw no hair, and neither globules nor grain: what is fine in a lesion is its class's texture."""
    for name in ("HAIRS", "GLOBULES"):
        monkeypatch.setattr(synthetic_picture, name, (0, 0))
    monkeypatch.setattr(synthetic_picture, "GRAIN", (0.0, 0.0))


def test_pictures_have_the_form_that_was_asked_for():
    image, mask = picture(0)
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((600, 800, 3), np.uint8, (600, 800), bool)
    assert picture(0, height=90, width=120).image.shape == (90, 120, 3)
    np.testing.assert_array_equal(picture(1, 4).image, picture(1, 4).image)
    assert (picture(1, 4).image != picture(1, 5).image).any()


def test_the_lesion_is_dark_and_covers_a_small_part_somewhere():
    pictures = [picture(number % 3, number) for number in range(30)]
    for image, mask in pictures:
        assert 0.025 < mask.mean() < 0.11
        assert image[mask].mean() < 0.8 * image[~mask].mean()
    centres = np.array([np.argwhere(mask).mean(0) for _, mask in pictures])
    assert (centres.std(0) > [50, 80]).all()


def test_the_fine_texture_is_in_the_full_picture_and_hardly_in_the_small_one(monkeypatch):
    bare(monkeypatch)

    def both(number):
        image, mask = picture(2 * (number % 2), number, **DEMO)
        shrunk = cv2.resize(mask.astype(np.uint8), (110, 110), interpolation=cv2.INTER_NEAREST) > 0
        return fine(image, mask).std(), fine(resize_square(image, 110), shrunk).std()
    textured = np.array([both(number) for number in range(12)])
    monkeypatch.setattr(synthetic_picture, "TEXTURE", (0.0, 0.0, 0.0))
    full, small = (textured / [both(number) for number in range(12)]).T  # against the same lesions without texture
    assert full.min() > 2
    assert np.median(small) - 1 < 0.3 * (np.median(full) - 1)


def test_dots_are_dark_and_the_holes_of_the_net_are_light(monkeypatch):
    bare(monkeypatch)
    for number in range(6):
        dots, none, net = (fine(*picture(label, number)) for label in range(3))
        assert np.median(dots) > dots.mean() + 0.05 * dots.std()
        assert np.median(net) < net.mean() - 0.05 * net.std()
        assert none.std() < 0.5 * min(dots.std(), net.std())


def test_textures_leave_the_mean_alone_so_that_only_the_weak_cue_is_coarse(monkeypatch):
    monkeypatch.setattr(synthetic_picture, "TRUTHFUL", 0.0)

    def mean(label, number):
        image, mask = picture(label, number)
        return image[mask].mean()
    means = np.array([[mean(label, number) for number in range(8)] for label in range(3)])
    assert np.abs(means - means[1]).max() < 8.0  # grey levels, of the same lesion; thick pigment takes less than its share


def test_the_coarse_cue_separates_but_not_well():
    def blue(label, number):
        image, mask = picture(label, number, **SMALL)
        tone = image[mask].mean(0)
        return tone[0] / tone[2]
    melanoma, keratosis = (np.array([blue(label, 1000 * label + number) for number in range(100)]) for label in (0, 1))
    auc = (melanoma[:, None] > keratosis).mean()
    assert 0.65 < auc < 0.95


def test_lesions_have_the_colours_of_skin():
    for number in range(60):
        image, mask = picture(number % 3, number, **SMALL)
        blue, green, red = image[mask].mean(0)
        assert green < 1.05 * red
        assert blue < 1.25 * red
        assert green < 1.5 * blue + 40


def test_in_some_pictures_are_a_ruler_and_dark_corners(monkeypatch):
    def drawn(ruler, corners):
        monkeypatch.setattr(synthetic_picture, "RULER", ruler)
        monkeypatch.setattr(synthetic_picture, "CORNERS", corners)
        return picture(0).image.astype(int)
    plain, ruled, cornered = drawn(0, 0), drawn(1, 0), drawn(0, 1)
    changed = (plain != ruled).any(axis=2)
    assert not changed[:-max(synthetic_picture.TICKS) - 2].any()
    assert changed[-5].sum() > 50  # lines a dozen pixels apart
    assert cornered[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 20
    np.testing.assert_array_equal(cornered[100:-100, 150:-150], plain[100:-100, 150:-150])
    drawn(0, 0.25)
    whole = [(picture(0, number, **SMALL).image[0, 0] > 20).all() for number in range(40)]
    assert 0.5 < np.mean(whole) < 0.95


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

import json
import os

import cv2
import numpy as np
import pytest

from data_tools import clean, isic, steps
from data_tools import files as files_module
from data_tools.errors import DataError
from data_tools.files import encode_image, read_image, write_image
from data_tools.isic import Sample

SKIN = np.zeros((120, 160, 3), np.uint8) + np.array([150, 172, 214], np.uint8)


def hairy(image):
    picture = image.copy()
    cv2.line(picture, (10, 20), (150, 90), (20, 25, 30), 2)
    return picture


def paint(image, method):
    """Stand in for hair removal: whatever is dark is hair and becomes skin."""
    mask = image[:, :, 0] < 100
    calls.append(method)
    result = image.copy()
    result[mask] = SKIN[0, 0]
    return result, mask


calls = []


@pytest.fixture
def samples(tmp_path, monkeypatch):
    monkeypatch.setattr(clean, "remove_hair", paint)
    calls.clear()
    source = tmp_path / "source"
    source.mkdir()
    (source / "bare.JPG").write_bytes(encode_image(SKIN, ".jpg", 60))
    write_image(source / "hair1.png", hairy(SKIN))
    write_image(source / "hair2.jpg", hairy(SKIN))
    return [Sample("bare", 2, source / "bare.JPG"), Sample("hair1", 0, source / "hair1.png"),
            Sample("hair2", 1, source / "hair2.jpg")]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != clean.RECORD}


def test_what_a_killed_worker_left_is_swept_at_the_end(samples, tmp_path, monkeypatch):
    """Another worker takes its pictures over, and the folder is as if it had never been there."""
    def leave(files):
        for path in files:
            path.with_name(f".{path.name}.1a{files_module.PARTIAL}").write_bytes(b"half")
        files_module.write_together(files)

    clean.clean(samples, tmp_path / "alone", masks=tmp_path / "alone_masks")
    monkeypatch.setattr(clean, "write_together", leave)
    clean.clean(samples, tmp_path / "out", masks=tmp_path / "masks")
    assert content(tmp_path / "out") == content(tmp_path / "alone")
    assert content(tmp_path / "masks") == content(tmp_path / "alone_masks")


def test_bare_pictures_are_copied_and_hairy_ones_encoded_anew(samples, tmp_path):
    shares = clean.clean(samples, tmp_path / "out")
    made = content(tmp_path / "out")
    assert sorted(made) == ["bare.jpg", "groundtruth.csv", "hair1.jpg", "hair2.jpg"]
    assert made["bare.jpg"] == samples[0].path.read_bytes()
    assert made["hair1.jpg"] == encode_image(SKIN, ".jpg", 95)
    assert shares[0] == 0 < shares[1]
    assert isic.load_samples(tmp_path / "out") == [
        (sample.image_id, sample.label, tmp_path / "out" / f"{sample.image_id}.jpg") for sample in samples]


def test_png_and_masks(samples, tmp_path):
    clean.clean(samples, tmp_path / "out", suffix=".png", masks=tmp_path / "masks")
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "hair1.png"), SKIN)
    mask = cv2.imread(str(tmp_path / "masks" / "hair1_hair.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, (hairy(SKIN)[:, :, 0] < 100) * 255)
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [
        "bare_hair.png", "hair1_hair.png", "hair2_hair.png"]


def test_method_reaches_the_hair_removal_and_none_copies_everything(samples, tmp_path):
    clean.clean(samples, tmp_path / "letter", hair="letter")
    assert calls == ["letter"] * 3
    clean.clean(samples, tmp_path / "none", hair="none")
    assert len(calls) == 3
    for sample in samples:
        name = f"{sample.image_id}{sample.path.suffix.lower()}"
        assert (tmp_path / "none" / name).read_bytes() == sample.path.read_bytes()


def test_a_stopped_run_goes_on_where_it_was(samples, tmp_path, monkeypatch):
    def stop(image, method):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return paint(image, method)
    monkeypatch.setattr(clean, "remove_hair", stop)
    with pytest.raises(KeyboardInterrupt):
        clean.clean(samples, tmp_path / "out")
    assert sorted(content(tmp_path / "out")) == ["bare.jpg", "hair1.jpg"]  # no groundtruth.csv: not complete
    monkeypatch.setattr(clean, "remove_hair", paint)
    assert len(clean.clean(samples, tmp_path / "out")) == 1
    clean.clean(samples, tmp_path / "straight")
    assert content(tmp_path / "out") == content(tmp_path / "straight")


@pytest.mark.parametrize(("loss", "times"), [(0, 3), (60, 1)])
def test_quick_pictures_are_written_together_slow_ones_at_once(samples, tmp_path, monkeypatch, loss, times):
    """Whatever is written together, a picture comes after its mask: where the picture is, it is not made again."""
    written = []
    monkeypatch.setattr(clean, "LOSS", loss)
    monkeypatch.setattr(clean, "write_together", lambda contents: written.append([path.name for path in contents]))
    clean._clean_some(samples, tmp_path, "along", tmp_path, ".jpg")
    assert len(written) == times
    names = ["bare_hair.png", "bare.jpg", "hair1_hair.png", "hair1.jpg", "hair2_hair.png", "hair2.jpg"]
    assert [name for together in written for name in together] == names


def test_a_second_run_that_is_stopped_is_not_taken_as_complete(samples, tmp_path, monkeypatch):
    clean.clean(samples, tmp_path / "out")
    monkeypatch.setattr(clean, "remove_hair", lambda image, method: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clean.clean(samples, tmp_path / "out", suffix=".png")
    assert content(tmp_path / "out") == {}


def test_a_second_run_makes_what_changed_and_only_that(samples, tmp_path):
    clean.clean(samples, tmp_path / "out")
    assert clean.clean(samples, tmp_path / "out") == []
    write_image(samples[1].path, SKIN)
    assert clean.clean(samples, tmp_path / "out") == [0]
    assert sorted(content(tmp_path / "out")) == ["bare.jpg", "groundtruth.csv", "hair1.png", "hair2.jpg"]
    (tmp_path / "out" / "hair2.jpg").unlink()
    assert len(clean.clean(samples, tmp_path / "out")) == 1


def test_other_parameters_make_everything_anew_and_leave_no_old_format(samples, tmp_path):
    clean.clean(samples, tmp_path / "out")
    assert len(clean.clean(samples, tmp_path / "out", suffix=".png")) == 3
    clean.clean(samples, tmp_path / "straight", suffix=".png")
    assert content(tmp_path / "out") == content(tmp_path / "straight")


def test_copies_made_by_other_hair_removal_code_are_made_anew(samples, tmp_path, monkeypatch):
    clean.clean(samples, tmp_path / "out")
    monkeypatch.setattr(clean, "CODE", ("data_tools.hair",))
    assert len(clean.clean(samples, tmp_path / "out")) == 3
    assert clean.clean(samples, tmp_path / "out") == []


def test_content_decides_and_no_time(samples, tmp_path):
    clean.clean(samples, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir() if path.name != clean.RECORD}
    os.utime(samples[0].path, ns=(1, 1))
    assert clean.clean(samples, tmp_path / "out") == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    status, other = samples[1].path.stat(), samples[1].path.read_bytes()[:-1] + b"x"  # in a checksum that OpenCV passes over
    samples[1].path.write_bytes(other)
    os.utime(samples[1].path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(clean.clean(samples, tmp_path / "out")) == 1  # of the same size and time, but seen


def test_a_copy_that_was_changed_is_made_again(samples, tmp_path):
    clean.clean(samples, tmp_path / "out")
    whole = content(tmp_path / "out")
    (tmp_path / "out" / "hair1.jpg").write_bytes(whole["bare.jpg"])
    assert len(clean.clean(samples, tmp_path / "out")) == 1
    assert content(tmp_path / "out") == whole


def test_labels_that_change_are_written_without_making_pictures(samples, tmp_path):
    clean.clean(samples, tmp_path / "out")
    relabelled = [sample._replace(label=2) for sample in samples]
    assert clean.clean(relabelled, tmp_path / "out") == []
    assert set(isic.read_groundtruth(tmp_path / "out" / "groundtruth.csv").values()) == {2}


def test_unreadable_pictures_are_named_and_the_others_are_kept(samples, tmp_path):
    whole = samples[1].path.read_bytes()
    samples[1].path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"1 of 3 pictures cannot be read: hair1; .*hair1.png: cut off"):
        clean.clean(samples, tmp_path / "out")
    assert sorted(content(tmp_path / "out")) == ["bare.jpg", "hair2.jpg"]
    samples[1].path.write_bytes(whole)
    assert len(clean.clean(samples, tmp_path / "out")) == 1


def test_folders_of_others_are_not_touched(samples, tmp_path):
    with pytest.raises(DataError, match="holds the original pictures"):
        clean.clean(samples, samples[0].path.parent)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="files that were not made here"):
        clean.clean(samples, tmp_path / "other")
    clean.clean(samples, tmp_path / "out")
    (tmp_path / "out" / clean.RECORD).write_text(json.dumps([1]))
    assert len(clean.clean(samples, tmp_path / "out")) == 3  # a damaged record tells nothing, but whose the folder is


def test_the_real_hair_removal_gives_the_same_files_with_two_processes(tmp_path):
    noise = np.random.RandomState(0).randint(-3, 4, SKIN.shape)
    (tmp_path / "source").mkdir()
    samples = []
    for number in range(3):
        path = tmp_path / "source" / f"p{number}.png"
        write_image(path, ((hairy(SKIN) if number else SKIN) + noise).astype(np.uint8))
        samples.append(Sample(path.stem, 2, path))
    one = clean.clean(samples, tmp_path / "one", jobs=1)
    assert clean.clean(samples, tmp_path / "two", jobs=2) == one
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert one[0] == 0 < one[1]


def test_copies_of_cleaned_pictures_tell_how_they_were_cleaned(samples, tmp_path):
    """As the folds of an experiment have them, whose stage 2 classify asks for the method."""
    clean.clean(samples, tmp_path / "first", hair="letter")
    clean.clean(isic.load_samples(tmp_path / "first"), tmp_path / "fold", hair="none")
    clean.clean(samples, tmp_path / "plain", hair="none")
    told = {name: steps.find_record(tmp_path / name).parameters["pictures"] for name in ("first", "fold", "plain")}
    assert told == {"first": {"hair": "letter"}, "fold": {"hair": "letter"}, "plain": {"hair": "none"}}

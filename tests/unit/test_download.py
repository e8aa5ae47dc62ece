"""Getting the data set from a local server: 2750 tiny pictures in archives like the challenge's."""

import io
import shutil
import subprocess
import zipfile

import numpy as np
import pytest

from data_tools import download, transfer
from data_tools.__main__ import main
from data_tools.files import encode_image
from data_tools.isic import SPLITS, find_split, load_samples, read_groundtruth

JPEG = encode_image(np.full((8, 8, 3), 90, np.uint8), ".jpg")
PNG = encode_image(np.zeros((8, 8), np.uint8), ".png")
FIRST = {"train": 0, "val": 5000, "test": 9000}  # number of a split's first picture


def ids(split):
    return [f"ISIC_{FIRST[split] + n:07d}" for n in range(sum(download.COUNTS[split]))]


def table(split):
    melanoma, keratosis, _ = download.COUNTS[split]
    rows = [f"{name},{float(n < melanoma)},{float(melanoma <= n < melanoma + keratosis)}" for n, name in enumerate(ids(split))]
    return "\n".join(["image_id,melanoma,seborrheic_keratosis", *rows, ""])


def archive(name, ending, content, split):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr(f"{name}/{name}_metadata.csv", "image_id,age\n")
        for image_id in ids(split):
            out.writestr(f"{name}/{image_id}{ending}", content)
        out.writestr(f"{name}/{ids(split)[0]}_superpixels.png", PNG)
    return file.getvalue()


@pytest.fixture(scope="module")
def source(serve, tmp_path_factory):
    """Return a folder with everything that the challenge offers, and its address."""
    folder = tmp_path_factory.mktemp("source")
    for split in SPLITS:
        (folder / download.labels_name(split)).write_text(table(split))
        for part, content in ((download.pictures(split), JPEG), (download.masks(split), PNG)):
            (folder / f"{part.name}.zip").write_bytes(archive(*part, content, split))
    return folder, serve(folder)[0]


@pytest.fixture
def copy(source, tmp_path):
    """Return a folder into which the label file and the pictures of the validation split were put by hand."""
    for name in (download.labels_name("val"), f"{download.pictures('val').name}.zip"):
        shutil.copy(source[0] / name, tmp_path)
    return tmp_path


def run(folder, *words):
    return main(["download", "--out", str(folder), "--jobs", "1", *words])


NOWHERE = ["--base", "http://127.0.0.1:1/", "--split", "val"]
VAL = ["--check", "--split", "val"]


def test_everything_is_fetched_checked_and_found_again(source, tmp_path, capsys):
    assert run(tmp_path, "--base", source[1]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: train 2000 pictures, melanoma 374, seborrheic_keratosis 254, nevus 1372: complete",
        f"{tmp_path}: val 150 pictures, melanoma 30, seborrheic_keratosis 42, nevus 78: complete",
        f"{tmp_path}: test 600 pictures, melanoma 117, seborrheic_keratosis 90, nevus 393: complete"]
    assert [len(load_samples(*find_split(tmp_path, split))) for split in SPLITS] == [2000, 150, 600]
    names = {path.name for path in tmp_path.rglob("*")}
    assert not [name for name in names if "superpixels" in name or "metadata" in name or name.startswith(".")]
    assert f"{ids('test')[-1]}_segmentation.png" in names
    assert len(download.read_sums(tmp_path / download.SUMS)) == 3 + 6 + 2 * 2750
    checked = subprocess.run(["sha256sum", "--check", "--quiet", download.SUMS], cwd=str(tmp_path), check=False)
    assert checked.returncode == 0
    assert run(tmp_path, "--base", "http://127.0.0.1:1/") == 0  # nothing is asked for


def test_files_put_there_by_hand_are_taken(copy, capsys):
    assert run(copy, *NOWHERE) == 1
    assert f"put ISIC-2017_Validation_Part1_GroundTruth.zip into {copy}/ by hand" in capsys.readouterr().err
    assert run(copy, *VAL) == 0  # masks need not be there


def test_without_a_network_one_line_says_what_to_put_where(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "WAITS", (0,))
    assert run(tmp_path, *NOWHERE) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: http://127.0.0.1:1/ISIC-2017_Validation_Part3_GroundTruth.csv: cannot be reached (")
    assert f"put ISIC-2017_Validation_Part3_GroundTruth.csv into {tmp_path}/ by hand" in line
    assert line.count("\n") == 1


def test_a_cut_archive_is_refused_and_a_damaged_member_too(source, copy, capsys):
    place = copy / f"{download.pictures('val').name}.zip"
    whole = place.read_bytes()
    place.write_bytes(whole[:-100])
    assert run(copy, *NOWHERE) == 1
    assert "no sound zip archive (File is not a zip file); delete it and run this again" in capsys.readouterr().err
    spoilt = bytearray(whole)
    spoilt[whole.index(JPEG, 9000) + 50] ^= 1
    place.write_bytes(bytes(spoilt))
    assert run(copy, *NOWHERE) == 1
    assert "no sound zip archive (Bad CRC-32 for file" in capsys.readouterr().err
    place.write_bytes(whole)
    assert run(copy, *NOWHERE) == 1  # now only the masks are missing
    assert "Part1" in capsys.readouterr().err


def test_what_an_archive_lacks_is_named(copy, capsys):
    place = copy / f"{download.pictures('val').name}.zip"
    with zipfile.ZipFile(place, "w") as out:
        for image_id in ids("val")[2:]:
            out.writestr(f"x/{image_id}.jpg", JPEG)
    assert run(copy, *NOWHERE) == 1
    assert "lacks 2 of 150 files: ISIC_0005000.jpg, ISIC_0005001.jpg; get it again" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../ISIC_0005000.jpg", "/tmp/ISIC_0005000.jpg", "a/../../x", "..\\x"])
def test_no_archive_writes_outside(copy, capsys, name):
    with zipfile.ZipFile(copy / f"{download.pictures('val').name}.zip", "a") as out:
        out.writestr(name, JPEG)
    assert run(copy, *NOWHERE) == 1
    assert "a path that leads outside" in capsys.readouterr().err
    assert not (copy.parent / "ISIC_0005000.jpg").exists()
    assert list((copy / download.pictures("val").name).iterdir()) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(copy, capsys):
    with zipfile.ZipFile(copy / f"{download.pictures('val').name}.zip", "a") as out:
        out.writestr("other/ISIC_0005000.jpg", JPEG)
    assert run(copy, *NOWHERE) == 1
    assert "holds ISIC_0005000.jpg twice" in capsys.readouterr().err


def test_other_labels_than_the_challenges_are_refused(copy, capsys):
    place = copy / download.labels_name("val")
    place.write_text(place.read_text().replace("ISIC_0005000,1.0,0.0", "ISIC_0005000,0.0,0.0"))
    assert run(copy, *VAL) == 1
    assert ("150 rows, melanoma 29, seborrheic_keratosis 42, nevus 79; the val split of ISIC-2017 has 150, melanoma 30, "
            "seborrheic_keratosis 42, nevus 78; to have them all, move the file away and get it again") in capsys.readouterr().err


def test_a_subset_under_the_official_names_may_be_read_and_is_told(copy, tmp_path):
    labels = dict.fromkeys(ids("val")[:3], 2)
    assert download.describe_subset(labels, "val") == (
        "3 rows, melanoma 0, seborrheic_keratosis 0, nevus 3; the val split of ISIC-2017 has 150, melanoma 30, "
        "seborrheic_keratosis 42, nevus 78")
    assert download.describe_subset(read_groundtruth(copy / download.labels_name("val")), "val") == ""
    table = tmp_path / download.labels_name("val")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:4]))
    folder = tmp_path / download.pictures("val").name
    folder.mkdir()
    for image_id in ids("val")[:3]:
        (folder / f"{image_id}.jpg").write_bytes(JPEG)
    assert len(load_samples(*find_split(tmp_path, "val"))) == 3


def test_every_change_since_the_first_download_is_found(copy, capsys):
    run(copy, *NOWHERE)
    assert run(copy, *VAL) == 0
    folder = copy / download.pictures("val").name
    picture = folder / "ISIC_0005007.jpg"
    capsys.readouterr()

    def fails(text):
        assert run(copy, *VAL) == 1
        err = capsys.readouterr().err
        assert text in err
        assert err.count("\n") == 1
    picture.write_bytes(JPEG + b"\0")
    fails("ISIC_0005007.jpg: not the file that was first downloaded: SHA-256 ")
    picture.write_bytes(JPEG[:-40])
    sums = copy / download.SUMS
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if picture.name not in line))
    fails("ISIC_0005007.jpg: cut off after ")
    picture.unlink()
    fails("1 of 150 files are missing: ISIC_0005007.jpg")
    picture.write_bytes(JPEG)
    (folder / "ISIC_0000000.jpg").write_bytes(JPEG)
    fails("1 pictures are not in the label file: ISIC_0000000")
    (folder / "ISIC_0000000.jpg").unlink()
    for nonsense in (b"nonsense\n", b"\xff\xfe"):
        sums.write_bytes(nonsense)
        fails("SHA256SUMS: damaged")
    sums.unlink()
    assert run(copy, *VAL) == 0


def test_ids_of_two_splits_are_disjoint(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "COUNTS", {**download.COUNTS, "test": download.COUNTS["val"]})
    for split in ("val", "test"):
        (tmp_path / download.labels_name(split)).write_text(table("val"))
        (tmp_path / download.pictures(split).name).mkdir()
        for image_id in ids("val"):
            (tmp_path / download.pictures(split).name / f"{image_id}.jpg").write_bytes(JPEG)
    with pytest.raises(download.DataError, match="150 ids of test are in another split too: ISIC_0005000"):
        download.verify(tmp_path, ["val", "test"])

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools import isic
from data_tools.errors import DataError
from data_tools.files import listing, read_image

HEADER = "image_id,melanoma,seborrheic_keratosis"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        write(folder / name, "")
    return folder


@pytest.mark.parametrize("text", [
    f"{HEADER}\nb,1,0\na,0.0,1.0\nc,0,0\n",
    f"{HEADER}\r\nb,1.0,0.0\r\na,0,1\r\nc,0.0,0.0\r\n",
    f"\ufeff{HEADER}\nb,1,0\na,0,1\nc,0,0",
    f"{HEADER},nevus\nb,1,0,0\na,0,1,0\nc,0,0,1\n",
    "melanoma,image_id,seborrheic_keratosis\n1,b,0\n\n0,a,1\n0, c ,0\n",
    f"image,{HEADER}\n?,b,1,0\n?,a,0,1\n?,c,0,0",
    "image,seborrheic_keratosis,melanoma,x\nb,0.000,1.,?\na,1.0000,0.0,?\nc,0,0,?\n",
])
def test_every_form_of_label_file_gives_the_same_labels_in_its_order(tmp_path, text):
    labels = isic.read_groundtruth(write(tmp_path / "t.csv", text))
    assert list(labels.items()) == [("b", 0), ("a", 1), ("c", 2)]


def test_ids_may_be_names_of_files_and_titles_have_capitals(tmp_path):
    text = "Image_ID,Melanoma,Seborrheic_keratosis\nA.jpg,1,0\nB.b.PNG,0,0,\n"
    assert isic.read_groundtruth(write(tmp_path / "t.csv", text)) == {"A": 0, "B.b": 2}


@pytest.mark.parametrize(("text", "words"), [
    ("", "is empty"),
    (f"{HEADER}\n", "no rows"),
    ("picture,melanoma\na,1\n", "no column image_id, seborrheic_keratosis; found picture,melanoma"),
    ("image_id;melanoma;seborrheic_keratosis\na;1;0\n", "no column image_id"),
    (f"{HEADER}\na,1,1\n", r"line 2 \(a\): values 1,1, expected one class a picture"),
    (f"{HEADER},nevus\na,0,0,0\n", r"line 2 \(a\): values 0,0,0, expected one class a picture"),
    (f"{HEADER},nevus\na,0,1,1\n", r"line 2 \(a\): values 0,1,1, expected one class a picture"),
    (f"{HEADER}\na,0,0\nb,0.3,0\n", r"line 3 \(b\): values 0.3,0, expected 0 or 1"),
    (f"\n\n{HEADER}\n,,\n\na,0.3,0\n", r"line 6 \(a\): values"),
    (f"{HEADER}\na,01,0\n", "expected 0 or 1"),
    (f"{HEADER}\na,,0\n", "expected 0 or 1"),
    (f"{HEADER}\na,0\n", "line 2 has 2 fields"), (f"{HEADER}\na,0,0,1\n", "line 2 has 4 fields, expected 3"),
    (f"{HEADER}\na,0,0\na.JPG,0,0\n", "1 ids stand there twice: a"),
    (f"{HEADER},melanoma\na,0,0,1\n", "1 columns stand there twice: melanoma; keep one of each"),
    (f"{HEADER}\na,0,0\na,0,0\n", "1 ids stand there twice: a"),
    (f"{HEADER}\n../a,0,0\n", "image id '../a'"),
    (f"{HEADER}\na..b,0,0\n", "image id"),
    (f"{HEADER}\nx\\y,0,0\n", "image id"),
    (f"{HEADER}\n.hidden,0,0\n", "image id"),
    (f"{HEADER}\n{'a' * 101},0,0\n", "image id"),
])
def test_bad_label_files_are_named_in_one_line(tmp_path, text, words):
    with pytest.raises(DataError, match=words) as caught:
        isic.read_groundtruth(write(tmp_path / "t.csv", text))
    assert "\n" not in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_label_file_that_is_absent_or_no_text(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        isic.read_groundtruth(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(DataError, match="line 1 is no text in UTF-8"):
        isic.read_groundtruth(tmp_path / "t.csv")


def test_written_labels_are_the_official_form_and_read_back(tmp_path):
    labels = {"b": 0, "a": 1, "c": 2}
    isic.write_groundtruth(tmp_path / "t.csv", labels)
    assert (tmp_path / "t.csv").read_text() == f"{HEADER}\nb,1.0,0.0\na,0.0,1.0\nc,0.0,0.0\n"
    assert isic.read_groundtruth(tmp_path / "t.csv") == labels


@pytest.mark.parametrize(("split", "folder", "table"), [
    ("train", "ISIC-2017_Training_Data", "ISIC-2017_Training_Part3_GroundTruth.csv"),
    ("val", "ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part3_GroundTruth.csv"),
    ("test", "ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part3_GroundTruth.csv"),
    ("train", "images256/train", "groundtruth/ISIC-2017_Training_Part3_GroundTruth.csv"),
    ("test", "test", "ISIC-2017_Test_v2_Part3_GroundTruth.csv"),
    ("test", "test", "groundtruth/ISIC-2017_Test_v2_Part3_GroundTruth.csv"),
    ("val", "val", "val/groundtruth.csv"),
])
def test_a_split_is_found_in_every_layout(tmp_path, split, folder, table):
    (tmp_path / folder).mkdir(parents=True)
    write(tmp_path / table, HEADER)
    assert isic.find_split(tmp_path, split) == (tmp_path / folder, tmp_path / table)


def test_what_is_missing_of_a_split_is_named(tmp_path):
    with pytest.raises(DataError, match=r"ISIC-2017_Validation_Data, images256/val, val"):
        isic.find_split(tmp_path, "val")
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"val/groundtruth.csv, ISIC-2017_Validation_Part3_GroundTruth.csv, ground"):
        isic.find_split(tmp_path, "val")


def test_samples_follow_the_label_file_and_leave_out_other_files(tmp_path):
    touch(tmp_path, "a.png", "b.JPG", "c.jpeg", "a_superpixels.png", "b_segmentation.png", "c_hair.png", "d.txt", "e.tif",
          "c_Segmentation.png", "c_SEGMENTATION.PNG")
    write(tmp_path / "groundtruth.csv", f"{HEADER}\nb,1,0\na,0,1\n")
    samples = isic.load_samples(tmp_path)
    assert samples == [("b", 0, tmp_path / "b.JPG"), ("a", 1, tmp_path / "a.png")]
    assert sorted(isic.find_pictures(tmp_path)) == ["a", "b", "c"]


def test_missing_pictures_are_listed_ten_at_most(tmp_path):
    rows = "".join(f"p{number:02d},0,0\n" for number in range(30))
    write(tmp_path / "groundtruth.csv", f"{HEADER}\n{rows}")
    touch(tmp_path, *(f"p{number:02d}.jpg" for number in range(13)))
    with pytest.raises(DataError, match=r"17 of 30 .* p13, p14, .*, p22 and 7 more$"):
        isic.load_samples(tmp_path)


def test_labels_of_another_split_are_recognised(tmp_path):
    touch(tmp_path, "a.jpg")
    write(tmp_path / "groundtruth.csv", f"{HEADER}\nx,1,0\ny,0,1\n")
    with pytest.raises(DataError, match=r"none of its 2 ids is a picture .* another split"):
        isic.load_samples(tmp_path)


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".bmp", ".webp"])
@pytest.mark.parametrize("count", [1, 3])
def test_pictures_of_other_formats_are_named_with_a_command_that_converts_them(tmp_path, suffix, count):
    folder = tmp_path / "my pictures"
    folder.mkdir()
    image = np.full((8, 8, 3), 200, np.uint8)
    for number in range(3):
        write_picture(folder / f"p{number}{suffix if number < count else '.jpg'}", image)
    write(folder / "groundtruth.csv", f"{HEADER}\np0,1,0\np1,0,1\np2,0,0\n")
    with pytest.raises(DataError, match=f"my pictures: {count} pictures are no .jpg, .jpeg, .png files: p0{suffix}") as caught:
        isic.load_samples(folder)
    program, command = str(caught.value).split("; convert them: ")[1].split(" ", 1)
    assert program == "python"
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    assert [sample.path.suffix for sample in isic.load_samples(folder)] == [".png"] * count + [".jpg"] * (3 - count)
    assert np.array_equal(read_image(folder / "p0.png"), image)


def write_picture(path, image):
    path.write_bytes(cv2.imencode(path.suffix.lower(), image)[1].tobytes())


def test_a_folder_of_other_formats_alone_is_refused_without_labels_too(tmp_path):
    with pytest.raises(DataError, match=r"2 pictures are no .jpg, .jpeg, .png files: a.tif, b.tif; convert"):
        isic.find_pictures(touch(tmp_path, "a.tif", "b.tif", "c.txt"))


def test_one_id_in_two_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"both a.jpg and a.png"):
        isic.find_pictures(touch(tmp_path, "a.jpg", "a.png"))


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        isic.find_pictures(tmp_path / "none")


def test_counts_keep_every_class_in_order():
    assert list(isic.count_classes([2, 0, 2]).items()) == [("melanoma", 1), ("seborrheic_keratosis", 0), ("nevus", 2)]


@pytest.mark.parametrize(("count", "text"), [(2, "0, 1"), (10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
                                             (47, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 37 more")])
def test_listing(count, text):
    assert listing([str(number) for number in range(count)]) == text

import shutil

import pytest

from data_tools import __main__ as cli
from data_tools import copies, isic
from data_tools.errors import DataError


@pytest.fixture
def data(tmp_path):
    """A made-up data set whose second and fifth training pictures are the first and third of validation."""
    root = tmp_path / "data"
    cli.main(["synthetic", "--out", str(root), "--train", "6", "--val", "4", "--height", "64", "--width", "80"])
    train, val = (sorted((root / split).glob("*.jpg")) for split in ("train", "val"))
    shutil.copy(val[0], train[1])
    shutil.copy(val[2], train[4])
    return root


def ids(folder):
    return sorted(isic.find_pictures(folder))


def clean(data, tmp_path, capsys, *more):
    capsys.readouterr()
    words = ["clean", "--isic", data, "--split", "train", "--out", tmp_path / "out", "--hair", "none", "--jobs", 1, *more]
    code = cli.main([str(word) for word in words])
    return code, capsys.readouterr().err


def test_copies_are_found_under_other_names(data):
    train, val = ids(data / "train"), ids(data / "val")
    samples = isic.load_samples(data / "train")
    assert copies.find_copies(samples, data / "val") == {train[1]: val[0], train[4]: val[2]}
    assert copies.other_splits(data, "train") == [data / "val"]


def test_a_picture_of_equal_size_but_other_bytes_is_no_copy(data):
    path = sorted((data / "train").glob("*.jpg"))[1]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    assert list(copies.find_copies(isic.load_samples(data / "train"), data / "val")) == [ids(data / "train")[4]]


def test_clean_reports_copies_and_keeps_them(data, tmp_path, capsys):
    code, err = clean(data, tmp_path, capsys)
    train, val = ids(data / "train"), ids(data / "val")
    assert code == 0
    assert f"2 pictures are byte for byte pictures of {data / 'val'}: {train[1]} = {val[0]}, {train[4]} = {val[2]}; " in err
    assert ids(tmp_path / "out") == train


def test_clean_leaves_copies_out_also_after_a_run_that_kept_them(data, tmp_path, capsys):
    clean(data, tmp_path, capsys)
    code, err = clean(data, tmp_path, capsys, "--exclude-copies-of", data / "val")
    train = ids(data / "train")
    assert (code, err.count("left out: 2 pictures"), "clean train with" in err) == (0, 1, False)
    assert ids(tmp_path / "out") == [train[0], train[2], train[3], train[5]]
    assert list(isic.read_groundtruth(tmp_path / "out" / "groundtruth.csv")) == ids(tmp_path / "out")


def test_clean_leaves_named_pictures_out(data, tmp_path, capsys):
    train = ids(data / "train")
    assert clean(data, tmp_path, capsys, "--exclude", f"{train[0]},{train[1]}")[0] == 0
    assert ids(tmp_path / "out") == train[2:]


def test_wrong_names_and_folders_are_refused(data):
    samples = isic.load_samples(data / "train")
    with pytest.raises(DataError, match="1 ids are no pictures of this split: nobody"):
        copies.exclude(samples, ["nobody", samples[0].image_id])
    with pytest.raises(DataError, match="every picture would be left out"):
        copies.exclude(samples, [sample.image_id for sample in samples])
    with pytest.raises(DataError, match="own folder"):
        copies.find_copies(samples, data / "train")


def lmdb(images, out):
    assert cli.main(["lmdb", "--images", str(images), "--out", str(out), "--augment", "none", "--jobs", "1"]) == 0
    return out


def test_verify_compares_two_databases(data, tmp_path, capsys):
    train, val = lmdb(data / "train", tmp_path / "db_train"), lmdb(data / "val", tmp_path / "db_val")
    capsys.readouterr()
    assert cli.main(["verify", str(train), str(val)]) == 0
    out, err = capsys.readouterr()
    names = ids(data / "train"), ids(data / "val")
    assert out.endswith(f"{train}, {val}: no picture id in both, 2 files\n")
    assert out.count(": verified\n") == 2
    assert f"note: in {train}, 2 pictures are byte for byte pictures of {val}: {names[0][1]} = {names[1][0]}, " in err
    assert cli.main(["verify", str(train), str(lmdb(data / "train", tmp_path / "again"))]) == 1
    assert f"error: 6 pictures are in {train} and in {tmp_path / 'again'}: {names[0][0]}, " in capsys.readouterr().err


def test_verify_sees_a_changed_list_of_pictures(data, tmp_path, capsys):
    database = lmdb(data / "val", tmp_path / "db")
    table = database / "pictures.csv"
    table.write_text(table.read_text().replace(ids(data / "val")[0], "other"))
    assert cli.main(["verify", str(database)]) == 1
    assert "pictures.csv is not the file that the manifest describes" in capsys.readouterr().err

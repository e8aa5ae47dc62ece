import dataclasses
import hashlib
import json

import numpy as np
import pytest

from data_tools import lmdb_io, manifest
from data_tools.errors import DataError
from data_tools.files import sha256_file
from data_tools.parallel import workers

KEYS = [b"00000000_a_x", b"00000001_b_x", b"00000002_c_x"]


def make(folder, labels=(0, 1, 2), shape=(8, 8, 3), **changes):
    """Write three records, and a manifest that describes them but for `changes`."""
    folder.mkdir()
    image = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    records = [(key, lmdb_io.encode_datum(image, label)) for key, label in zip(KEYS, labels)]
    lmdb_io.write_records(folder, records, 1 << 20)
    (folder / manifest.PICTURES).write_text("a,0,1\n")
    lines = [manifest.order_line(key, label) for key, label in zip(KEYS, labels)]
    with workers(1) as pool:
        data_sha256 = manifest.sha256_data(folder, pool)
    made = manifest.Manifest(
        version=manifest.VERSION, records=3, per_class={"melanoma": 1, "seborrheic_keratosis": 1, "nevus": 1}, pictures=3,
        pictures_per_class={}, shape=[8, 8], channel_order="BGR", seed=1, parameters={}, decisions=["D01"],
        source_ids_sha256="", order_sha256=manifest.sha256_lines(lines), data_bytes=(folder / "data.mdb").stat().st_size,
        data_sha256=data_sha256, pictures_sha256=sha256_file(folder / manifest.PICTURES))
    manifest.write(folder, dataclasses.replace(made, **changes))
    return folder


def test_a_sound_database_passes_and_its_manifest_is_read_back(tmp_path):
    made = manifest.verify(make(tmp_path / "db"))
    assert made.records == 3
    assert json.loads((tmp_path / "db" / "manifest.json").read_text()) == dataclasses.asdict(made)


def test_a_database_cut_in_half_is_one_line(tmp_path):
    data = make(tmp_path / "db") / "data.mdb"
    content = data.read_bytes()
    data.write_bytes(content[:len(content) // 2])
    for check in (manifest.read, manifest.verify):
        with pytest.raises(DataError, match=rf"{len(content) // 2} bytes, expected {len(content)}") as caught:
            check(tmp_path / "db")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [0, 4100, -1])
def test_one_changed_byte_is_noticed(tmp_path, place):
    data = make(tmp_path / "db") / "data.mdb"
    content = bytearray(data.read_bytes())
    content[place] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(DataError, match="is not the file that the manifest describes"):
        manifest.verify(tmp_path / "db")


def test_a_changed_list_of_pictures_is_noticed(tmp_path):
    (make(tmp_path / "db") / manifest.PICTURES).write_text("a,0,2\n")
    with pytest.raises(DataError, match=r"pictures.csv is not the file that the manifest describes"):
        manifest.verify(tmp_path / "db")


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_hash_is_that_of_the_hashes_of_the_pieces(tmp_path, jobs):
    content = np.random.RandomState(1).bytes(2 * manifest.PIECE + 5)
    (tmp_path / "data.mdb").write_bytes(content)
    pieces = [content[start:start + manifest.PIECE] for start in range(0, len(content), manifest.PIECE)]
    expected = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()
    with workers(jobs) as pool:
        assert manifest.sha256_data(tmp_path, pool) == expected


@pytest.mark.parametrize("changes", [
    {"records": 4}, {"order_sha256": "0"}, {"per_class": {"melanoma": 3, "seborrheic_keratosis": 0, "nevus": 0}},
])
def test_records_that_do_not_match_are_noticed(tmp_path, changes):
    with pytest.raises(DataError, match=r"3 records .* in the order that was written"):
        manifest.verify(make(tmp_path / "db", **changes))


def test_labels_out_of_range_and_wrong_shapes_are_named(tmp_path):
    with pytest.raises(DataError, match=r"record 00000001_b_x has label 3 .*expected 0 to 2"):
        manifest.verify(make(tmp_path / "labels", labels=(0, 3, 2)))
    with pytest.raises(DataError, match=r"record 00000000_a_x has .* shape \(8, 9\), .* \(8, 8\)"):
        manifest.verify(make(tmp_path / "shapes", shape=(8, 9, 3)))


@pytest.mark.parametrize(("text", "words"), [
    (None, r"cannot be read .*expected an LMDB made by data_tools"), ("{", "is damaged"), ("{}", "is damaged"),
    ("[]", "is damaged"),
])
def test_manifest_absent_or_damaged(tmp_path, text, words):
    path = make(tmp_path / "db") / "manifest.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=words):
        manifest.read(tmp_path / "db")


def test_other_version_and_no_data(tmp_path):
    with pytest.raises(DataError, match="version 99, expected 2"):
        manifest.read(make(tmp_path / "version", version=99))
    (make(tmp_path / "data") / "data.mdb").unlink()
    with pytest.raises(DataError, match=r"data.mdb: 0 bytes, expected \d+"):
        manifest.read(tmp_path / "data")

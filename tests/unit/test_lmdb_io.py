import cv2
import lmdb
import numpy as np
import pytest

from data_tools import lmdb_io
from data_tools.errors import DataError

IMAGE = np.zeros((2, 3, 3), np.uint8)
IMAGE[0] = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]  # B, G, R of the first row's pixels


def test_raw_datum_is_written_as_the_wire_format_says():
    # fields: 1 channels 3, 2 height 2, 3 width 3, 4 data (18 bytes, planes B G R), 5 label 2, 7 encoded 0
    planes = bytes([1, 4, 7, 0, 0, 0, 2, 5, 8, 0, 0, 0, 3, 6, 9, 0, 0, 0])
    assert lmdb_io.encode_datum(IMAGE, 2) == b"\x08\x03\x10\x02\x18\x03\x22\x12" + planes + b"\x28\x02\x38\x00"


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_lossless_encodings_come_back(encoding):
    image, label = lmdb_io.decode_datum(lmdb_io.encode_datum(IMAGE, 1, encoding), "r")
    np.testing.assert_array_equal(image, IMAGE)
    assert label == 1


def test_jpeg_quality_is_used():
    image = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    for quality in (40, 95):
        expected = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        assert expected in lmdb_io.encode_datum(image, 0, "jpg", quality)


@pytest.mark.parametrize(("value", "words"), [
    (b"\xff\xff", "holds no Datum"),
    (lmdb_io.encode_datum(IMAGE, 0)[:8] + b"\0" * 18 + b"\x10\x05", "18 bytes of pixels, expected 3 x 5 x 3"),
    (b"\x22\x03abc\x38\x01", "cannot decode"),
])
def test_damaged_records_are_named(value, words):
    with pytest.raises(DataError, match=f"record x: .*{words}"):
        lmdb_io.decode_datum(value, "record x")


def records(count, size=10_000):
    return [(b"%08d" % number, bytes([number % 251]) * size) for number in range(count)]


def test_the_map_grows_by_itself_and_no_lock_is_left(tmp_path):
    many = records(300)
    assert lmdb_io.write_records(tmp_path, iter(many), map_size=1 << 17) == 300  # 3 MB into 128 KB
    assert list(lmdb_io.read_records(tmp_path)) == many
    assert [path.name for path in tmp_path.iterdir()] == ["data.mdb"]


@pytest.mark.parametrize("second", [b"00000001", b"00000000"])
def test_keys_must_ascend(tmp_path, second):
    with pytest.raises(DataError, match="is not above the one before it"):
        lmdb_io.write_records(tmp_path, [(b"00000001", b"a"), (second, b"b")], 1 << 20)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise lmdb.DiskError("No space left on device")
    monkeypatch.setattr(lmdb_io, "_put", full)
    with pytest.raises(DataError, match=r"cannot write record 0 .*No space left"):
        lmdb_io.write_records(tmp_path, records(1), 1 << 20)


def test_stored_size_is_what_a_record_takes(tmp_path):
    many = records(400, 5000)
    lmdb_io.write_records(tmp_path, many, 1 << 24)
    expected = sum(lmdb_io.stored_size(value) for _, value in many)
    assert expected == pytest.approx((tmp_path / "data.mdb").stat().st_size, rel=0.03)


def test_what_is_no_database_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no data.mdb"):
        list(lmdb_io.read_records(tmp_path))
    (tmp_path / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises(DataError, match="LMDB cannot open it"):
        list(lmdb_io.read_records(tmp_path))


@pytest.mark.caffe
@pytest.mark.parametrize("encoding", lmdb_io.ENCODINGS)
def test_real_caffe_reads_pixels_and_labels(tmp_path, encoding):
    caffe = pytest.importorskip("caffe")
    image = np.zeros((16, 16, 3), np.uint8) + np.array([200, 100, 20], np.uint8)
    image[:8] = [20, 100, 200]
    lmdb_io.write_records(tmp_path, [(b"a", lmdb_io.encode_datum(image, 2, encoding))], 1 << 20)
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "net.prototxt").write_text(
        f'layer {{ name: "d" type: "Data" top: "x" top: "y" data_param {{ source: "{tmp_path}" '
        "backend: LMDB batch_size: 1 } }")
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.forward()
    assert net.blobs["y"].data.tolist() == [2]
    rows = [0, 1, 2, 13, 14, 15] if encoding == "jpg" else slice(None)  # JPEG blurs the border between the colours
    found, expected = net.blobs["x"].data[0][:, rows], image.transpose(2, 0, 1)[:, rows]
    np.testing.assert_allclose(found, expected, atol=4 if encoding == "jpg" else 0)

import hashlib
import re
import tracemalloc
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from data_tools import augment, build, estimate, lmdb_io, manifest, plan
from data_tools.errors import DataError
from data_tools.files import write_image
from data_tools.isic import Sample

PAPER = augment.variants(augment.ROTATIONS, True, "five")
CENTRE = augment.variants((0,), False, "centre")
LABELS = [0, 1, 1, 2, 2, 2, 2]


@pytest.fixture
def samples(tmp_path):
    made = []
    for number, label in enumerate(LABELS):
        image = np.random.RandomState(number).randint(0, 256, (30, 40, 3)).astype(np.uint8)
        path = tmp_path / "source" / f"P_{number}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(path, image)
        made.append(Sample(path.stem, label, path))
    return made


def make(samples, tmp_path, name="db", variants=PAPER, **options):
    options = {"size": 16, "patch_size": 14, "encoding": "raw", **options}
    made = build.build(samples, tmp_path / name, variants, **options)
    return made, list(lmdb_io.read_records(tmp_path / name))


def test_thirty_records_a_picture_in_shuffled_order(samples, tmp_path):
    made, records = make(samples, tmp_path)
    keys = [key.decode() for key, _ in records]
    assert made.records == len(records) == 30 * 7
    assert [key[:9] for key in keys] == [f"{number:08d}_" for number in range(210)]
    names = {key[9:] for key in keys}
    assert names == {f"{sample.image_id}_{variant.name}" for sample in samples for variant in PAPER}
    labels = [lmdb_io.decode_datum(value, "")[1] for _, value in records]
    assert Counter(labels) == {0: 30, 1: 60, 2: 120}
    assert len(set(labels[:30])) == 3  # no class comes alone
    assert made.per_class == {"melanoma": 30, "seborrheic_keratosis": 60, "nevus": 120}


def test_each_record_holds_its_variant_of_its_picture(samples, tmp_path):
    by_id = {sample.image_id: sample for sample in samples}
    by_name = {variant.name: variant for variant in PAPER}
    for key, value in make(samples, tmp_path)[1]:
        _, prefix, number, *variant = key.decode().split("_")
        sample = by_id[f"{prefix}_{number}"]
        square = cv2.resize(cv2.imread(str(sample.path)), (16, 16), interpolation=cv2.INTER_AREA)
        image, label = lmdb_io.decode_datum(value, "")
        np.testing.assert_array_equal(image, augment.apply(square, by_name["_".join(variant)], 14))
        assert label == sample.label


def test_records_depend_on_the_seed_and_not_on_the_number_of_processes(samples, tmp_path):
    one, two, other = (make(samples, tmp_path, f"db{jobs}{seed}", jobs=jobs, seed=seed, encoding="jpg")
                       for jobs, seed in ((1, 1), (2, 1), (1, 2)))
    assert one[1] == two[1]
    assert (tmp_path / "db11" / "data.mdb").read_bytes() == (tmp_path / "db21" / "data.mdb").read_bytes()
    assert one[0].order_sha256 == two[0].order_sha256 != other[0].order_sha256
    assert sorted(value for _, value in one[1]) == sorted(value for _, value in other[1])
    assert one[1] != other[1]


def test_oversampling_gives_every_class_the_same_number(samples, tmp_path):
    made, records = make(samples, tmp_path, variants=CENTRE, balance="oversample")
    assert list(made.per_class.values()) == [4, 4, 4]
    assert made.pictures_per_class == {"melanoma": 1, "seborrheic_keratosis": 2, "nevus": 4}
    assert Counter(key.decode()[9:12] for key, _ in records) == {
        "P_0": 4, "P_1": 2, "P_2": 2, "P_3": 1, "P_4": 1, "P_5": 1, "P_6": 1}
    assert make(samples[3:], tmp_path, "one", CENTRE, balance="oversample")[0].records == 4  # one class alone


def test_manifest_says_what_was_made(samples, tmp_path):
    made, records = make(samples, tmp_path, variants=CENTRE, seed=5)
    assert manifest.verify(tmp_path / "db") == made == manifest.read(tmp_path / "db")
    assert (made.seed, made.shape, made.channel_order, made.pictures) == (5, [14, 14], "BGR", 7)
    assert made.parameters == {"variants": ["r000_keep_centre"], "size": 16, "patch_size": 14, "encoding": "raw",
                               "quality": 95, "balance": "none"}
    ids = "".join(f"P_{number}\n" for number in range(7))
    assert made.source_ids_sha256 == hashlib.sha256(ids.encode()).hexdigest()
    lines = "".join(f"{key.decode()} {lmdb_io.decode_datum(value, '')[1]}\n" for key, value in records)
    assert made.order_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert sorted(path.name for path in (tmp_path / "db").iterdir()) == ["data.mdb", "manifest.json", "pictures.csv"]
    digests = {sample.image_id: hashlib.sha256(sample.path.read_bytes()).hexdigest() for sample in samples}
    assert manifest.read_pictures(tmp_path / "db") == digests


def test_whole_pictures_have_the_resized_size(samples, tmp_path):
    made, records = make(samples, tmp_path, variants=augment.variants((0,), False, "whole"))
    assert made.shape == [16, 16] == list(lmdb_io.decode_datum(records[0][1], "")[0].shape[:2])


@pytest.mark.parametrize("jobs", [1, 2])
def test_unreadable_pictures_are_named_together_and_nothing_is_left(samples, tmp_path, jobs):
    for number in (2, 5):
        path = samples[number].path
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"2 of 7 pictures cannot be read: P_2, P_5; .*P_2.png: cut off"):
        make(samples, tmp_path, jobs=jobs)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_failed_build_leaves_the_earlier_one(samples, tmp_path):
    make(samples, tmp_path, variants=CENTRE)
    samples[0].path.unlink()
    with pytest.raises(DataError, match="P_0"):
        make(samples, tmp_path)
    assert manifest.verify(tmp_path / "db").records == 7


def test_too_small_a_disk_is_refused_before_anything_is_written(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda path: SimpleNamespace(free=50_000))
    monkeypatch.setattr(build, "store_squares", lambda *_: pytest.fail("it started"))
    with pytest.raises(DataError, match=r"0\.0 GB are free, about 0\.0 GB are needed for 210 records"):
        make(samples, tmp_path)


def test_the_estimate_is_not_far_from_what_is_written(samples, tmp_path, monkeypatch):
    sizes = []
    write = build.write_records
    monkeypatch.setattr(build, "write_records", lambda *given: sizes.append(given[2]) or write(*given))
    made, _ = make(samples, tmp_path, size=64, patch_size=56, encoding="jpg")
    spare = estimate.SPARE_PAGES * lmdb_io.PAGE
    assert 1.05 * made.data_bytes < sizes[0] - spare < 1.35 * made.data_bytes


def test_the_sizes_of_all_encodings_are_told_before(samples, tmp_path, capsys):
    made = {encoding: make(samples, tmp_path, encoding, size=64, patch_size=56, encoding=encoding)[0].data_bytes / 1e9
            for encoding in lmdb_io.ENCODINGS}
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 3
    for note, chosen in zip(notes, lmdb_io.ENCODINGS):
        told = {name: float(size) for size, name in re.findall(r"([0-9.]+) GB as (jpg|png|raw)", note)}
        assert "210 records take about" in note
        assert f"{chosen} it is" in note
        assert told == pytest.approx(made, rel=0.1, abs=6e-4)


def test_three_million_records_are_planned_in_little_memory(tmp_path):
    samples = [Sample(f"P_{number}", number % 3, tmp_path) for number in range(1000)] * 100
    tracemalloc.start()
    made = plan.make_plan(samples, PAPER, 1, "none")
    first = [made.task(number) for number in range(32)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(made), len(first)) == (3_000_000, 32)
    assert peak < 9 * len(made)  # the order, eight bytes a record


def test_more_records_than_keys_can_number(samples, monkeypatch):
    monkeypatch.setattr(plan, "MOST", 209)
    with pytest.raises(DataError, match="7 pictures x 30 variants are more than 209 records"):
        plan.make_plan(samples, PAPER, 1, "none")


def test_patch_larger_than_the_picture(samples, tmp_path):
    with pytest.raises(DataError, match="patch size 17 is larger than the resized picture, 16 x 16"):
        make(samples, tmp_path, patch_size=17)

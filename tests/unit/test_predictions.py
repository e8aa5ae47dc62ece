"""Prediction files and ground truths: the three kinds that users have are read alike, all else is refused in one line."""
import json

import numpy as np
import pytest

from data_tools.errors import DataError
from data_tools.isic import read_groundtruth
from pycam import predictions
from pycam.__main__ import main
from pycam.errors import CamError

IDS = [f"ISIC_{n:07}" for n in range(12086, 12092)]
LABELS = dict(zip(IDS, [0, 1, 2, 0, 2, 1]))
PROBS = {i: (0.125 + n / 10, 0.75 - n / 10) for n, i in enumerate(IDS)}
LINES = [f"{i},{m},{s}" for i, (m, s) in PROBS.items()]
BARE = "\n".join(LINES)


def with_header(header, lines=LINES):
    return "\n".join([header, *lines]) + "\n"


KNOWN = {
    "2017": with_header("image_id,melanoma,seborrheic_keratosis"),
    "2018": with_header("image,melanoma,seborrheic_keratosis"),
    "no header, no last line end": BARE,
    "byte order mark, CRLF": "\ufeff" + with_header("image_id,melanoma,seborrheic_keratosis").replace("\n", "\r\n"),
    "old Mac": with_header("image_id,melanoma,seborrheic_keratosis").replace("\n", "\r"),
    "blank lines and blanks": "\n\n" + BARE.replace(",", " , ") + "\n \n",
    "suffix": BARE.replace(",0", ".JPG,0", 1).replace("91,", "91.jpeg,"),
    "paths": with_header("Id,task_1,task_2", [f"data/test/nevus/{line}".replace(",", ".jpg,", 1) for line in LINES]),
    "Windows paths": "\n".join(f"C:\\test\\{line}" for line in LINES),
    "the number alone": BARE.replace("ISIC_", ""),
    "something behind the number": BARE.replace(",0", "_resized,0", 1),
    "quotes": "\n".join(f'"{line.replace(",", chr(34) + "," + chr(34))}"' for line in LINES),
    "trailing comma": with_header("image_id,melanoma,seborrheic_keratosis,", [f"{line}," for line in LINES]),
    "scientific": "\n".join(f"{i},{m:.10e},{s:.10E}" for i, (m, s) in PROBS.items()),
    "index column": with_header(",image_id,melanoma,seborrheic_keratosis", [f"{n},{line}" for n, line in enumerate(LINES)]),
    "id is the index, unnamed": with_header(",melanoma,seborrheic_keratosis"),
    "other order": with_header("SK,Image ID,Nevus,Melanoma", [f"{s},{i},0.5,{m}" for i, (m, s) in PROBS.items()]),
    "more columns": with_header("image_id,age,Seborrheic keratosis,melanoma", [f"{i},50,{s},{m}"
                                                                                 for i, (m, s) in PROBS.items()]),
    "short names": with_header("image,SK,NV,MEL", [f"{i},{s},0.5,{m}" for i, (m, s) in PROBS.items()]),
}
UNKNOWN = {
    "tabs": BARE.replace(",", "\t"),
    "blanks only": BARE.replace(",", "   "),
    "semicolons": BARE.replace(",", ";"),
    "decimal commas": BARE.replace("0.", "0,"),
    "comment": "# made by us\n" + BARE,
    "index column, no header": "\n".join(f"{n},{line}" for n, line in enumerate(LINES)),
    "nevus, no header": "\n".join(f"{line},0.5" for line in LINES),
    "one question": with_header("image_id,melanoma,nevus"),
    "another word": with_header("image_id,non_melanoma,seborrheic_keratosis"),
    "a class twice": with_header("image_id,melanoma,mel,sk", [f"{line},0.1" for line in LINES]),
    "two ids": with_header("id,image,melanoma,sk", [f"{n},{line}" for n, line in enumerate(LINES)]),
    "no id": with_header("melanoma,seborrheic_keratosis,name"),
    "one long line": "x" * 5000,
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_kind_reads_as_the_same_predictions(tmp_path, name):
    path = tmp_path / "p.csv"
    path.write_bytes(KNOWN[name].encode())
    found = predictions.align(LABELS, predictions.read(path), path)
    np.testing.assert_array_equal(found, list(PROBS.values()))


@pytest.mark.parametrize("name", UNKNOWN)
def test_another_kind_is_refused_with_the_columns_that_are_read(tmp_path, name):
    path = tmp_path / "p.csv"
    path.write_text(UNKNOWN[name])
    with pytest.raises(CamError, match="expected the header image_id,melanoma,seborrheic_keratosis") as error:
        predictions.read(path)
    first = " ".join(UNKNOWN[name].splitlines()[0].split())
    assert str(error.value).startswith(f"{path}: starts with {first[:200]}")
    assert len(str(error.value)) < 500


def test_another_encoding_is_refused(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(BARE.encode("utf-16"))
    with pytest.raises(DataError, match="line 1 is no text in UTF-8"):
        predictions.read(path)


def test_a_header_that_names_no_class_is_read_by_position_and_said(tmp_path, capsys):
    path = tmp_path / "p.csv"
    path.write_text(with_header("picture,first,second"))
    assert predictions.read(path) == PROBS
    assert "names no class" in capsys.readouterr().err


TRUTHS = {
    "2017": with_header("image_id,melanoma,seborrheic_keratosis", [f"{i},{float(k == 0)},{float(k == 1)}"
                                                                  for i, k in LABELS.items()]),
    "2018, integers": with_header("image,melanoma,seborrheic_keratosis", [f"{i},{int(k == 0)},{int(k == 1)}"
                                                                         for i, k in LABELS.items()]),
    "three columns": with_header("image,melanoma,nevus,seborrheic_keratosis", [f"{i},{int(k == 0)},{int(k == 2)},{int(k == 1)}"
                                                                              for i, k in LABELS.items()]),
    "byte order mark, CRLF, many digits": "\ufeff" + with_header("image_id,melanoma,seborrheic_keratosis", [
        f"{i},{k == 0:.6f},{k == 1:.6f}" for i, k in LABELS.items()]).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_a_label_file_reads_as_the_same_labels(tmp_path, name):
    path = tmp_path / "t.csv"
    path.write_bytes(TRUTHS[name].encode())
    assert read_groundtruth(path) == LABELS


@pytest.mark.parametrize(("text", "words"), [
    (BARE.replace(",", ";").replace("0.", "0,"), ["line 1 has '125;0'", "between 0 and 1"]),
    (BARE + "\nISIC_0012092,0,5,0.5", ["line 7 has 4 columns"]),
    ("\n".join([*LINES, LINES[0].replace(",", ".jpg,", 1), LINES[1]]), ["2 pictures appear twice", IDS[0], IDS[1]]),
    ("\n".join(f"{i},1.5,0.5" for i in IDS), ["line 1 has '1.5'", *IDS]),
])
def test_bad_rows_are_refused(tmp_path, text, words):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(CamError) as error:
        predictions.read(path)
    assert all(word in str(error.value) for word in words)


def test_two_names_of_one_picture_are_refused(tmp_path):
    with pytest.raises(CamError, match="twice: ISIC_0012086"):
        predictions.align(LABELS, {**PROBS, "ISIC_0012086_b": (0.5, 0.5)}, tmp_path / "p.csv")


def test_the_submission_file_is_the_challenges_own_and_scores(tmp_path, capsys):
    rows = [(i, [*p, 0.5]) for i, p in PROBS.items()]
    predictions.write(tmp_path / "s.csv", rows, predictions.SCORED)
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0] == "image_id,melanoma,seborrheic_keratosis"
    assert all(line.count(",") == 2 and "." in line.split(",")[1] for line in lines[1:])
    (tmp_path / "t.csv").write_text(TRUTHS["2018, integers"])
    figures = [tmp_path / f"roc.{suffix}" for suffix in ("png", "pdf")]
    for figure, start in zip(figures, (b"\x89PNG", b"%PDF")):
        assert main(["score", "--truth", str(tmp_path / "t.csv"), "--json", str(tmp_path / "o.json"), "--roc", str(figure),
                     str(tmp_path / "s.csv")]) == 0
        assert figure.read_bytes().startswith(start)
    assert set(json.loads((tmp_path / "o.json").read_text())) == {"melanoma", "seborrheic_keratosis", "mean"}
    assert "6 pictures: 2 melanoma, 2 seborrheic keratosis, 2 nevus" in capsys.readouterr().out

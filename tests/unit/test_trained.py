"""The networks that come with the package: `classify PICTURE` without any option, and what is said beside its answers."""
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import pycam
import torchcaffe
from data_tools import steps
from data_tools.errors import DataError
from data_tools.isic import read_groundtruth
from pycam import table1, trained, two_stages
from pycam.__main__ import main
from pycam.errors import CamError
from pycam.region_rule import RegionRule
from tests.contract import cam_nets

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, NARROW = ROOT / "examples", ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"
COMMITTED = ROOT / "models"


def make_models(folder):
    """Write what models/ holds, of weights that are drawn: two networks, the record of stage 2's pictures, scores."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in (1, 2):
        cam_nets.save(torchcaffe, NARROW, folder / f"stage{stage}.caffemodel", stage)
    pictures = {"hair": "none", "region": {**asdict(RegionRule(threshold=0.6)), "control": None}}
    steps.write_record(folder / "origin.json", steps.Record({"pictures": pictures}, {}, {}, True))
    random = np.random.RandomState(0)
    metrics = table1.evaluate(np.arange(60) % 3, random.rand(60, 2), random.rand(60, 2))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("package") / "models")


@pytest.fixture
def package(models, monkeypatch):
    """Let these be the package's."""
    monkeypatch.setattr(trained, "source", {"models": models}.__getitem__)
    return models


def test_the_scores_are_those_of_both_stages_beside_the_weights(models):
    scores = json.loads((models / "metrics.json").read_text())["scores"][table1.STAGE2]
    weights = trained.choose(folder=models)
    assert weights[:2] == (models / "stage1.caffemodel", models / "stage2.caffemodel")
    mean, melanoma, keratosis = (scores[figure]["auc"] for figure in ("mean", "melanoma", "seborrheic_keratosis"))
    assert weights.about.startswith(f"for research, no diagnosis; validation AUC {mean:.3f} ({scores['mean']['auc_low']:.3f}-")
    assert f": melanoma {melanoma:.3f} (" in weights.about
    assert f", seborrheic keratosis {keratosis:.3f} (" in weights.about
    assert weights.about.endswith("; 60 pictures (ISIC-2017)")


def test_what_is_named_is_taken_and_nothing_is_said_of_its_scores(models):
    assert trained.choose("a", Path("b"), models) == (Path("a"), Path("b"), "for research, no diagnosis")


@pytest.mark.parametrize("named", [("a", None), (None, "b")])
def test_one_stage_alone_is_refused(models, named):
    with pytest.raises(CamError, match="stage 1 without stage 2, or the reverse; name the weights of both"):
        trained.choose(*named, models)


@pytest.mark.parametrize(("name", "said"), [("metrics.json", r"metrics.json: cannot be read \(No such file"),
                                            ("stage1.caffemodel", "stage1.caffemodel: no such weights file"),
                                            ("stage2.caffemodel", "stage2.caffemodel: no such weights file")])
def test_a_file_that_is_missing_is_named(models, tmp_path, name, said):
    for path in models.iterdir():
        if path.name != name:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises((CamError, DataError), match=said):
        two_stages.open_stages(*trained.choose(folder=tmp_path)[:2])


def test_a_package_without_networks_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pycam.init, "__file__", str(tmp_path / "pycam" / "init.py"))
    assert main(["classify", str(EXAMPLES / "ISIC_0000225.jpg")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/pycam: has no models/; install the package again\n"


def test_a_picture_needs_no_option(package, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["classify", str(EXAMPLES / "ISIC_0000225.jpg")]) == 0
    out, err = capsys.readouterr()
    about, answer = out.splitlines()
    assert about == trained.choose().about
    assert answer.startswith("ISIC_0000225.jpg: melanoma 0.")
    assert "note:" not in err  # the record tells hair removal and region rule
    assert list(tmp_path.iterdir()) == []
    stages = pycam.load_stages()
    assert stages.preparation == ("none", RegionRule(threshold=0.6))
    probs = pycam.classify(stages, pycam.read_image(EXAMPLES / "ISIC_0000225.jpg")).probs
    assert two_stages.probabilities(probs) in answer


def test_maps_need_a_folder(package, tmp_path, capsys):
    words = ["classify", str(EXAMPLES / "ISIC_0000225.jpg"), "--maps"]
    assert main(words) == 1
    assert capsys.readouterr().err == "error: --maps writes files; name their folder with --out\n"
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.skipif(not (COMMITTED / "stage2.caffemodel").is_file(), reason="no trained networks in models/ yet")
def test_the_committed_networks_are_as_good_as_is_said_on_the_examples_and_small(capsys):
    pictures = sorted(EXAMPLES.glob("*.jpg"))
    assert main(["classify", *map(str, pictures)]) == 0
    out, err = capsys.readouterr()
    assert "note:" not in err
    assert "(ISIC-2017)" in out.splitlines()[0]
    labels = read_groundtruth(EXAMPLES / "groundtruth.csv")
    answers = pycam.classify(pycam.load_stages(), [pycam.read_image(path) for path in pictures])
    scores = pycam.score([labels[path.stem] for path in pictures], [answer.probs for answer in answers])
    assert scores["mean"]["auc"] > 0.6
    assert pycam.load_stages().preparation.rule.placement == "exact"  # by which its crops were cut, whatever the default is
    assert sum(path.stat().st_size for path in COMMITTED.iterdir()) < 3e6

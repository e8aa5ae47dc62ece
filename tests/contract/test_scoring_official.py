"""Our scores against the challenge's own package and scikit-learn's functions, through files, ties included."""
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from pycam import predictions, scoring
from pycam.predictions import SCORED

FILES = 100
SIZES = (30, 150, 150, 600)  # pictures; the challenge's validation and test sets have 150 and 600
SAME = {"auc": "auc", "auc_above_sensitivity_80": "auc_sens_80", "average_precision": "ap", "accuracy": "accuracy",
        "sensitivity": "sensitivity", "specificity": "specificity"}  # our name -> the package's


def made_up(folder, seed):
    """Write a truth and a prediction file of a seed; every third has two decimals only, so that scores tie."""
    random = np.random.RandomState(seed)
    count = SIZES[seed % len(SIZES)]
    labels = np.concatenate([[0, 1, 2], random.choice(3, count - 3, p=[0.2, 0.2, 0.6])])
    probs = np.clip(random.beta(1, 2, (count, 2)) + random.rand() * 0.5 * (labels[:, None] == [0, 1]), 0, 1)
    if seed % 3 == 0:
        probs = np.round(probs, 1 + seed % 2)
    ids = [f"ISIC_{n:07}" for n in random.permutation(count)]
    truth, path = folder / "truth.csv", folder / "pred.csv"
    truth.write_text("".join(["image,melanoma,seborrheic_keratosis\n",
                              *(f"{i},{float(k == 0)},{float(k == 1)}\n" for i, k in zip(ids, labels))]))
    rows = ["{},{!r},{!r}\n".format(ids[n], *probs[n].tolist()) for n in random.permutation(count)]
    path.write_text("".join(["image,melanoma,seborrheic_keratosis\n", *rows]))
    return truth, path, labels, probs


def ours(truth, path):
    labels, (probs,) = predictions.read_pair(truth, path)
    return {name: scoring.category(labels == number, probs[:, number]) for number, name in enumerate(SCORED)}


def test_scikit_learn_gives_the_same_on_random_files(tmp_path):
    for seed in range(FILES):
        truth, path, labels, probs = made_up(tmp_path, seed)
        for number, (name, found) in enumerate(ours(truth, path).items()):
            positive, prob = labels == number, probs[:, number]
            falsely, truly, _ = metrics.roc_curve(positive, prob)
            called = prob > 0.5
            expected = {
                "auc": metrics.roc_auc_score(positive, prob), "accuracy": metrics.accuracy_score(positive, called),
                "average_precision": metrics.average_precision_score(positive, prob),
                "sensitivity": metrics.recall_score(positive, called),
                "specificity": metrics.recall_score(~positive, ~called),
                **{f"specificity_at_sensitivity_{percent}": 1 - falsely[np.argmax(truly >= percent / 100)]
                   for percent in (82, 89, 95)}}
            assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-12), (seed, name)


@pytest.fixture(scope="module")
def official():
    """Return the challenge's package; it warns of what is harmless."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("isic_challenge_scoring", reason="isic-challenge-scoring is not installed: "
                                   "pip install '.[crosscheck]' (builds a C extension on some Pythons)")


@pytest.mark.filterwarnings("default")
def test_the_challenges_package_gives_the_same_on_random_files(tmp_path, official, monkeypatch):
    from isic_challenge_scoring import metrics as theirs

    monkeypatch.setattr(theirs, "roc", lambda *_: None)  # the points that it would draw
    for seed in range(FILES):
        truth, path, _, _ = made_up(tmp_path, seed)
        score = official.ClassificationScore.from_file(truth, path, official.ClassificationMetric.AUC)
        found = ours(truth, path)
        for name in SCORED:
            expected = {key: score.per_category.at[name, other] for key, other in SAME.items()}
            assert {key: found[name][key] for key in expected} == pytest.approx(expected, abs=1e-12), (seed, name)
        assert np.mean([found[name]["auc"] for name in SCORED]) == pytest.approx(score.overall, abs=1e-12)


def test_both_command_lines_print_the_same_mean_auc(tmp_path, official):
    truth, path, _, _ = made_up(tmp_path, 4)
    theirs = subprocess.run([str(Path(sys.executable).parent / "isic-challenge-scoring"), "-o", "json", "classification",
                             "-m", "auc", str(truth), str(path)], capture_output=True, text=True, check=True)
    subprocess.run([sys.executable, "-m", "pycam", "score", "--truth", str(truth), "--json", str(tmp_path / "o.json"), str(path)],
                   capture_output=True, check=True, cwd=Path(__file__).resolve().parents[2])
    ours = json.loads((tmp_path / "o.json").read_text())
    assert ours["mean"]["auc"] == pytest.approx(json.loads(theirs.stdout)["overall"], abs=1e-12)

"""Divide training pictures for cross-validation, so that a recipe is chosen without a look at validation pictures (D22)."""
from __future__ import annotations

from pathlib import Path
from typing import List, Sequence, Tuple

from data_tools import steps
from data_tools.errors import DataError
from data_tools.isic import CLASSES, Sample, count_classes, picture_inputs, write_groundtruth

RECORD = ".folds.json"

Fold = Tuple[List[Sample], List[Sample]]  # to train on, to score


def split_folds(samples: Sequence[Sample], folds: int, seed: int) -> List[Fold]:
    """Divide samples so that each is scored in exactly one fold, every class in its share.

    Parameters
    ----------
    samples : sequence of Sample
        The pictures; they keep their order.
    folds : int
        How many folds, at least 2.
    seed : int
        Decides which picture goes where.

    Raises
    ------
    DataError
        When a class has fewer pictures than there are folds.
    """
    labels = [sample.label for sample in samples]
    few = [f"{name} {count}" for name, count in count_classes(labels).items() if count < folds]
    if folds < 2 or few:
        raise DataError(f"{folds} folds of {len(samples)} pictures ({', '.join(few) or 'of all classes'}); "
                        f"expected 2 or more, and of each of the {len(CLASSES)} classes a picture for every fold")
    from sklearn.model_selection import StratifiedKFold  # takes a second, which only this command shall cost
    rule = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [([samples[i] for i in train], [samples[i] for i in val]) for train, val in rule.split(labels, labels)]


def step(samples: Sequence[Sample], out: Path, folds: int, seed: int) -> steps.Step:
    """Return the step that writes ``1_train.csv``, ``1_val.csv``, ``2_train.csv``, ...: label files in the challenge's form."""
    def work() -> List[Path]:
        out.mkdir(parents=True, exist_ok=True)
        parts = {out / f"{number}_{name}.csv": part for number, fold in enumerate(split_folds(samples, folds, seed), start=1)
                 for name, part in zip(("train", "val"), fold)}
        for path, part in parts.items():
            write_groundtruth(path, {sample.image_id: sample.label for sample in part})
        print(f"{out}: {folds} folds of {len(samples)} pictures")
        return list(parts)

    return steps.Step(f"folds/{out.name}", out, out / RECORD, {"folds": folds, "seed": seed}, picture_inputs(samples), work)

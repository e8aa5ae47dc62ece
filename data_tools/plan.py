"""Which records an LMDB gets, and in which order; a record is described when its turn comes, so that millions fit in memory."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, NamedTuple, Sequence

import numpy as np

from data_tools.augment import Variant
from data_tools.errors import DataError
from data_tools.isic import CLASSES, Sample

BALANCES = ("none", "oversample")  # D15
MOST = 10 ** 8                     # records that can be numbered by the eight digits in a key


class Task(NamedTuple):
    """One record to make: its key, the row of its picture among the resized ones, its variant, its label."""

    key: str
    row: int
    variant: Variant
    label: int


@dataclass(frozen=True)
class Plan:
    """The records of some pictures: `rows` are pictures, some of them repeated, `order` shuffles rows x variants."""

    samples: Sequence[Sample]
    variants: Sequence[Variant]
    rows: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.order)

    def task(self, number: int) -> Task:
        """Describe a record; keys count up, so that Caffe reads them in this order."""
        place, which = divmod(int(self.order[number]), len(self.variants))
        row, variant = int(self.rows[place]), self.variants[which]
        sample = self.samples[row]
        return Task(f"{number:08d}_{sample.image_id}_{variant.name}", row, variant, sample.label)

    def per_class(self) -> Dict[str, int]:
        """Count the records by class name."""
        labels = np.array([sample.label for sample in self.samples])[self.rows]
        counts = np.bincount(labels, minlength=len(CLASSES)) * len(self.variants)
        return {name: int(count) for name, count in zip(CLASSES, counts)}


def make_plan(samples: Sequence[Sample], variants: Sequence[Variant], seed: int, balance: str) -> Plan:
    """Shuffle one record for each picture and variant.

    Parameters
    ----------
    samples, variants
        The pictures, and what is made of each; see `augment.variants`.
    seed : int
        Of the record order, and of the choice of the pictures that are repeated.
    balance : str
        ``oversample`` repeats pictures of the smaller classes until all classes have as many records (D15).
    """
    random = np.random.RandomState(seed)
    rows = np.arange(len(samples))
    if balance == "oversample":
        rows = np.concatenate([rows, _repeats(np.array([sample.label for sample in samples]), random)])
    if len(rows) * len(variants) > MOST:
        raise DataError(f"{len(rows)} pictures x {len(variants)} variants are more than {MOST} records; make fewer variants")
    return Plan(samples, variants, rows, random.permutation(len(rows) * len(variants)))


def _repeats(labels: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Choose the rows to repeat so that every class that is there has as many as the largest."""
    counts = np.bincount(labels)
    extra = [np.resize(random.permutation(np.flatnonzero(labels == label)), counts.max() - counts[label])
             for label in np.flatnonzero(counts)]
    return np.concatenate(extra)

"""Measures the unlabelled terms on a linear classifier: weights, wrong priors, another simulation.

    python tools/studies/unlabelled_linear.py DATASET... --other DATASET...

A logistic regression on standardised features takes seconds where a network takes hours, so all
terms, weights and seeds can be had. It is trained by Adam on 32 labels (2,048 for the other
simulation) and 2,000 events without labels, 10 % of them signal; a first third of the steps sees
labels alone. The table has AUCs on the test split, median and range over the seeds.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from hepllm.arrays import Floats
from hepllm.config import Config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.learning.unsupervised_risk import Kind, NoMixtureError, estimate
from hepllm.schema import BACKGROUND, SIGNAL

PRIOR, POOL, STEPS, RATE, DECAY = 0.1, 2000, 150, 0.05, 0.01
WEIGHTS = (0.1, 1.0, 10.0, 100.0, 500.0)
KINDS: tuple[Kind, ...] = ("mixture", "split", "posterior")
SEEDS = 5


@dataclass(frozen=True, eq=False)
class Sample:
    """Standardised features and labels of one seed, with a column of ones."""

    labelled: Floats
    label: Floats
    pool: Floats
    test: Floats
    test_label: Floats


@dataclass(frozen=True)
class Term:
    """An unlabelled term."""

    kind: Kind = "mixture"
    weight: float = 0.0
    prior: float = PRIOR


def read(folders: Sequence[Path], split: str) -> EventTable:
    """Events of several datasets."""
    names = Config().train.feature_names()
    return concatenate([read_dataset(one).load(names, split) for one in folders])


def draw(here: EventTable, there: EventTable, test: EventTable, n_labels: int, seed: int) -> Sample:
    """Draws labelled events of ``here`` and others, without labels, of ``there``."""
    random = np.random.default_rng([seed, 17])
    parts = {
        one: random.permutation(np.flatnonzero(here.label == one)) for one in (BACKGROUND, SIGNAL)
    }
    rows = np.concatenate([part[: n_labels // 2] for part in parts.values()])
    others = [
        part[n_labels // 2 :]
        if here is there
        else random.permutation(np.flatnonzero(there.label == one))
        for one, part in parts.items()
    ]
    sizes = (round((1 - PRIOR) * POOL), round(PRIOR * POOL))
    pool = there.features[np.concatenate([o[:n] for o, n in zip(others, sizes, strict=True)])]
    mean, spread = np.nanmean(pool, axis=0), np.nanstd(pool, axis=0) + 1e-9

    def scaled(features: Floats) -> Floats:
        standard = np.clip(np.nan_to_num((features - mean) / spread), -5, 5)
        return np.column_stack([standard, np.ones(len(standard))])

    label = here.label[rows].astype(np.float64)
    return Sample(
        scaled(here.features[rows]), label, scaled(pool), scaled(test.features), test.label
    )


def train(sample: Sample, term: Term) -> float:
    """Trains by Adam, and returns the AUC of the test."""
    weights, first, second = (np.zeros(sample.pool.shape[1]) for _ in range(3))
    for step in range(1, STEPS + 1):
        score = sample.labelled @ weights
        gradient = sample.labelled.T @ (1 / (1 + np.exp(-score)) - sample.label) / len(score)
        gradient += DECAY * np.append(weights[:-1], 0)
        if term.weight and step > STEPS // 3:
            shift = np.log(term.prior / (1 - term.prior))
            try:
                found = estimate(sample.pool @ weights + shift, term.prior, term.kind)
                gradient += term.weight * (sample.pool.T @ found.slope)
            except NoMixtureError:
                pass
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        scaled = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        weights = weights - RATE * (1 - step / STEPS) * scaled
    return float(roc_auc_score(sample.test_label, sample.test @ weights))


def terms() -> list[tuple[str, Term]]:
    """What is compared, by the heading of its row."""
    found = [("labels alone", Term())]
    for kind in KINDS:
        found += [(f"{kind}, weight {one:g}", Term(kind, one)) for one in WEIGHTS]
        found += [
            (f"{kind}, weight 1, {100 * one:g} % stated", Term(kind, 1.0, one))
            for one in (PRIOR / 2, 2 * PRIOR)
        ]
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--other", nargs="+", type=Path, required=True)
    given = parser.parse_args()
    here, test = read(given.datasets, "train"), read(given.datasets, "test")
    there, elsewhere = read(given.other, "train"), read(given.other, "test")
    found: dict[str, list[list[float]]] = defaultdict(lambda: [[], []])
    for seed in range(1, SEEDS + 1):
        samples = (
            draw(here, here, test, 32, seed),
            draw(here, there, elsewhere, 2048, seed),
        )
        for name, term in terms():
            for place, sample in enumerate(samples):
                if not place or term.prior == PRIOR:
                    found[name][place].append(train(sample, term))
    print("| term | 32 labels | 2,048 labels, another simulation |\n|---|---|---|")
    for name, columns in found.items():
        cells = [
            f"{np.median(one):.3f} [{min(one):.3f}, {max(one):.3f}]" if one else "-"
            for one in columns
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

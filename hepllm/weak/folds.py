"""Scores of a box by classifiers that were trained on it: no event by one that has seen it.

The box is divided into folds. The classifiers of a fold are trained on the events of all others,
early stopping included, and score the fold. Classifiers of two folds give different scores to like
events, so folds are joined at equal efficiency: by the rank of an event within its fold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats, Ints
from hepllm.config.weak import WeakClassifier
from hepllm.weak.ensemble import fit_ensemble
from hepllm.weak.regions import Region
from hepllm.weak.templates import Sample, TemplateMaker, training_sample


@dataclass(frozen=True)
class FoldTask:
    """The events of a fold, to be scored for a signal region."""

    number: int
    region: Region
    fold: int

    @property
    def part(self) -> str:
        """Name of its finished part."""
        return f"region{self.number}-fold{self.fold}"

    def __str__(self) -> str:
        return f"{self.region}, fold {self.fold + 1}"


@dataclass(frozen=True)
class WeakTraining:
    """What is trained for each fold.

    Attributes:
        maker: how the template of the background is made.
        classifier: kind of the classifiers.
        members: their number.
        seed: seed of all random numbers.
    """

    maker: TemplateMaker
    classifier: WeakClassifier
    members: int
    seed: int

    def score(self, data: Sample, fold: Ints, background: Sample | None, task: FoldTask) -> Floats:
        """Trains on the events outside of a fold, and scores those of the fold.

        Args:
            data: N events of the box.
            fold: (N,) fold of each event.
            background: events of the other dataset, for those templates that need one.
            task: the fold and the signal region.

        Returns:
            Scores of the events of the fold, in their order.

        Raises:
            InputError: if a class has too few events for a training.
        """
        seed = self.seed_of(task)
        others = data.take(fold != task.fold)
        template = self.maker.make(others, task.region, background, seed)
        sample = training_sample(others, task.region, template, self.maker.names, seed)
        return fit_ensemble(sample, self.classifier, self.members).score(
            data.features[fold == task.fold]
        )

    def seed_of(self, task: FoldTask) -> int:
        """The seed of the template and the classifiers of a fold."""
        sequence = np.random.SeedSequence([self.seed, 60, task.number, task.fold])
        return int(sequence.generate_state(1)[0])


@dataclass(frozen=True)
class EventFiles:
    """Events in files, so that worker processes need not be sent them for each task."""

    folder: Path

    def write(self, data: Sample, fold: Ints, background: Sample | None) -> None:
        """Writes a box, its folds, and the other dataset."""
        arrays = {"features": data.features, "m_jj": data.m_jj, "fold": fold}
        if background is not None:
            arrays |= {"background": background.features, "background_m_jj": background.m_jj}
            if background.weight is not None:
                arrays["background_weight"] = background.weight
        for name, values in arrays.items():
            np.save(self._file(name), values, allow_pickle=False)

    def score(self, training: WeakTraining, task: FoldTask) -> Floats:
        """``WeakTraining.score`` of these events."""
        data = Sample(self._read("features"), self._read("m_jj"))
        background = None
        if self._file("background").exists():
            is_weighted = self._file("background_weight").exists()
            background = Sample(
                self._read("background"),
                self._read("background_m_jj"),
                self._read("background_weight") if is_weighted else None,
            )
        return training.score(data, self._read("fold"), background, task)

    def _read(self, name: str) -> NDArray[Any]:
        return np.asarray(np.load(self._file(name), mmap_mode="r", allow_pickle=False))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def draw_folds(n_events: int, n_folds: int, seed: int) -> Ints:
    """Draws the fold (N,) of each event; folds have equal sizes up to one event."""
    generator = np.random.default_rng([seed, 62])
    return np.asarray(generator.permutation(n_events) % n_folds, dtype=np.int64)


def at_equal_efficiency(scores: Floats, fold: Ints, seed: int) -> Floats:
    """Joins folds: the share of a fold's events that an event exceeds, as its score.

    A cut on it keeps the same share of each fold. Events of equal scores, of which trees make many,
    are put in an order at random: where classifiers have learnt nothing, so are all.

    Args:
        scores: (N,) scores, each by classifiers of its fold.
        fold: (N,) fold of each event.
        seed: seed of that order.

    Returns:
        Joined scores, shape (N,), in [0, 1).
    """
    generator = np.random.default_rng([seed, 63])
    joined = np.empty(len(scores))
    for number in np.unique(fold):
        mine = np.flatnonzero(fold == number)
        order = mine[np.lexsort((generator.random(len(mine)), scores[mine]))]
        # Without this, like ranks of two folds would be equal scores.
        joined[order] = (np.arange(len(mine)) + generator.random(len(mine))) / len(mine)
    return joined

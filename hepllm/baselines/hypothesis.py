"""Classifiers that are given the hypothesis as numbers, beside the features of an event.

One classifier learns all signals of a grid and interpolates between them when the parameters of the
signal are inputs like the others (Baldi et al., Eur. Phys. J. C 76 (2016) 235, arXiv:1601.07913).
Trees cut on one number at a time, so that they need many cuts to find out whether the mass of a jet
is the stated one; with the differences between both as further inputs they need one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.baselines.scorer import Fit, Scorer, TrainingSample
from hepllm.hypotheses.arrays import one_hot
from hepllm.hypotheses.hypothesis import OPEN

MASS_PAIRS = (("jet_mass_light", "jet_mass_delta"), ("jet1_mass", "jet2_mass"))
"""Pairs of features that tell the masses of the two leading jets."""

_LEAST = 1.0
"""Jet masses in GeV are clipped here before their logarithm is taken."""


@dataclass(frozen=True, eq=False)
class GivenHypothesis:
    """A classifier whose last inputs are numbers of the hypothesis; made by ``fit_given``.

    Attributes:
        scorer: the classifier.
        names: names of the features.
        differences: whether it gets the differences of stated and measured masses.
    """

    scorer: Scorer
    names: tuple[str, ...]
    differences: bool

    def score(self, features: Floats, hypothesis: NDArray[np.object_] | None = None) -> Floats:
        """Scores of (N, F) features, shape (N,), under (N,) hypotheses; None: the open one."""
        numbers = hypothesis_columns(features, self.names, hypothesis, self.differences)
        return self.scorer.score(np.column_stack([features, numbers]))


def fit_given(fit: Fit, sample: TrainingSample, *, differences: bool) -> GivenHypothesis:
    """Trains a classifier whose last inputs are numbers of the hypothesis.

    Args:
        fit: trains a classifier without hypotheses.
        sample: events with the hypothesis under which each is shown.
        differences: give it the differences of stated and measured masses as well.

    Raises:
        InputError: for events that no classifier can be trained on.
    """
    sample.check()
    numbers = hypothesis_columns(sample.features, sample.names, sample.hypothesis, differences)
    joined = np.column_stack([sample.features, numbers])
    added = tuple(f"hypothesis{column}" for column in range(numbers.shape[1]))
    scorer = fit(replace(sample, features=joined, names=sample.names + added, hypothesis=None))
    return GivenHypothesis(scorer, sample.names, differences)


def hypothesis_columns(
    features: Floats,
    names: Sequence[str],
    hypothesis: NDArray[np.object_] | None,
    differences: bool,
) -> Floats:
    """Makes inputs of hypotheses.

    They are the logarithms of the masses of X and Y, the heavier first, their numbers of prongs,
    and their decays one-hot. The differences are the logarithms of the mass of each jet over each
    stated mass: four, because a mass that is stated alone may be that of either jet.

    Args:
        features: (N, F), NaN where missing.
        names: names of the F features, ``MASS_PAIRS`` among them for differences.
        hypothesis: (N,); None for the open one.
        differences: whether they are added.

    Returns:
        Shape (N, 14), or (N, 18) with differences; NaN where something is unknown.
    """
    stated = one_hot([OPEN] * len(features) if hypothesis is None else hypothesis.tolist())
    columns = stated.columns
    logs = np.log(stated.masses)
    columns[:, : logs.shape[1]] = logs
    if not differences:
        return columns
    measured = np.log(np.maximum(jet_masses(features, names), _LEAST))
    ratios = measured[:, :, np.newaxis] - logs[:, np.newaxis, :]
    return np.column_stack([columns, ratios.reshape(len(features), -1)])


def jet_masses(features: Floats, names: Sequence[str]) -> Floats:
    """The masses of the two leading jets in GeV, the heavier first, shape (N, 2).

    Args:
        features: (N, F), NaN where missing.
        names: names of the F features, one of ``MASS_PAIRS`` among them.
    """
    (pair, *_) = (pair for pair in MASS_PAIRS if set(pair) <= set(names))
    first, second = features[:, [names.index(name) for name in pair]].T
    heavier, lighter = (
        (first + second, first)
        if pair == MASS_PAIRS[0]
        else (np.maximum(first, second), np.minimum(first, second))
    )
    return np.column_stack([heavier, lighter])


def has_jet_masses(names: Sequence[str]) -> bool:
    """Whether features tell the masses of the two leading jets."""
    return any(set(pair) <= set(names) for pair in MASS_PAIRS)

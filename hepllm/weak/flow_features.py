"""Features as a normalising flow learns them: unbounded, standardised, without gaps or spikes.

The steps are those of CATHODE (Hallin et al., arXiv:2109.00546, section III): each feature is
scaled to its range, sent through a logit, and standardised. What the paper's four features do not
have is added: absent values, values that many events share, and whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from hepllm.arrays import Bools, Floats, Ints
from hepllm.errors import InputError

_SPIKE = 0.01
"""Share of the events from which one value of a feature is a spike, not part of a density."""

_FEW = 100
"""Events of a pattern of absent values below which it is not interpolated on its own."""


@dataclass(frozen=True, eq=False)
class _Column:
    """How one feature is transformed; ``low`` and ``high`` are the ends of its range."""

    low: float
    high: float
    mean: float
    width: float
    is_integer: bool
    spike: float | None

    def forward(self, values: Floats) -> Floats:
        share = (values - self.low) / (self.high - self.low)
        return np.asarray((logit(share) - self.mean) / self.width)

    def inverse(self, values: Floats) -> Floats:
        share = expit(values * self.width + self.mean)
        raw = self.low + share * (self.high - self.low)
        if not self.is_integer:
            return np.asarray(raw)
        return np.asarray(np.clip(np.round(raw), self.low + 0.5, self.high - 0.5))


@dataclass(frozen=True, eq=False)
class FlowFeatures:
    """The transformation of F features into D that a flow can learn; made by ``fit_features``.

    A feature that is the same for all events is left out. A value that is absent, or that at least
    1 % of the events share exactly, is no sample of a density: it becomes a *mark*, a condition of
    the flow, and a normal random number takes its place. Marks are drawn from their own
    distribution, which is interpolated in m_jj by ``MarkModel``. Whole numbers are spread over a
    unit and rounded again.

    Attributes:
        constant: (F,) value of features that do not vary; NaN for those that do.
        varying: (D,) indices of the features that vary.
        columns: how each of them is transformed.
        marked: (K, 2) index among the D, and 0 for absent or 1 for the spike, of each mark.
    """

    constant: Floats
    varying: Ints
    columns: tuple[_Column, ...]
    marked: Ints

    def marks(self, features: Floats) -> Bools:
        """Which marks events have, shape (N, K)."""
        found = np.zeros((len(features), len(self.marked)), dtype=bool)
        for number, (place, kind) in enumerate(self.marked):
            values = features[:, self.varying[place]]
            found[:, number] = values == self.columns[place].spike if kind else np.isnan(values)
        return found

    def forward(self, features: Floats, generator: np.random.Generator) -> Floats:
        """Transforms (N, F) features into (N, D) finite numbers."""
        hidden = self._hidden(self.marks(features))
        result = np.empty((len(features), len(self.varying)))
        for place, column in enumerate(self.columns):
            values = features[:, self.varying[place]].copy()
            if column.is_integer:
                values += generator.uniform(-0.5, 0.5, len(values))
            values[hidden[:, place]] = 0.5 * (column.low + column.high)
            result[:, place] = column.forward(values)
        noise = generator.standard_normal(result.shape)
        return np.where(hidden, noise, result)

    def inverse(self, values: Floats, marks: Bools) -> Floats:
        """Transforms (N, D) samples with marks (N, K) back into (N, F) features."""
        result = np.tile(self.constant, (len(values), 1))
        for place, column in enumerate(self.columns):
            result[:, self.varying[place]] = column.inverse(values[:, place])
        for number, (place, kind) in enumerate(self.marked):
            spike = self.columns[place].spike if kind else np.nan
            result[marks[:, number], self.varying[place]] = spike
        return result

    def _hidden(self, marks: Bools) -> Bools:
        hidden = np.zeros((len(marks), len(self.varying)), dtype=bool)
        for number, (place, _) in enumerate(self.marked):
            hidden[:, place] |= marks[:, number]
        return hidden


def fit_features(features: Floats) -> FlowFeatures:
    """Chooses the transformation from (N, F) features of the sidebands.

    The range of a feature is the observed one, wider by a share 1 / N: where the density does not
    vanish at the end of its range, the largest of N values falls short of it by about as much.

    Raises:
        InputError: for infinite features, or if no feature varies.
    """
    infinite = np.flatnonzero(np.isinf(features).any(axis=1))
    if len(infinite):
        raise InputError(
            f"features are infinite in {len(infinite)} rows, the first is {infinite[0]}; "
            "leave them out or make them absent (NaN)"
        )
    constant = np.full(features.shape[1], np.nan)
    varying: list[int] = []
    columns: list[_Column] = []
    marked: list[tuple[int, int]] = []
    for index, values in enumerate(features.T):
        present = values[~np.isnan(values)]
        if not len(present):
            continue
        spike = _spike(present)
        dense = present if spike is None else present[present != spike]
        if len(np.unique(dense)) < 2:
            if len(present) == len(values) and len(np.unique(present)) == 1:
                constant[index] = present[0]
                continue
            dense = present
            spike = None
        if len(present) < len(values):
            marked.append((len(varying), 0))
        if spike is not None:
            marked.append((len(varying), 1))
        varying.append(index)
        columns.append(_fit_column(dense, spike))
    if not varying:
        raise InputError("no feature varies in the sidebands: there is no density to learn")
    return FlowFeatures(
        constant=constant,
        varying=np.array(varying, dtype=np.int64),
        columns=tuple(columns),
        marked=np.array(marked, dtype=np.int64).reshape(-1, 2),
    )


def _spike(present: Floats) -> float | None:
    """The value that at least 1 % of the events share, unless all values are whole numbers."""
    if _is_integer(present):
        return None
    values, counts = np.unique(present, return_counts=True)
    return float(values[counts.argmax()]) if counts.max() >= _SPIKE * len(present) else None


def _is_integer(values: Floats) -> bool:
    return bool((values == np.round(values)).all())


def _fit_column(dense: Floats, spike: float | None) -> _Column:
    is_integer = _is_integer(dense)
    if is_integer:
        low, high = dense.min() - 0.5, dense.max() + 0.5
        dense = dense + np.random.default_rng(0).uniform(-0.5, 0.5, len(dense))
    else:
        margin = (dense.max() - dense.min()) / len(dense)
        low, high = dense.min() - margin, dense.max() + margin
    scaled = logit((dense - low) / (high - low))
    width = float(scaled.std())
    return _Column(float(low), float(high), float(scaled.mean()), width, is_integer, spike)


@dataclass(frozen=True, eq=False)
class MarkModel:
    """Which marks an event has, given its m_jj; made by ``fit_marks``.

    Attributes:
        patterns: (P, K) patterns of marks that occur.
        group: (P,) class of the regression that each belongs to; rare patterns share one.
        weight: (P,) share of a pattern within its class.
        regression: probability of the classes; None for one class.
    """

    patterns: Bools
    group: Ints
    weight: Floats
    regression: LogisticRegression | None

    def draw(self, condition: Floats, generator: np.random.Generator) -> Bools:
        """Draws the marks, shape (N, K), of events with this scaled m_jj, shape (N,)."""
        probability = self.weight[None]
        if self.regression is not None:
            probability = self.regression.predict_proba(condition[:, None])[:, self.group]
            probability = probability * self.weight
        summed = np.cumsum(np.broadcast_to(probability, (len(condition), len(self.group))), axis=1)
        drawn = generator.random((len(condition), 1)) * summed[:, -1:]
        return np.asarray(self.patterns[(drawn >= summed).sum(axis=1)])


def fit_marks(marks: Bools, condition: Floats) -> MarkModel:
    """Fits the probability of each pattern of marks (N, K) against scaled m_jj, shape (N,).

    A multinomial logistic regression, linear in m_jj: over the width of a region and its sidebands
    the logarithm of the shares is nearly so.
    """
    patterns, pattern, counts = np.unique(marks, axis=0, return_inverse=True, return_counts=True)
    pattern = pattern.reshape(-1)
    common = np.flatnonzero(counts >= _FEW)
    group = np.full(len(patterns), len(common))
    group[common] = np.arange(len(common))
    classes, group = np.unique(group, return_inverse=True)
    weight = counts / np.bincount(group, counts)[group]
    regression = None
    if len(classes) > 1:
        regression = LogisticRegression(C=1e3).fit(condition[:, None], group[pattern])
    return MarkModel(patterns, group, weight, regression)

"""The smallest change of an event that moves its score over a threshold.

Changes are measured in the standardised space of the numeric fusion adapter, so that they compare
between features, and stay within the values that the training events have. The caller's score is
asked for every candidate: text and numbers of a changed event change together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hepllm.arrays import Bools, Floats
from hepllm.model.adapter.numbers import Standardizer
from hepllm.schema import FEATURES

Key = TypeVar("Key")
ScoreRows = Callable[[Floats], Floats]
"""(N,) scores of (N, F) rows."""

MAX_FEATURES = 3
"""Features that a change may touch."""

_GRID = 25
_CANDIDATES = 4
_REFINEMENTS = 3
_LEAST_STEP = 0.25
"""In standard deviations; a slope over less than this says little."""

_FLAT = 1e-6
"""Logits a standard deviation; a feature with less has no part in a change of several."""


@dataclass(frozen=True)
class Change:
    """A change of one feature.

    Attributes:
        name: of the feature.
        before: value of the event.
        after: value that it is changed to.
        standardised: the change in standard deviations of the transformed feature.
    """

    name: str
    before: float
    after: float
    standardised: float


@dataclass(frozen=True)
class Counterfactual:
    """An event on the other side of the threshold.

    Attributes:
        changes: of at least one feature.
        distance: length of the change in standardised space.
        score: of the changed event, from a forward pass.
    """

    changes: tuple[Change, ...]
    distance: float
    score: float


@dataclass(frozen=True)
class Counterfactuals:
    """The smallest changes that were found; None where none was, within the training values.

    Attributes:
        threshold: that the score has to cross.
        single: change of one feature.
        several: change of up to ``MAX_FEATURES``, if it is smaller than that of one.
    """

    threshold: float
    single: Counterfactual | None
    several: Counterfactual | None


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """The space in which changes are measured; made by ``feature_space``.

    Attributes:
        names: the F features.
        centre: (F,) mean of the transformed training values.
        scale: (F,) their standard deviation.
        is_log: (F,) whether log(1 + x) is taken first.
        low: (F,) least value of the training events; NaN where none has one.
        high: (F,) largest value.
    """

    names: tuple[str, ...]
    centre: Floats
    scale: Floats
    is_log: Bools
    low: Floats
    high: Floats

    def standardise(self, rows: Floats) -> Floats:
        """From physical units, shape (..., F)."""
        logs = np.log1p(np.clip(rows, 0, None))
        return (np.where(self.is_log, logs, rows) - self.centre) / self.scale

    def restore(self, standard: Floats) -> Floats:
        """To physical units within the training values, counts to whole numbers; (..., F)."""
        plain = standard * self.scale + self.centre
        with np.errstate(over="ignore"):
            rows = np.where(self.is_log, np.expm1(plain), plain)
        integral = np.array([FEATURES[name].integral for name in self.names])
        return np.clip(np.where(integral, np.round(rows), rows), self.low, self.high)


def feature_space(names: Sequence[str], training: Floats) -> FeatureSpace:
    """Takes scales and ranges from training events.

    Args:
        names: the F features.
        training: shape (N, F); NaN where missing.
    """
    standardizer = Standardizer(names)
    with torch.no_grad():
        standardizer.fit(training)
    present = ~np.isnan(training)
    seen = present.any(axis=0)
    low = np.where(present, training, np.inf).min(axis=0)
    high = np.where(present, training, -np.inf).max(axis=0)
    return FeatureSpace(
        tuple(names),
        standardizer.mean.double().numpy(),
        standardizer.scale.double().numpy(),
        standardizer.is_log.numpy(),
        np.where(seen, low, np.nan),
        np.where(seen, high, np.nan),
    )


def find_counterfactuals(
    score: ScoreRows, row: Floats, threshold: float, space: FeatureSpace
) -> Counterfactuals:
    """Finds the smallest change of one feature, and of several, that crosses a threshold.

    For one feature, its range in the training events is scanned and the nearest crossing refined.
    For several, the most effective ones are moved together, each in proportion to its effect, which
    is the shortest way where the score is linear.

    Args:
        score: of rows of features.
        row: shape (F,), the event; NaN where missing, which no change touches.
        threshold: events at or above it are on the one side.
        space: of the features.
    """
    search = _Search(score, row, threshold, space)
    curves = search.scan()
    found = [search.nearest(curve) for curve in curves.values()]
    single = min((one for one in found if one is not None), key=_distance, default=None)
    several = search.combine(curves)
    if several is not None and single is not None and several.distance >= single.distance:
        several = None
    return Counterfactuals(threshold, single, several)


def _distance(found: Counterfactual) -> float:
    return found.distance


@dataclass(frozen=True, eq=False)
class _Curve:
    """Scores along a line of changed events.

    Attributes:
        rows: (P, F), in order from the event outwards.
        scores: (P,).
    """

    rows: Floats
    scores: Floats


class _Search:
    def __init__(
        self, score: ScoreRows, row: Floats, threshold: float, space: FeatureSpace
    ) -> None:
        self._score = score
        self._row = row
        self._threshold = threshold
        self._space = space
        self._standard = space.standardise(row)
        (self._own,) = score(row[np.newaxis])
        self._is_above = self._own >= threshold

    def scan(self) -> dict[tuple[int, int], _Curve]:
        """Scores along each feature in both directions, by column and direction."""
        return self._curves(
            {
                (column, side): self._line(np.array([column]), np.array([float(side)]))
                for column in range(len(self._row))
                for side in (-1, 1)
            }
        )

    def nearest(self, curve: _Curve) -> Counterfactual | None:
        """The first event on a line that is on the other side, refined."""
        crossed = np.flatnonzero((curve.scores >= self._threshold) != self._is_above)
        if not len(crossed):
            return None
        place = int(crossed[0])
        outer, score = curve.rows[place], float(curve.scores[place])
        inner = curve.rows[place - 1] if place else self._row
        for _ in range(_REFINEMENTS):
            steps = np.linspace(0, 1, 9)[1:, np.newaxis]
            start, stop = (self._space.standardise(one) for one in (inner, outer))
            rows = self._placed(start + steps * (stop - start))
            scores = self._score(rows)
            # The last is the outer end again, which crosses but for rounding of its numbers.
            crossed = np.flatnonzero((scores >= self._threshold) != self._is_above)
            if not len(crossed):
                break
            place = int(crossed[0])
            inner = rows[place - 1] if place else inner
            outer, score = rows[place], float(scores[place])
        return self._describe(outer, score)

    def combine(self, curves: Mapping[tuple[int, int], _Curve]) -> Counterfactual | None:
        """The nearest crossing on lines in the space of the most effective features."""
        slopes = {key: self._slope(curve) for key, curve in curves.items()}
        best: dict[int, tuple[float, int]] = {}
        for (column, side), slope in slopes.items():
            if slope > best.get(column, (_FLAT, 0))[0]:
                best[column] = (slope, side)
        columns = sorted(best, key=lambda column: -best[column][0])[:_CANDIDATES]
        lines: dict[tuple[int, ...], Floats] = {}
        for size in range(2, MAX_FEATURES + 1):
            for chosen in combinations(columns, size):
                direction = np.array([best[column][0] * best[column][1] for column in chosen])
                lines[chosen] = self._line(np.array(chosen), direction)
        found = [self.nearest(curve) for curve in self._curves(lines).values()]
        return min((one for one in found if one is not None), key=_distance, default=None)

    def _slope(self, curve: _Curve) -> float:
        """The largest mean gain towards the threshold a standard deviation."""
        distance = self._distances(curve.rows)
        gain = (curve.scores - self._own) * (-1.0 if self._is_above else 1.0)
        far = distance >= _LEAST_STEP
        return float((gain[far] / distance[far]).max()) if far.any() else 0.0

    def _line(self, columns: NDArray[np.intp], direction: Floats) -> Floats:
        """Changed rows from the event outwards, shape (P, F); none where nothing can change."""
        space, start = self._space, self._standard[columns]
        if np.isnan(start).any() or np.isnan(space.low[columns]).any():
            return np.empty((0, len(self._row)))
        ends = [space.standardise(bound)[columns] for bound in (space.low, space.high)]
        room = np.where(direction > 0, ends[1] - start, start - ends[0])
        if (room <= 0).all():
            return np.empty((0, len(self._row)))
        # Up to where the last feature leaves its range; the others wait at their ends.
        reach = float((room / np.abs(direction)).max())
        steps = np.linspace(0, reach, _GRID)[1:, np.newaxis]
        standard = np.tile(self._standard, (len(steps), 1))
        standard[:, columns] = np.clip(start + steps * direction, *ends)
        return self._placed(standard)

    def _placed(self, standard: Floats) -> Floats:
        """Rows in physical units that differ from the event where they are meant to."""
        same = np.isclose(standard, self._standard, rtol=0, atol=1e-12, equal_nan=True)
        return np.where(same, self._row, self._space.restore(standard))

    def _curves(self, lines: Mapping[Key, Floats]) -> dict[Key, _Curve]:
        """Scores of several lines in one go."""
        lines = {key: rows for key, rows in lines.items() if len(rows)}
        if not lines:
            return {}
        scores = self._score(np.concatenate(list(lines.values())))
        ends = np.cumsum([len(rows) for rows in lines.values()])[:-1]
        parts = np.split(scores, ends)
        return {
            key: _Curve(rows, part) for (key, rows), part in zip(lines.items(), parts, strict=True)
        }

    def _distances(self, rows: Floats) -> Floats:
        moved = np.nan_to_num(self._space.standardise(rows) - self._standard)
        return np.asarray(np.sqrt(np.square(moved).sum(axis=-1)))

    def _describe(self, row: Floats, score: float) -> Counterfactual:
        moved = self._space.standardise(row) - self._standard
        changes = tuple(
            Change(name, float(before), float(after), float(by))
            for name, before, after, by in zip(
                self._space.names, self._row, row, moved, strict=True
            )
            if before != after and not np.isnan(after)
        )
        return Counterfactual(changes, float(self._distances(row)), score)

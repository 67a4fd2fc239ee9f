"""The smallest change of an event that moves its score over a threshold.

Changes are measured in the standardised space of the numeric fusion adapter, which makes features
comparable, and stay within the values of the training events. Every candidate is scored by the
model: text and numbers of a changed event change together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hepllm.arrays import Bools, Floats
from hepllm.model.adapter.embedding import Standardizer
from hepllm.schema import feature_of

Key = TypeVar("Key")
ScoreRows = Callable[[Floats], Floats]
"""Returns scores, shape (N,), of rows, shape (N, F)."""

MAX_FEATURES = 3
"""Largest number of features in one change."""

_GRID = 25
_CANDIDATES = 4
_REFINEMENTS = 3
_LEAST_STEP = 0.25
"""Smallest step in standard deviations that a slope is computed from."""

_FLAT = 1e-6
"""Smallest slope, in logits per standard deviation, of a feature in a change of several."""


@dataclass(frozen=True)
class Change:
    """A change of one feature; ``standardised`` is in standard deviations after the transform."""

    name: str
    before: float
    after: float
    standardised: float


@dataclass(frozen=True)
class Counterfactual:
    """An event on the other side of the threshold.

    Attributes:
        changes: changes of one or more features.
        distance: length of the change in standardised space.
        score: score of the changed event, from a forward pass.
    """

    changes: tuple[Change, ...]
    distance: float
    score: float


@dataclass(frozen=True)
class Counterfactuals:
    """The smallest changes; None where no change within the training values crosses.

    Attributes:
        threshold: threshold on the score.
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
        names: names of the F features.
        centre: (F,) mean of the transformed training values.
        scale: (F,) standard deviation of the transformed training values.
        is_log: (F,) whether the transform is log(1 + x).
        low: (F,) smallest value of the training events; NaN where no event has one.
        high: (F,) largest value.
    """

    names: tuple[str, ...]
    centre: Floats
    scale: Floats
    is_log: Bools
    low: Floats
    high: Floats

    def standardise(self, rows: Floats) -> Floats:
        """Converts values in physical units, shape (..., F)."""
        logs = np.log1p(np.clip(rows, 0, None))
        return (np.where(self.is_log, logs, rows) - self.centre) / self.scale

    def restore(self, standard: Floats) -> Floats:
        """Converts to physical units, shape (..., F), within the training values; rounds counts."""
        plain = standard * self.scale + self.centre
        with np.errstate(over="ignore"):
            rows = np.where(self.is_log, np.expm1(plain), plain)
        integral = np.array([feature_of(name).integral for name in self.names])
        return np.clip(np.where(integral, np.round(rows), rows), self.low, self.high)


def feature_space(names: Sequence[str], training: Floats) -> FeatureSpace:
    """Computes scales and ranges of F features of training events, shape (N, F), NaN if missing."""
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

    For one feature, scans its range in the training events and refines the nearest crossing. For
    several, moves the most effective ones together, each in proportion to its effect, which is the
    shortest way where the score is linear.

    Args:
        score: scores rows of features.
        row: (F,) features of the event; NaN where missing, which never changes.
        threshold: threshold on the score.
        space: space of the features.
    """
    search = _Search(score, row, threshold, space)
    curves = search.scan()
    single = search.smallest(curves.values())
    several = search.combine(curves)
    if several is not None and single is not None and several.distance >= single.distance:
        several = None
    return Counterfactuals(threshold, single, several)


@dataclass(frozen=True, eq=False)
class _Curve:
    """Rows (P, F) and scores (P,) of changed events along a line, from the event outwards."""

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
        """Scores changes of each feature in both directions, by column and direction."""
        return self._curves(
            {
                (column, side): self._line(np.array([column]), np.array([float(side)]))
                for column in range(len(self._row))
                for side in (-1, 1)
            }
        )

    def smallest(self, curves: Iterable[_Curve]) -> Counterfactual | None:
        """Returns the smallest change on several lines that crosses the threshold."""
        found = [one for one in map(self.nearest, curves) if one is not None]
        return min(found, key=lambda one: one.distance, default=None)

    def nearest(self, curve: _Curve) -> Counterfactual | None:
        """Returns the first event on a line on the other side of the threshold, refined."""
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
            # The last step is the outer end again, which crosses unless rounding prevents it.
            crossed = np.flatnonzero((scores >= self._threshold) != self._is_above)
            if not len(crossed):
                break
            place = int(crossed[0])
            inner = rows[place - 1] if place else inner
            outer, score = rows[place], float(scores[place])
        return self._describe(outer, score)

    def combine(self, curves: Mapping[tuple[int, int], _Curve]) -> Counterfactual | None:
        """Returns the smallest change of several of the most effective features."""
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
        return self.smallest(self._curves(lines).values())

    def _slope(self, curve: _Curve) -> float:
        """Returns the largest mean gain towards the threshold per standard deviation."""
        distance = self._distances(curve.rows)
        gain = (curve.scores - self._own) * (-1.0 if self._is_above else 1.0)
        far = distance >= _LEAST_STEP
        return float((gain[far] / distance[far]).max()) if far.any() else 0.0

    def _line(self, columns: NDArray[np.intp], direction: Floats) -> Floats:
        """Returns changed rows from the event outwards, shape (P, F), if something can change."""
        space, start = self._space, self._standard[columns]
        nothing = np.empty((0, len(self._row)))
        if np.isnan(start).any() or np.isnan(space.low[columns]).any():
            return nothing
        ends = [space.standardise(bound)[columns] for bound in (space.low, space.high)]
        room = np.where(direction > 0, ends[1] - start, start - ends[0])
        if (room <= 0).all():
            return nothing
        # Ends where the last feature leaves its range; the others stop at their ends before.
        reach = float((room / np.abs(direction)).max())
        steps = np.linspace(0, reach, _GRID)[1:, np.newaxis]
        standard = np.tile(self._standard, (len(steps), 1))
        standard[:, columns] = np.clip(start + steps * direction, *ends)
        return self._placed(standard)

    def _placed(self, standard: Floats) -> Floats:
        """Converts rows to physical units, with unchanged features exactly as in the event."""
        same = np.isclose(standard, self._standard, rtol=0, atol=1e-12, equal_nan=True)
        return np.where(same, self._row, self._space.restore(standard))

    def _curves(self, lines: Mapping[Key, Floats]) -> dict[Key, _Curve]:
        """Scores several lines together."""
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

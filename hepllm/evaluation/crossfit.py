"""The largest SIC, at cuts that are chosen on other events than they are read on.

A cut that is chosen on the sample itself follows its fluctuations, and one that is chosen on few
validation events cannot be tight: the maximum then measures their number. So the sample is divided
into folds. The cut of each fold is chosen on the events of all other folds and on the validation
events, and read on the fold alone; the folds are joined (cross-fitting). No label of an event has a
part in the choice of its own cut, and the cuts are as tight as the sample itself can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.evaluation.metrics import ROUNDING, WorkingPoint, read_passing
from hepllm.evaluation.scores import ScoredEvents

N_FOLDS = 20
"""A fold is 5 % of the events: the other folds, in which the minimum must pass, are nearly all."""

RULE = f"largest SIC on the other {N_FOLDS - 1} of {N_FOLDS} folds and on validation data"

_SINGLY = 100
_STEP = 0.01


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of weights of one class above each of C cuts, in each of F folds.

    Attributes:
        passing: (F, C) sums.
        total: (F,) sums over all events.
        squares: (F, C) sums of squares.
        known: (C,) sums of the validation events.
        known_total: sum over all validation events.
    """

    passing: Floats
    total: Floats
    squares: Floats
    known: Floats
    known_total: float

    def elsewhere(self) -> tuple[Floats, Floats]:
        """Sums (F, C) and their totals (F, 1) in the other folds."""
        passing, total = self.passing.sum(axis=0) - self.passing, self.total.sum() - self.total
        return passing, total[:, None]


@dataclass(frozen=True, eq=False)
class _Class:
    """The events of one class, sorted into folds and intervals between cuts.

    Attributes:
        fold: (N,) fold of each event.
        place: (N,) index of the first cut that each event passes; C for none.
        cell: (N,) number of the fold and place of each event.
        weight: (N,) weights.
        known_place: (V,) the same of the validation events.
        known_weight: (V,) weights of the validation events, in units of the sample's.
        n_cuts: C.
        equal: the weight of every event; None where weights differ.
    """

    fold: Ints
    place: Ints
    cell: Ints
    weight: Floats
    known_place: Ints
    known_weight: Floats
    n_cuts: int
    equal: float | None

    def sums(self, drawn: Floats, known: Floats) -> _Sums:
        """Sums the weights of drawn events.

        Args:
            drawn: (N,) how often each event is drawn, times its weight.
            known: (V,) how often each validation event is drawn.
        """
        passing, total = self._above(drawn)
        if self.equal is None:
            squares = self._above(drawn * self.weight)[0]
        else:
            squares = passing * self.equal
        of_known = _histogram(self.known_place, known * self.known_weight, self.n_cuts + 1)
        above = np.cumsum(of_known)[:-1]
        return _Sums(passing, total, squares, above, float(of_known.sum()))

    def _above(self, weight: Floats) -> tuple[Floats, Floats]:
        between = _histogram(self.cell, weight, N_FOLDS * (self.n_cuts + 1))
        above = np.cumsum(between.reshape(N_FOLDS, -1), axis=1)
        return above[:, :-1], above[:, -1]


@dataclass(frozen=True, eq=False)
class _Score:
    """One score of the sample, with its cuts (C,) from the tightest to the loosest."""

    events: ScoredEvents
    cuts: Floats
    signal: _Class
    background: _Class


class CrossFit:
    """Chooses the cuts of the largest SIC of several scores, and reads them, in any draw of events.

    Args:
        samples: scores of the same events by name.
        validation: scores of other events by name; None where there are none.
        cut_of: the score whose cut applies to a score, by name; its own if it is not named.
        n_min: effective number of background events that must pass.
        seed: seed of the folds and of the draws of validation events.
    """

    def __init__(
        self,
        samples: Mapping[str, ScoredEvents],
        validation: Mapping[str, ScoredEvents] | None,
        cut_of: Mapping[str, str],
        n_min: int,
        seed: int,
    ) -> None:
        first = next(iter(samples.values()))
        fold = draw_folds(first.is_signal, seed)
        self._n_min = n_min
        self._choosers = {name: cut_of.get(name, name) for name in samples}
        self._scores: dict[str, _Score] = {}
        for name, chooser in self._choosers.items():
            known = None if validation is None else validation[chooser]
            cuts = _candidates(samples[chooser], known)
            self._scores[name] = _sort(samples[name], known, fold, cuts)
        some = next(iter(self._scores.values()))
        self._n_known = len(some.signal.known_place), len(some.background.known_place)
        self._generator = np.random.default_rng([seed, 7])
        ones = [np.ones(number) for number in self._n_known]
        weight = first.weight
        drawn = (weight[first.is_signal], weight[~first.is_signal])
        self._chosen = self._choose(self._sum(drawn, ones)) if first.problem is None else {}
        self._last = self._chosen

    def cuts(self, name: str) -> Floats:
        """The cut of each fold, for folds that have one."""
        chosen = self._chosen.get(self._choosers[name], np.empty(0, dtype=np.int64))
        return np.asarray(self._scores[name].cuts[chosen[chosen >= 0]])

    def point(self, name: str) -> WorkingPoint:
        """Reads the cuts of one score on the events themselves, with the median of the cuts."""
        score, chosen = self._scores[name], self._chosen.get(self._choosers[name])
        problem = score.events.problem
        if problem is not None or chosen is None:
            return WorkingPoint(reason=problem or "no events")
        if (chosen < 0).all():
            reason = f"fewer than {self._n_min} background events outside a fold"
            return WorkingPoint(reason=reason)
        passes = np.empty(len(score.events.label), dtype=np.bool_)
        is_signal = score.events.is_signal
        passes[is_signal] = _passes(score.signal, chosen)
        passes[~is_signal] = _passes(score.background, chosen)
        threshold = float(np.median(self.cuts(name)))
        return read_passing(score.events, passes, self._n_min, threshold)

    def draw(self, drawn_s: Floats, drawn_b: Floats) -> dict[str, tuple[float, float]]:
        """Measures all scores in a replica of the events.

        The cuts are those that the draw before chose, because in the sample too the events that
        choose a cut are others than those that it is read on. So the replicas vary by both.

        Args:
            drawn_s: (S,) how often each signal event is drawn, times its weight.
            drawn_b: (B,) the same for the background.

        Returns:
            Signal and background efficiency, by name of the score.
        """
        known = [
            np.bincount(self._generator.integers(n, size=n), minlength=n).astype(np.float64)
            if n
            else np.empty(0)
            for n in self._n_known
        ]
        sums = self._sum((drawn_s, drawn_b), known)
        found = {
            name: _read(*sums[name], self._last[chooser])
            for name, chooser in self._choosers.items()
        }
        self._last = self._choose(sums)
        return found

    def _sum(
        self, drawn: tuple[Floats, Floats], known: list[Floats]
    ) -> dict[str, tuple[_Sums, _Sums]]:
        return {
            name: (
                score.signal.sums(drawn[0], known[0]),
                score.background.sums(drawn[1], known[1]),
            )
            for name, score in self._scores.items()
        }

    def _choose(self, sums: Mapping[str, tuple[_Sums, _Sums]]) -> dict[str, Ints]:
        """Index (F,) of the cut for each fold, by name of the score that chooses; -1 for none."""
        return {
            name: _best(*sums[name], self._n_min) for name in dict.fromkeys(self._choosers.values())
        }


def draw_folds(is_signal: Bools, seed: int) -> Ints:
    """Draws the fold (N,) of each event, with equal numbers of each class in all folds."""
    generator = np.random.default_rng([seed, 6])
    fold = np.empty(len(is_signal), dtype=np.int64)
    for chosen in (is_signal, ~is_signal):
        fold[chosen] = generator.permutation(np.count_nonzero(chosen)) % N_FOLDS
    return fold


def _candidates(events: ScoredEvents, known: ScoredEvents | None) -> Floats:
    """Cuts (C,) in falling order: the largest scores singly, then ranks that grow by 1 %."""
    parts = [events.score] if known is None else [events.score, known.score]
    scores = np.sort(np.concatenate(parts))[::-1]
    if not len(scores):
        return scores
    n_steps = max(round(np.log(max(len(scores) / _SINGLY, 1)) / _STEP), 1)
    ranks = np.concatenate(
        [np.arange(_SINGLY), np.geomspace(_SINGLY, max(len(scores), _SINGLY), n_steps + 1) - 1]
    )
    chosen = np.minimum(ranks.astype(np.int64), len(scores) - 1)
    return np.unique(scores[chosen])[::-1]


def _sort(events: ScoredEvents, known: ScoredEvents | None, fold: Ints, cuts: Floats) -> _Score:
    def of_class(chosen: Bools, known_chosen: Bools | None) -> _Class:
        weight, known_weight = events.weight[chosen], np.empty(0)
        known_place = np.empty(0, dtype=np.int64)
        if known is not None and known_chosen is not None and weight.sum() > 0:
            known_weight = known.weight[known_chosen]
            if known_weight.sum() > 0:  # else they cannot be normalised
                known_place = _place(known.score[known_chosen], cuts)
                known_weight = known_weight * (_unit(weight) / _unit(known_weight))
            else:
                known_weight = np.empty(0)
        place = _place(events.score[chosen], cuts)
        return _Class(
            fold=fold[chosen],
            place=place,
            cell=fold[chosen] * (len(cuts) + 1) + place,
            weight=weight,
            known_place=known_place,
            known_weight=known_weight,
            n_cuts=len(cuts),
            equal=float(weight[0]) if len(weight) and (weight == weight[0]).all() else None,
        )

    is_signal = events.is_signal
    others = (None, None) if known is None else (known.is_signal, ~known.is_signal)
    return _Score(events, cuts, of_class(is_signal, others[0]), of_class(~is_signal, others[1]))


def _histogram(place: Ints, weight: Floats, n_places: int) -> Floats:
    return np.bincount(place, weight, minlength=n_places).astype(np.float64, copy=False)


def _unit(weight: Floats) -> float:
    """Weight of one of the events of equal weight that measure as much as these."""
    return float(np.square(weight).sum() / weight.sum())


def _place(score: Floats, cuts: Floats) -> Ints:
    return np.searchsorted(-cuts, -score, side="left")


def _best(signal: _Sums, background: _Sums, n_min: int) -> Ints:
    """Chooses, for each fold, the cut of the largest SIC that ``n_min`` others' background pass."""
    passing_s, total_s = signal.elsewhere()
    passing_b, total_b = background.elsewhere()
    squares = background.squares.sum(axis=0) - background.squares
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing passes the tightest cuts
        effective = np.where(passing_b > 0, passing_b**2 / squares, 0.0)
        eps_s = (passing_s + signal.known) / (total_s + signal.known_total)
        eps_b = (passing_b + background.known) / (total_b + background.known_total)
        sic = eps_s / np.sqrt(eps_b)
    allowed = (effective >= n_min * (1 - ROUNDING)) & (eps_b > 0) & np.isfinite(sic)
    best = np.argmax(np.where(allowed, sic, -np.inf), axis=1)
    return np.where(allowed.any(axis=1), best, -1)


def _read(signal: _Sums, background: _Sums, chosen: Ints) -> tuple[float, float]:
    folds = np.flatnonzero(chosen >= 0)
    eps_s, eps_b = (
        float(sums.passing[folds, chosen[folds]].sum() / sums.total.sum())
        for sums in (signal, background)
    )
    return eps_s, eps_b


def _passes(events: _Class, chosen: Ints) -> Bools:
    """Mask (N,) of the events that pass the cut of their fold."""
    return np.asarray(events.place <= chosen[events.fold])

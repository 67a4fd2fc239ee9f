"""Features that follow exactly from others, which a density must not learn on its own.

``tau21`` is ``tau2 / tau1`` in every event. Drawn independently, however well, it is not, and a
classifier of data against such a template learns nothing but that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.physics.derivation import derivable, derive_features
from hepllm.physics.events import TabulatedEvents
from hepllm.schema import FEATURES

_COMPARED = 5000
"""Events on which it is tried whether a feature follows."""

_TOLERANCE = 1e-4
"""Relative difference that single precision, in which datasets are stored, stays well below."""

_SHARE = 0.99
"""Share of these events in which it must."""

_BATCH = 50_000

_ORDERED = {
    f"tau{n}_b1_{which}": (f"jet1_tau{n}", f"jet2_tau{n}", which == "light")
    for n in (1, 2, 3)
    for which in ("light", "heavy")
}
"""N-subjettiness with beta = 1 is in both the usual and the extended set, by pT and by mass."""

_MASSES = ("jet1_mass", "jet2_mass")

_SUBJETTINESS = re.compile(r"(?P<begin>.*tau)(?P<n>[2-9])(?P<end>_.*)?")


@dataclass(frozen=True, eq=False)
class Following:
    """Which of F features are learnt, and which follow from them; made by ``find_following``.

    N-subjettiness is learnt as its ratio to that of N - 1: the two have nearly the same
    distribution, and it is their small difference that tells jets apart.

    Attributes:
        names: names of the F features.
        learnt: indices of those that are learnt.
        denominator: for each of these the place, among them, of the one by which it is divided; -1
            for none.
    """

    names: tuple[str, ...]
    learnt: Ints
    denominator: Ints

    def coordinates(self, features: Floats) -> Floats:
        """What a density learns, shape (N, L), of features (N, F)."""
        values = features[:, self.learnt]
        result = values.copy()
        for place, below in enumerate(self.denominator):
            if below >= 0:
                zero = values[:, below] == 0
                safe = np.where(zero, 1.0, values[:, below])
                result[:, place] = np.where(zero, 1.0, values[:, place] / safe)
        return result

    def complete(self, coordinates: Floats) -> Floats:
        """Computes all F features, shape (N, F), from what is learnt, shape (N, L)."""
        values = coordinates.copy()
        for place in sorted(range(len(self.learnt)), key=self._name_of):  # tau2 before tau3
            if self.denominator[place] >= 0:
                values[:, place] *= values[:, self.denominator[place]]
        known = [self.names[index] for index in self.learnt]
        result = np.empty((len(values), len(self.names)))
        result[:, self.learnt] = values
        others = np.setdiff1d(np.arange(len(self.names)), self.learnt)
        for start in range(0, len(values) if len(others) else 0, _BATCH):
            part = slice(start, start + _BATCH)
            derived = _derive(dict(zip(known, values[part].T, strict=True)))
            for index in others:
                result[part, index] = derived[self.names[index]]
        return result

    def _name_of(self, place: int) -> str:
        return self.names[int(self.learnt[place])]


def _denominators(names: Sequence[str], learnt: Sequence[int], plain: set[int]) -> list[int]:
    places = {names[index]: place for place, index in enumerate(learnt)}
    found = []
    for index in learnt:
        match = None if index in plain else _SUBJETTINESS.fullmatch(names[index])
        if match is None:
            found.append(-1)
            continue
        below = f"{match['begin']}{int(match['n']) - 1}{match['end'] or ''}"
        found.append(places.get(below, -1))
    return found


def find_following(names: Sequence[str], features: Floats) -> Following:
    """Finds the features (N, F) that follow from others by their definitions.

    A definition counts only where it holds in the events: a table of another origin may mean
    something else by the same name.
    """
    rows = features[:_COMPARED]
    learnt, plain = set(_independent(names)), set[int]()
    while True:
        places = sorted(learnt)
        below = _denominators(names, places, plain)
        found = Following(tuple(names), np.array(places, dtype=np.int64), np.array(below))
        wrong = set(np.flatnonzero(~_agree(found.complete(found.coordinates(rows)), rows)).tolist())
        if not wrong:
            return found
        # What does not follow is learnt, and what is no ratio, as where tau1 alone is absent, is
        # learnt as it is; then it agrees.
        plain |= wrong & learnt
        learnt |= wrong


def _independent(names: Sequence[str]) -> list[int]:
    """Indices of features from which the definitions give all others."""
    kept = list(range(len(names)))
    for index in range(len(names)):
        rest = [names[other] for other in kept if other != index]
        if names[index] in _names_from(rest):
            kept.remove(index)
    return kept


def _names_from(names: Sequence[str]) -> set[str]:
    known = [name for name in names if name in FEATURES]
    given = set(derivable(known)) if known else set()
    ordered = {name for name, (one, two, _) in _ORDERED.items() if {one, two, *_MASSES} <= given}
    return given | ordered


def _derive(columns: dict[str, Floats]) -> dict[str, Floats]:
    count = len(next(iter(columns.values())))
    given = {name: values for name, values in columns.items() if name in FEATURES}
    found = dict(derive_features(TabulatedEvents(given, np.zeros(count, dtype=np.uint64))))
    first_is_light = found[_MASSES[0]] <= found[_MASSES[1]]
    for name, (one, two, is_light) in _ORDERED.items():
        if name not in given:
            found[name] = np.where(first_is_light == is_light, found[one], found[two])
    return found


def _agree(completed: Floats, given: Floats) -> Bools:
    close = np.isclose(completed, given, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
    return np.asarray(close.mean(axis=0) >= _SHARE)

"""What several classifiers, each trained several times, reach on several signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepllm.evaluation.seed_intervals import OverRuns

Floats = NDArray[np.float64]

METRICS = ("sic_at_eps_b", "sic_at_eps_s", "auc")
EPS_B, EPS_S = 1e-3, 0.5


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of the signal, (S,), and of the background, (B,), of one case."""

    signal: Floats
    background: Floats


class _Ranks:
    """Where the signal of one case stands among its background, for quick replicas."""

    def __init__(self, scored: Scored) -> None:
        falling = np.argsort(-scored.background, kind="stable")
        ranked = -scored.background[falling]
        self.background = falling.astype(np.int32)
        order = np.argsort(-scored.signal, kind="stable")
        self.signal = order
        wanted = -scored.signal[order]
        self.above = np.searchsorted(ranked, wanted, side="left")
        self.reached = np.searchsorted(ranked, wanted, side="right")
        self.last_equal = np.searchsorted(wanted, wanted, side="right") - 1

    def measure(self, weight_s: Floats, weight_b: Floats) -> tuple[float, float, float]:
        """The numbers of ``METRICS`` for weights (S,) and (B,)."""
        weight_s = weight_s[self.signal]
        passing = np.concatenate([[0.0], np.cumsum(weight_b[self.background])])
        total_s, total_b = weight_s.sum(), passing[-1]
        ahead = (passing[self.above] + passing[self.reached]) / 2
        area = 1 - float(weight_s @ ahead) / (total_s * total_b)
        # The loosest cut that keeps at most this share of the background.
        place = int(np.searchsorted(passing, EPS_B * total_b * (1 + 1e-9), side="right")) - 1
        kept = weight_s[self.reached <= place].sum() / total_s
        tight = kept / np.sqrt(passing[place] / total_b) if passing[place] else np.nan
        # The tightest cut that keeps at least this share of the signal.
        sums = np.cumsum(weight_s)
        last = self.last_equal[np.searchsorted(sums, EPS_S * total_s * (1 - 1e-9))]
        behind = passing[self.reached[last]] / total_b
        return tight, sums[last] / total_s / np.sqrt(behind) if behind else np.nan, area


Measured = dict[str, OverRuns]
"""For each metric, the mean over cases of each training, with its replicas."""


def measure(
    scored: Mapping[str, Sequence[Sequence[Scored]]], n_replicas: int, seed: int
) -> tuple[dict[str, Floats], dict[str, Measured]]:
    """Measures classifiers in the same replicas of all events.

    Args:
        scored: by label, for each training the scores of each case. Cases with equally many
            background events share them.
        n_replicas: number of replicas R.
        seed: seed of the draws.

    Returns:
        By label the metrics (trainings, cases, 3), and their means over cases.
    """
    ranks = {label: [list(map(_Ranks, one)) for one in all_] for label, all_ in scored.items()}
    some = next(iter(scored.values()))[0]
    sizes = [(len(case.signal), len(case.background)) for case in some]

    def measured(weights: Sequence[tuple[Floats, Floats]]) -> dict[str, Floats]:
        return {
            label: np.array(
                [[rank.measure(*weights[place]) for place, rank in enumerate(one)] for one in all_]
            )
            for label, all_ in ranks.items()
        }

    found = measured([(np.ones(n_s), np.ones(n_b)) for n_s, n_b in sizes])
    draws: dict[str, list[Floats]] = {label: [] for label in ranks}
    for replica in range(n_replicas):
        weights = [
            (_drawn(n_s, [seed, replica, 1 + place]), _drawn(n_b, [seed, replica, 0]))
            for place, (n_s, n_b) in enumerate(sizes)
        ]
        for label, values in measured(weights).items():
            draws[label].append(values.mean(axis=1))
    means = {
        label: {
            metric: OverRuns(values[..., i].mean(axis=1), np.array(draws[label])[..., i])
            for i, metric in enumerate(METRICS)
        }
        for label, values in found.items()
    }
    return found, means


def _drawn(n_events: int, seed: Sequence[int]) -> Floats:
    """How often each event is drawn, shape (n_events,)."""
    drawn = np.random.default_rng(seed).integers(n_events, size=n_events)
    return np.bincount(drawn, minlength=n_events).astype(np.float64)


_PER_REPLICA = 20


@dataclass(frozen=True, eq=False)
class Mean:
    """A mean over trainings, with draws of its uncertainty by events and by trainings.

    The draws are those of ``hepllm.evaluation.seed_intervals``.
    """

    value: float
    draws: Floats

    @classmethod
    def of(cls, one: OverRuns, seed: int) -> Mean:
        """The mean of n trainings; of one, with the uncertainty by events alone."""
        draws, n_runs = np.repeat(one.draws.mean(axis=1), _PER_REPLICA), len(one.values)
        if n_runs > 1:
            error = one.values.std(ddof=1) / np.sqrt(n_runs)
            random = np.random.default_rng([seed, 8])
            draws = draws + error * random.standard_t(n_runs - 1, size=len(draws))
        return cls(float(one.values.mean()), draws)

    @classmethod
    def ratio(cls, one: OverRuns, other: OverRuns, seed: int) -> Mean:
        """The mean ratio of the same n trainings, each asked in two ways."""
        return cls.of(OverRuns(one.values / other.values, one.draws / other.draws), seed)

    @classmethod
    def difference(cls, one: OverRuns, other: OverRuns, seed: int) -> Mean:
        """The mean difference of the same n trainings, each asked in two ways."""
        return cls.of(OverRuns(one.values - other.values, one.draws - other.draws), seed)

    def over(self, other: Mean) -> Mean:
        """The ratio of two means of the same replicas."""
        return Mean(self.value / other.value, self.draws / other.draws)

    @property
    def interval(self) -> tuple[float, float]:
        """Central interval of 95 %; NaN where no replica has a value."""
        if np.isnan(self.draws).all():
            return np.nan, np.nan
        low, high = np.nanquantile(self.draws, [0.025, 0.975])
        return float(low), float(high)

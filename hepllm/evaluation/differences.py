"""Differences of two classifiers on the same events, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hepllm.arrays import Floats
from hepllm.config import EvaluationConfig
from hepllm.evaluation.bootstrap import Interval, Replicas, interval
from hepllm.evaluation.metrics import SIGNAL_EFFICIENCIES
from hepllm.evaluation.ratios import RatioInterval, sic_ratio
from hepllm.evaluation.records import DifferenceRecord, PairedRecord, ScoreRecord
from hepllm.evaluation.scores import ScoredEvents


def drawn_metrics(draws: Replicas) -> dict[str, Floats]:
    """Replicas (R,) of each metric, by its key in the records."""
    at = {f"sic_at_{x:g}": draws.sic_at()[:, i] for i, x in enumerate(SIGNAL_EFFICIENCIES)}
    return {"auc": draws.auc, "accuracy": draws.accuracy[:, 0], "max_sic": draws.max_sic(), **at}


def interval_of(
    value: float | None, reason: str | None, draws: Floats, config: EvaluationConfig
) -> Interval:
    """Computes the interval of a number from its replicas; none without a number."""
    if value is None:
        return Interval(None, reason=reason)
    return interval(draws, config.confidence, config.max_undefined)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several classifiers on the same events, to be compared with each other.

    Attributes:
        samples: scores by name.
        scores: their measured numbers.
        replicas: their replicas.
        config: confidence and number of replicas.
        seed: seed of the draws.
    """

    samples: Mapping[str, ScoredEvents]
    scores: Mapping[str, ScoreRecord]
    replicas: Mapping[str, Replicas]
    config: EvaluationConfig
    seed: int

    def compare(self, first: str, second: str) -> PairedRecord:
        """First minus second; each largest SIC at its own cuts."""
        drawn = [drawn_metrics(self.replicas[name]) for name in (first, second)]

        def difference(key: str, eps_s: float | None = None) -> DifferenceRecord:
            draws = drawn[0][key] - drawn[1][key]
            return self._difference(first, second, key, draws, eps_s)

        efficiencies = self.scores[first].sic_at
        return PairedRecord(
            difference=f"{first} - {second}",
            auc=difference("auc"),
            max_sic=difference("max_sic"),
            sic_at={x: difference(f"sic_at_{x}", float(x)) for x in efficiencies},
        )

    def _difference(
        self, first: str, second: str, key: str, draws: Floats, eps_s: float | None
    ) -> DifferenceRecord:
        ours, theirs = self.scores[first], self.scores[second]
        a, b = ours.metrics[key].value, theirs.metrics[key].value
        reason = ours.undefined.get(key) or theirs.undefined.get(key)
        estimate = None if a is None or b is None else a - b
        between = interval_of(estimate, reason, draws, self.config)
        low, high = between.pair or (None, None)
        ratio = RatioInterval(None, None)
        if between.pair is None and eps_s is not None:
            pair = self.samples[first], self.samples[second]
            ratio = sic_ratio(*pair, eps_s, self.config.confidence, self.seed)
        return DifferenceRecord(
            estimate=estimate,
            low=low,
            high=high,
            confidence=self.config.confidence,
            n_replicas=self.config.bootstrap,
            n_undefined=between.n_undefined,
            reason=between.reason,
            ratio_low=ratio.low,
            ratio_high=ratio.high,
        )

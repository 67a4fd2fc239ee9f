"""What is reported about the scores of one sample; made by ``hepllm.evaluation.assessment``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepllm.arrays import Floats, Ints
from hepllm.config import EvaluationConfig
from hepllm.evaluation.background import describe_rule, required_background
from hepllm.evaluation.bootstrap import Difference, Interval
from hepllm.evaluation.confusion import Confusion
from hepllm.evaluation.metrics import Metric, RocCurve, Threshold, WorkingPoint, sic_ceiling
from hepllm.evaluation.scores import ScoredEvents

Role = Literal["llm", "baseline", "retrained", "ablation"]


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """One sample of N events, scored by several classifiers.

    Attributes:
        label: (N,) of 1 (signal) and 0 (background).
        scores: (N,) of each classifier, larger for signal; the first is the one that is judged
            and the others are its baselines.
        ablations: (N,) scores of the first classifier with part of its input destroyed.
        weight: (N,); None for 1 each.
        retrained: names of ``scores`` that are the first classifier trained with part of its input.
    """

    label: ArrayLike
    scores: Mapping[str, NDArray[np.floating]]
    ablations: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    weight: ArrayLike | None = None
    retrained: tuple[str, ...] = ()

    def take(self, events: Ints) -> ScoreTable:
        """The events at these positions."""
        return ScoreTable(
            np.asarray(self.label)[events],
            {name: score[events] for name, score in self.scores.items()},
            {name: score[events] for name, score in self.ablations.items()},
            None if self.weight is None else np.asarray(self.weight)[events],
            self.retrained,
        )


@dataclass(frozen=True)
class SicEstimate:
    """SIC and background rejection at a cut, with their intervals.

    Attributes:
        point: the cut and what passes it.
        sic: interval of the SIC.
        inverse_eps_b: interval of 1 / eps_b.
    """

    point: WorkingPoint
    sic: Interval
    inverse_eps_b: Interval


@dataclass(frozen=True)
class CutResult:
    """A cut chosen on validation data and what it calls the events of the sample.

    Attributes:
        threshold: the cut, and by which rule.
        table: weights by true and assigned class; None without a cut.
        point: efficiencies and counts at the cut.
    """

    threshold: Threshold
    table: Confusion | None
    point: WorkingPoint

    @property
    def accuracy(self) -> float | None:
        """Share of events called what they are; None without a cut."""
        return None if self.table is None else self.table.accuracy


@dataclass(frozen=True, eq=False)
class Band:
    """A curve against the signal efficiency; NaN where too little background passes.

    Attributes:
        eps_s: (E,) efficiencies that are asked for.
        value: (E,) the curve.
        low: (E,) lower end of its interval; NaN where that is undefined.
        high: (E,) upper end.
    """

    eps_s: Floats
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """Everything that is reported about one score.

    Attributes:
        name: of the classifier or ablation.
        role: the judged model, a baseline, the model trained with less, or an ablation of it.
        events: what was measured.
        curve: efficiencies at each distinct score.
        sic_band: SIC with its bootstrap interval.
        rejection_band: 1 / eps_b with its bootstrap interval.
        auc: with ``auc_interval``.
        max_sic: at the cut chosen on validation data.
        max_sic_in_sample: at the cut that the sample itself prefers; biased upwards.
        sic_at: by stated signal efficiency.
        accuracy_interval: of the accuracy of the first cut.
        cuts: the cut of largest balanced accuracy first, then stated efficiencies.
    """

    name: str
    role: Role
    events: ScoredEvents
    curve: RocCurve
    sic_band: Band
    rejection_band: Band
    auc: Metric
    auc_interval: Interval
    max_sic: SicEstimate
    max_sic_chosen: Threshold
    max_sic_in_sample: WorkingPoint
    sic_at: Mapping[float, SicEstimate]
    accuracy_interval: Interval
    cuts: tuple[CutResult, ...]


@dataclass(frozen=True, eq=False)
class EvaluationResults:
    """All scores of one sample and their paired differences.

    Attributes:
        sample: name of the sample, such as ``test``.
        view: which of its events are used, such as ``natural`` or ``1:10``.
        config: the rules that were followed.
        seed: of the bootstrap.
        scores: results by name, the judged model first.
        differences: judged model minus the other, by its name and then by metric.
        contrasts: first minus second of further pairs of names.
    """

    sample: str
    view: str
    config: EvaluationConfig
    seed: int
    scores: Mapping[str, ScoreResult]
    differences: Mapping[str, Mapping[str, Difference]]
    contrasts: Mapping[tuple[str, str], Mapping[str, Difference]] = field(default_factory=dict)

    @property
    def model(self) -> ScoreResult:
        """The judged model."""
        return next(iter(self.scores.values()))

    @property
    def sic_ceiling(self) -> float:
        """The largest SIC that this sample can show."""
        return sic_ceiling(self.model.events.n_background, self.n_min)

    @property
    def n_min(self) -> int:
        """The background events that must pass for a SIC to be quoted."""
        return required_background(self.config, self.model.events.n_background)

    @property
    def rule(self) -> str:
        """The rule behind ``n_min`` in words."""
        return describe_rule(self.config, self.model.events.n_background)

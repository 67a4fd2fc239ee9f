"""Judges the scores of one sample: cuts from validation data, metrics, paired uncertainties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.background import required_background
from hepllm.evaluation.bootstrap import (
    Difference,
    Interval,
    Replicas,
    bootstrap,
    interval,
    no_interval,
    sic_of,
)
from hepllm.evaluation.confusion import choose_balanced_accuracy, choose_eps_s, confusion
from hepllm.evaluation.metrics import (
    SIGNAL_EFFICIENCIES,
    RocCurve,
    Threshold,
    WorkingPoint,
    auc,
    choose_max_sic,
    max_sic_in_sample,
    read_at,
    roc,
    sic_at,
)
from hepllm.evaluation.results import (
    Band,
    CutResult,
    EvaluationResults,
    Role,
    ScoreResult,
    ScoreTable,
    SicEstimate,
)
from hepllm.evaluation.scores import ScoredEvents, scored_events

_BAND_EFFICIENCIES = tuple(percent / 100 for percent in range(1, 101))
_BOOTSTRAPPED = (*SIGNAL_EFFICIENCIES, *_BAND_EFFICIENCIES)


def evaluate_scores(
    test: ScoreTable,
    validation: ScoreTable,
    config: EvaluationConfig,
    seed: int,
    *,
    sample: str = "test",
    view: str = "natural",
    pairs: Sequence[tuple[str, str]] = (),
) -> EvaluationResults:
    """Measures every score of a sample; all cuts are chosen on validation data.

    An ablation is judged with the cuts of the model that it ablates, since it asks what the model
    as it is used would lose.

    Args:
        test: the sample that is reported.
        validation: other events, with a score for the model and each baseline.
        config: rules and the number of bootstrap replicas.
        seed: of the bootstrap.
        sample: name of the sample for the report.
        view: name of the view of the sample for the report.
        pairs: names of scores of which the difference is wanted, besides those to the model.

    Raises:
        InputError: for scores that are not finite, labels other than 0 and 1, arrays of different
            lengths, or a validation score that is missing.
    """
    samples = _check_table(test)
    chosen = _choose_thresholds(test, validation, config, samples)
    roles = _roles(test)
    cuts = {name: thresholds.values for name, thresholds in chosen.items()}
    replicas = bootstrap(samples, cuts, _BOOTSTRAPPED, config.bootstrap, seed)
    scores = {
        name: _summarise(
            name=name,
            role=roles[name],
            events=events,
            chosen=chosen[name],
            draws=replicas[name],
            config=config,
        )
        for name, events in samples.items()
    }
    model, *others = scores
    differences = {
        other: _differences(scores[model], scores[other], replicas, config) for other in others
    }
    contrasts = {
        (first, second): _differences(scores[first], scores[second], replicas, config)
        for first, second in pairs
    }
    return EvaluationResults(sample, view, config, seed, scores, differences, contrasts)


@dataclass(frozen=True)
class _Thresholds:
    """The cuts of one score: that of the largest SIC, then those that call events signal."""

    max_sic: Threshold
    others: tuple[Threshold, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """All cuts; infinity, which nothing passes, where one could not be chosen."""
        cuts = (self.max_sic, *self.others)
        return tuple(np.inf if cut.value is None else cut.value for cut in cuts)


def _check_table(table: ScoreTable, prefix: str = "") -> dict[str, ScoredEvents]:
    shared = sorted(set(table.scores) & set(table.ablations))
    if shared or not table.scores:
        msg = f"names of scores and ablations must differ, found {shared} in both"
        raise InputError(msg if shared else "no scores to evaluate")
    return {
        name: scored_events(score, table.label, table.weight, f"{prefix}{name}")
        for name, score in {**table.scores, **table.ablations}.items()
    }


def _roles(table: ScoreTable) -> dict[str, Role]:
    model, *baselines = table.scores
    roles: dict[str, Role] = {model: "llm"}
    roles |= dict.fromkeys(baselines, "baseline")
    roles |= dict.fromkeys(table.retrained, "retrained")
    roles |= dict.fromkeys(table.ablations, "ablation")
    return roles


def _choose_thresholds(
    test: ScoreTable,
    validation: ScoreTable,
    config: EvaluationConfig,
    samples: Mapping[str, ScoredEvents],
) -> dict[str, _Thresholds]:
    missing = [name for name in test.scores if name not in validation.scores]
    if missing:
        raise InputError(
            f"validation scores of {', '.join(missing)} are missing: cuts are chosen on them"
        )
    chosen: dict[str, _Thresholds] = {}
    for name in test.scores:
        score, label, weight = validation.scores[name], validation.label, validation.weight
        curve = roc(scored_events(score, label, weight, f"validation {name}"))
        n_there = samples[name].n_background
        n_here = int(curve.n_background_passing[-1]) if len(curve.n_background_passing) else 0
        required = [required_background(config, number) for number in (n_here, n_there)]
        stated = [choose_eps_s(curve, eps_s) for eps_s in SIGNAL_EFFICIENCIES]
        chosen[name] = _Thresholds(
            choose_max_sic(curve, required[0], n_there, required[1]),
            (choose_balanced_accuracy(curve), *stated),
        )
    model = chosen[next(iter(test.scores))]
    return chosen | dict.fromkeys(test.ablations, model)


def _summarise(
    *,
    name: str,
    role: Role,
    events: ScoredEvents,
    chosen: _Thresholds,
    draws: Replicas,
    config: EvaluationConfig,
) -> ScoreResult:
    curve, n_min = roc(events), required_background(config, events.n_background)
    area = auc(events)
    at_maximum = read_at(curve, chosen.max_sic, n_min)
    stated = {
        eps_s: _estimate(
            sic_at(curve, eps_s, n_min), draws.eps_s_at[:, i], draws.eps_b_at[:, i], config
        )
        for i, eps_s in enumerate(SIGNAL_EFFICIENCIES)
    }
    cuts = tuple(_read_cut(events, curve, cut, n_min) for cut in chosen.others)
    best = cuts[0]
    sic_band, rejection_band = _bands(curve, n_min, draws, config)
    return ScoreResult(
        name=name,
        role=role,
        events=events,
        curve=curve,
        sic_band=sic_band,
        rejection_band=rejection_band,
        auc=area,
        auc_interval=_interval(area.value, area.reason, draws.auc, config),
        max_sic=_estimate(at_maximum, draws.eps_s[:, 0], draws.eps_b[:, 0], config),
        max_sic_chosen=chosen.max_sic,
        max_sic_in_sample=max_sic_in_sample(curve, n_min),
        sic_at=stated,
        accuracy_interval=_interval(
            best.accuracy, best.threshold.reason, draws.accuracy[:, 1], config
        ),
        cuts=cuts,
    )


def _read_cut(events: ScoredEvents, curve: RocCurve, cut: Threshold, n_min: int) -> CutResult:
    table = None if cut.value is None else confusion(events, cut.value)
    return CutResult(cut, table, read_at(curve, cut, n_min))


def _interval(
    value: float | None, reason: str | None, draws: Floats, config: EvaluationConfig
) -> Interval:
    if value is None:
        return no_interval(config.confidence, config.bootstrap, reason)
    return interval(draws, config.confidence, config.max_undefined)


def _estimate(
    point: WorkingPoint, eps_s: Floats, eps_b: Floats, config: EvaluationConfig
) -> SicEstimate:
    rejection = sic_of(np.ones_like(eps_b), eps_b) ** 2
    return SicEstimate(
        point,
        _interval(point.sic, point.reason, sic_of(eps_s, eps_b), config),
        _interval(point.inverse_eps_b, point.reason, rejection, config),
    )


def _bands(
    curve: RocCurve, n_min: int, draws: Replicas, config: EvaluationConfig
) -> tuple[Band, Band]:
    """SIC and background rejection at each efficiency."""
    first = len(SIGNAL_EFFICIENCIES)
    estimates = [
        _estimate(sic_at(curve, eps_s, n_min), draws.eps_s_at[:, i], draws.eps_b_at[:, i], config)
        for i, eps_s in enumerate(_BAND_EFFICIENCIES, first)
    ]
    sic = _as_band([(one.point.sic, one.sic) for one in estimates])
    rejection = _as_band([(one.point.inverse_eps_b, one.inverse_eps_b) for one in estimates])
    return sic, rejection


def _as_band(points: Sequence[tuple[float | None, Interval]]) -> Band:
    def numbers(values: list[float | None]) -> Floats:
        return np.array([np.nan if value is None else value for value in values])

    return Band(
        eps_s=np.array(_BAND_EFFICIENCIES),
        value=numbers([value for value, _ in points]),
        low=numbers([between.low for _, between in points]),
        high=numbers([between.high for _, between in points]),
    )


def _differences(
    first: ScoreResult,
    second: ScoreResult,
    replicas: Mapping[str, Replicas],
    config: EvaluationConfig,
) -> dict[str, Difference]:
    """First minus second; each maximum at its own cut."""
    ours, theirs = replicas[first.name], replicas[second.name]

    def difference(
        a: float | None, b: float | None, why: tuple[str | None, str | None], draws: Floats
    ) -> Difference:
        reason = why[0] or why[1]
        estimate = None if a is None or b is None else a - b
        return Difference(estimate, _interval(estimate, reason, draws, config), reason)

    points = {"max_sic": (first.max_sic.point, second.max_sic.point)}
    drawn = {"max_sic": ours.sic(0) - theirs.sic(0)}
    for index, eps_s in enumerate(SIGNAL_EFFICIENCIES):
        key = f"sic_at_{eps_s:g}"
        points[key] = (first.sic_at[eps_s].point, second.sic_at[eps_s].point)
        drawn[key] = (ours.sic_at() - theirs.sic_at())[:, index]
    areas = (first.auc.reason, second.auc.reason)
    return {
        "auc": difference(first.auc.value, second.auc.value, areas, ours.auc - theirs.auc),
        **{
            key: difference(a.sic, b.sic, (a.reason, b.reason), drawn[key])
            for key, (a, b) in points.items()
        },
    }

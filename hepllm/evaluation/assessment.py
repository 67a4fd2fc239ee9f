"""Measures the scores of one sample: cuts from validation data, metrics, paired uncertainties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.background import describe_rule, required_background, required_by_omnilearn
from hepllm.evaluation.bootstrap import Replicas, bootstrap
from hepllm.evaluation.bounds import sic_bound, sic_bounds_at
from hepllm.evaluation.confusion import choose_balanced_accuracy, choose_eps_s, confusion
from hepllm.evaluation.crossfit import RULE, CrossFit
from hepllm.evaluation.curves import ClassifierCurves, CurveRecord, CurvesRecord
from hepllm.evaluation.differences import Comparison, drawn_metrics, interval_of
from hepllm.evaluation.metrics import (
    SIGNAL_EFFICIENCIES,
    RocCurve,
    Threshold,
    WorkingPoint,
    auc,
    max_sic_in_sample,
    read_at,
    roc,
    sic_at,
    sic_ceiling,
)
from hepllm.evaluation.records import (
    Accuracy,
    AtCut,
    BootstrapRecord,
    Bounded,
    CutRecord,
    Estimate,
    MaxSic,
    ResultsRecord,
    ScoreRecord,
    Sic,
    SicInSample,
)
from hepllm.evaluation.scores import ScoredEvents, ScoreTable, scored_events
from hepllm.evaluation.sculpting_records import SculptingRecord

_BAND_EFFICIENCIES = tuple(percent / 100 for percent in range(1, 101))
_BOOTSTRAPPED = (*SIGNAL_EFFICIENCIES, *_BAND_EFFICIENCIES)


@dataclass(frozen=True, eq=False)
class EvaluationResults:
    """Results of all scores of one sample.

    Attributes:
        record: all numbers.
        curves: SIC and background rejection against the signal efficiency.
        events: scores with labels and weights, by classifier, the evaluated model first.
        validation: the same of the validation events, without ablations; None for no other events.
        sculpting: what cuts do to the background's m_jj; None where it is not measured.
    """

    record: ResultsRecord
    curves: CurvesRecord
    events: Mapping[str, ScoredEvents]
    validation: Mapping[str, ScoredEvents] | None
    sculpting: SculptingRecord | None = None

    @property
    def model(self) -> ScoredEvents:
        """Scores of the evaluated model."""
        return self.events[self.record.classifier]


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

    An ablation is measured at the cuts of the model, because it asks what the model loses in use.

    Args:
        test: the sample that is measured.
        validation: other events, with scores of the model and of each baseline.
        config: rules and the number of bootstrap replicas.
        seed: seed of the bootstrap.
        sample: name of the sample.
        view: name of the view of the sample.
        pairs: pairs of scores whose difference is recorded, besides those with the model.

    Raises:
        InputError: for scores that are not finite, labels other than 0 and 1, arrays of different
            lengths, or a missing validation score.
    """
    samples, roles = _check_table(test), _roles(test)
    model, *others = samples
    n_background = samples[model].n_background
    n_min = required_background(config, n_background)
    known = _check_validation(test, validation)
    cuts = _choose_thresholds(test, known)
    # Of the events that are measured themselves, no label may choose a cut of the maximum.
    deciding = None if validation is test else known
    largest = CrossFit(samples, deciding, dict.fromkeys(test.ablations, model), n_min, seed)
    replicas = _draw(samples, cuts, largest, config, seed)
    scores = {
        name: _score(
            events,
            cuts[name],
            n_min,
            replicas[name],
            config,
            best=largest.point(name),
            retrained=roles[name] == "retrained",
        )
        for name, events in samples.items()
    }
    by_role = {
        role: {name: score for name, score in scores.items() if roles[name] == role}
        for role in ("baseline", "ablation", "retrained")
    }
    contest = Comparison(samples, scores, replicas, config, seed)
    record = ResultsRecord(
        **dict(scores[model]),
        sample=sample,
        view=view,
        classifier=model,
        min_background=n_min,
        background_rule=describe_rule(config, n_background),
        n_validation_signal=known[model].n_signal,
        n_validation_background=known[model].n_background,
        sic_ceiling=sic_ceiling(n_background, n_min),
        bootstrap=_describe_bootstrap(config, seed),
        baselines=by_role["baseline"],
        ablation={**by_role["ablation"], **by_role["retrained"]},
        paired={other: contest.compare(model, other) for other in others},
        contrasts={"-".join(pair): contest.compare(*pair) for pair in pairs},
    )
    curves = CurvesRecord(
        sample=sample,
        n_signal=record.n_signal,
        n_background=record.n_background,
        min_background=n_min,
        confidence=config.confidence,
        classifiers={
            name: _curves(roles[name], roc(events), n_min, replicas[name], config)
            for name, events in samples.items()
        },
    )
    return EvaluationResults(record, curves, samples, deciding)


def _check_table(table: ScoreTable) -> dict[str, ScoredEvents]:
    shared = sorted(set(table.scores) & set(table.ablations))
    if shared:
        raise InputError(f"names of scores and ablations must differ, found {shared} in both")
    if not table.scores:
        raise InputError("no scores to evaluate")
    return {
        name: scored_events(score, table.label, table.weight, name)
        for name, score in {**table.scores, **table.ablations}.items()
    }


def _roles(table: ScoreTable) -> dict[str, str]:
    return (
        dict.fromkeys(table.scores, "baseline")
        | {next(iter(table.scores)): "llm"}
        | dict.fromkeys(table.retrained, "retrained")
        | dict.fromkeys(table.ablations, "ablation")
    )


def _check_validation(test: ScoreTable, validation: ScoreTable) -> dict[str, ScoredEvents]:
    missing = [name for name in test.scores if name not in validation.scores]
    if missing:
        raise InputError(
            f"validation scores of {', '.join(missing)} are missing: cuts are chosen on them"
        )
    label, weight = validation.label, validation.weight
    return {
        name: scored_events(validation.scores[name], label, weight, f"validation {name}")
        for name in test.scores
    }


def _choose_thresholds(
    test: ScoreTable, validation: Mapping[str, ScoredEvents]
) -> dict[str, tuple[Threshold, ...]]:
    """Chooses the cuts of each score: balanced accuracy, stated efficiencies."""
    chosen: dict[str, tuple[Threshold, ...]] = {}
    for name, events in validation.items():
        curve = roc(events)
        chosen[name] = (
            choose_balanced_accuracy(curve),
            *(choose_eps_s(curve, eps_s) for eps_s in SIGNAL_EFFICIENCIES),
        )
    return chosen | dict.fromkeys(test.ablations, chosen[next(iter(test.scores))])


def _draw(
    samples: Mapping[str, ScoredEvents],
    cuts: Mapping[str, Sequence[Threshold]],
    largest: CrossFit,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Replicas]:
    """Draws the replicas of all scores; no event passes a cut that could not be chosen."""
    values = {
        name: [np.inf if cut.value is None else cut.value for cut in chosen]
        for name, chosen in cuts.items()
    }
    return bootstrap(samples, values, _BOOTSTRAPPED, config.bootstrap, seed, largest=[largest])


def _describe_bootstrap(config: EvaluationConfig, seed: int) -> BootstrapRecord:
    return BootstrapRecord(
        confidence=config.confidence,
        n_replicas=config.bootstrap,
        seed=seed,
        method="percentile, stratified by class, paired between classifiers",
    )


def _score(
    events: ScoredEvents,
    cuts: Sequence[Threshold],
    n_min: int,
    draws: Replicas,
    config: EvaluationConfig,
    *,
    best: WorkingPoint,
    retrained: bool,
) -> ScoreRecord:
    """Measures one score at the cuts that ``_choose_thresholds`` lists."""
    of_accuracy, curve, area = cuts[0], roc(events), auc(events)
    of_papers = required_by_omnilearn(events.n_background)
    in_sample, omnilearn, cathode = (
        max_sic_in_sample(curve, number) for number in (n_min, of_papers, 1)
    )
    stated = {f"{eps_s:g}": sic_at(curve, eps_s, n_min) for eps_s in SIGNAL_EFFICIENCIES}
    points = {"max_sic": best}
    points |= {f"sic_at_{eps_s}": point for eps_s, point in stated.items()}
    called = None if of_accuracy.value is None else confusion(events, of_accuracy.value)
    values = {"auc": area.value, "accuracy": None if called is None else called.accuracy}
    values |= {key: point.sic for key, point in points.items()}
    reasons = {"auc": area.reason, "max_sic_in_sample": in_sample.reason}
    reasons |= {key: point.reason for key, point in points.items()}
    reasons["accuracy"] = of_accuracy.reason
    drawn, rejections = drawn_metrics(draws), draws.rejection_at()
    between = {key: interval_of(values[key], reasons[key], drawn[key], config) for key in values}
    undefined = reasons | {
        f"{key}_interval": one.reason for key, one in between.items() if reasons[key] is None
    }

    bounds = _bounds(curve, points["max_sic"], config)

    def sic(key: str) -> dict[str, Any]:
        numbers = {"value": values[key], "interval": between[key].pair, "lower_bound": bounds[key]}
        return {**numbers, **_at_cut(points[key])}

    return ScoreRecord(
        n_signal=events.n_signal,
        n_background=events.n_background,
        auc=Estimate(value=area.value, interval=between["auc"].pair),
        max_sic=MaxSic(**sic("max_sic"), chosen_by=RULE),
        max_sic_in_sample=SicInSample(value=in_sample.sic, **_at_cut(in_sample)),
        max_sic_omnilearn=SicInSample(value=omnilearn.sic, **_at_cut(omnilearn)),
        max_sic_cathode=SicInSample(value=cathode.sic, **_at_cut(cathode)),
        sic_at={eps_s: Sic(**sic(f"sic_at_{eps_s}")) for eps_s in stated},
        inverse_eps_b_at={
            eps_s: Bounded(
                value=point.inverse_eps_b,
                interval=interval_of(point.inverse_eps_b, None, rejections[:, i], config).pair,
                lower_bound=_rejection_of(bounds[f"sic_at_{eps_s}"], float(eps_s)),
            )
            for i, (eps_s, point) in enumerate(stated.items())
        },
        accuracy=Accuracy(
            value=values["accuracy"],
            interval=between["accuracy"].pair,
            threshold=of_accuracy.value,
            threshold_chosen_by=of_accuracy.chosen_by,
        ),
        balanced_accuracy=None if called is None else called.balanced_accuracy,
        confusion=called,
        working_points=tuple(_read_cut(events, curve, cut, n_min) for cut in cuts),
        undefined={key: reason for key, reason in undefined.items() if reason is not None},
        retrained=retrained,
    )


def _bounds(
    curve: RocCurve, of_max: WorkingPoint, config: EvaluationConfig
) -> dict[str, float | None]:
    """One-sided lower bounds of the SIC by its key in the records."""
    at = sic_bounds_at(curve, np.array(SIGNAL_EFFICIENCIES), config.confidence)
    named = zip(SIGNAL_EFFICIENCIES, at, strict=True)
    bounds = {f"sic_at_{eps_s:g}": _number(bound) for eps_s, bound in named}
    return bounds | {"max_sic": _number(sic_bound(of_max, config.confidence))}


def _rejection_of(sic: float | None, eps_s: float) -> float | None:
    """1 / eps_B of a SIC."""
    return None if sic is None else (sic / eps_s) ** 2


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _read_cut(events: ScoredEvents, curve: RocCurve, cut: Threshold, n_min: int) -> CutRecord:
    point = read_at(curve, cut, n_min)
    called = None if cut.value is None else confusion(events, cut.value)
    shares = ("precision", "recall", "f1", "accuracy")
    return CutRecord(
        chosen_by=cut.chosen_by,
        threshold=cut.value,
        **{name: None if called is None else getattr(called, name) for name in shares},
        eps_b=point.eps_b,
        n_signal_passing=point.n_signal_passing,
        n_background_passing=point.n_background_passing,
    )


def _at_cut(point: WorkingPoint) -> dict[str, Any]:
    return {name: getattr(point, name) for name in AtCut.model_fields}


def _curves(
    role: str, curve: RocCurve, n_min: int, draws: Replicas, config: EvaluationConfig
) -> ClassifierCurves:
    first = len(SIGNAL_EFFICIENCIES)
    points = [sic_at(curve, eps_s, n_min) for eps_s in _BAND_EFFICIENCIES]
    blank = np.array([point.sic is None for point in points])
    eps_s = np.array(_BAND_EFFICIENCIES)
    bounds = np.full(len(eps_s), np.nan)
    bounds[blank] = sic_bounds_at(curve, eps_s[blank], config.confidence)

    def band(values: list[float | None], draws_at: Floats, lowest: Floats) -> CurveRecord:
        pairs = [
            interval_of(value, None, drawn, config).pair or (None, None)
            for value, drawn in zip(values, draws_at[:, first:].T, strict=True)
        ]
        low, high = zip(*pairs, strict=True)
        return CurveRecord(
            value=tuple(values), low=low, high=high, lower_bound=tuple(map(_number, lowest))
        )

    rejections = [point.inverse_eps_b for point in points]
    return ClassifierCurves(
        role=role,
        eps_s=_BAND_EFFICIENCIES,
        sic=band([point.sic for point in points], draws.sic_at(), bounds),
        inverse_eps_b=band(rejections, draws.rejection_at(), (bounds / eps_s) ** 2),
    )

"""What the experiments of a suite say together: means, paired tests, and the seeds it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hepllm.config.suites import SuiteConfig, variants
from hepllm.evaluation.experiment_records import (
    PER_CLASS,
    Comparison,
    ExperimentResult,
    MeasuredSet,
    MetricPower,
    MetricSummary,
    SeedsNeeded,
    SetSummary,
    State,
    SuiteRecord,
)
from hepllm.evaluation.paired_tests import holm, mean_interval, paired_p_value
from hepllm.evaluation.seed_power import needed_seeds, spread_interval
from hepllm.records import Pair

_BySeed = Mapping[int, MeasuredSet]


def summarise(
    suite: SuiteConfig,
    states: Mapping[str, Mapping[str, State]],
    results: Sequence[ExperimentResult],
    problems: Mapping[str, str],
) -> SuiteRecord:
    """Summarises the experiments that are done; the others keep their place in the record.

    A mean stands for the seeds that are done. Where a seed has no value, as a SIC at a cut that too
    little background passes, there is no mean: to leave the seed out would bias it.

    Args:
        suite: what was asked for.
        states: by experiment, and by dataset and seed.
        results: of the experiments that are done.
        problems: why others failed.
    """
    names = [one.name for one in variants(suite)]
    reference = suite.reference or names[0]
    found: dict[tuple[str, str], dict[str, dict[int, MeasuredSet]]] = {}
    for one in sorted(results, key=lambda result: (result.dataset, result.seed)):
        for sample, measured in sorted(one.sets.items()):
            by_name = found.setdefault((one.dataset, sample), {name: {} for name in names})
            by_name[one.name][one.seed] = measured
    sets = [_summarise_set(suite, key, by_name, reference) for key, by_name in found.items()]
    return SuiteRecord(
        name=suite.name,
        reference=reference,
        metrics=suite.metrics,
        confidence=suite.confidence,
        wanted_power=suite.power,
        n_tests=len(_tested(sets, suite.metrics)),
        states=states,
        problems=problems,
        sets=tuple(_corrected(sets, suite.metrics)),
    )


def _summarise_set(
    suite: SuiteConfig, key: tuple[str, str], by_name: Mapping[str, _BySeed], reference: str
) -> SetSummary:
    known = [one for by_seed in by_name.values() for one in by_seed.values()]
    keys = [*suite.metrics, *PER_CLASS]
    return SetSummary(
        dataset=key[0],
        sample=key[1],
        n_signal=known[0].n_signal,
        n_background=known[0].n_background,
        experiments={
            name: {
                metric: _summarise_metric(
                    by_seed, None if name == reference else by_name[reference], metric, suite
                )
                for metric in keys
            }
            for name, by_seed in by_name.items()
        },
        power=_power(suite, by_name[reference]),
    )


def _summarise_metric(
    by_seed: _BySeed, beside: _BySeed | None, key: str, suite: SuiteConfig
) -> MetricSummary:
    values = {seed: one.metrics.get(key) for seed, one in by_seed.items()}
    compared = None
    if beside is not None and key in suite.metrics:
        theirs = {seed: one.metrics.get(key) for seed, one in beside.items()}
        compared = _compare(values, theirs, suite.confidence)
    known = np.array([value for value in values.values() if value is not None])
    reason = None
    if not values:
        reason = "no seed is done"
    elif len(known) < len(values):
        why = next(
            one.undefined.get(key) for one in by_seed.values() if one.metrics.get(key) is None
        )
        reason = f"no value in {len(values) - len(known)} of {len(values)} seeds"
        reason += f": {why}" if why else ""
    return MetricSummary(
        mean=None if reason else float(known.mean()),
        interval=None if reason else _possible(mean_interval(known, suite.confidence), key),
        values={str(seed): value for seed, value in values.items()},
        reason=reason,
        comparison=compared,
    )


def _possible(interval: Pair | None, key: str) -> Pair | None:
    """An interval without values that no training has: few seeds have wide ones."""
    if interval is None:
        return None
    highest = np.inf if "sic" in key else 1.0  # all other metrics are shares
    return max(interval[0], 0.0), min(interval[1], highest)


def _compare(
    ours: Mapping[int, float | None], theirs: Mapping[int, float | None], confidence: float
) -> Comparison | None:
    """Pairs the seeds that both have; None where one of these has no value, or there is none."""
    pairs = [(value, theirs[seed]) for seed, value in ours.items() if seed in theirs]
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    if not pairs or len(known) < len(pairs):
        return None
    differences = np.array([one - other for one, other in known])
    return Comparison(
        difference=float(differences.mean()),
        interval=mean_interval(differences, confidence),
        p=paired_p_value(differences),
        p_holm=None,
        n_seeds=len(differences),
    )


def _tested(sets: Sequence[SetSummary], keys: Sequence[str]) -> list[tuple[int, str, str, float]]:
    """All tests of a suite: place of the set, experiment, metric, p-value."""
    return [
        (place, name, key, summary.comparison.p)
        for place, one in enumerate(sets)
        for name, metrics in one.experiments.items()
        for key, summary in metrics.items()
        if key in keys and summary.comparison is not None and summary.comparison.p is not None
    ]


def _corrected(sets: Sequence[SetSummary], keys: Sequence[str]) -> list[SetSummary]:
    """The same with corrected p-values."""
    tests = _tested(sets, keys)
    p_values = holm([p for *_, p in tests])
    trees = [one.model_dump() for one in sets]
    for (place, name, key, _), p_value in zip(tests, p_values, strict=True):
        trees[place]["experiments"][name][key]["comparison"]["p_holm"] = float(p_value)
    return [SetSummary.model_validate(tree) for tree in trees]


def _power(suite: SuiteConfig, by_seed: _BySeed) -> dict[str, MetricPower]:
    """How the reference varies, and how many seeds show the differences that are asked for."""
    found = {}
    for key in suite.metrics:
        given = [one.metrics.get(key) for one in by_seed.values()]
        known = np.array([value for value in given if value is not None])
        if len(known) < max(2, len(given)) or not known.mean():
            continue
        needed = {
            relative: needed_seeds(
                known, relative * abs(float(known.mean())), suite.power, suite.confidence
            )
            for relative in suite.differences
        }
        found[key] = MetricPower(
            mean=float(known.mean()),
            spread=float(known.std(ddof=1)),
            spread_interval=spread_interval(known, suite.confidence),
            n_seeds=len(known),
            needed=tuple(
                SeedsNeeded(relative=relative, number=one.number, low=one.low, high=one.high)
                for relative, one in needed.items()
            ),
        )
    return found

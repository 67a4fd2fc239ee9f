"""The largest SIC: choice and reading by plain loops, bias, and what cannot enter the choice."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.bootstrap import bootstrap, interval
from hepllm.evaluation.crossfit import N_FOLDS, CrossFit, draw_folds
from hepllm.evaluation.metrics import max_sic_in_sample, roc
from hepllm.evaluation.scores import ScoredEvents, ScoreTable, scored_events

N_MIN = 10


def gaussians(n_signal: int, n_background: int, seed: int, distance: float = 2.0) -> ScoredEvents:
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], [n_signal, n_background])
    return scored_events(generator.normal(size=len(label)) + distance * label, label)


def fit(events: ScoredEvents, known: ScoredEvents | None = None, seed: int = 1) -> CrossFit:
    return CrossFit({"a": events}, None if known is None else {"a": known}, {}, N_MIN, seed)


def by_loops(
    events: ScoredEvents, known: ScoredEvents, n_min: int, seed: int
) -> tuple[NDArray[np.bool_], list[float]]:
    """The same by masks and loops over all scores; equal weights in the validation data."""
    fold = draw_folds(events.is_signal, seed)
    passes = np.zeros(len(events.label), dtype=np.bool_)
    cuts = []
    for number in range(N_FOLDS):
        here, best, best_cut = fold == number, -np.inf, np.inf
        for cut in np.unique(np.concatenate([events.score, known.score]))[::-1]:
            shares = []
            for is_class, is_known in (
                (events.is_signal, known.is_signal),
                (~events.is_signal, ~known.is_signal),
            ):
                others = events.weight[is_class & ~here]
                unit = np.sum(events.weight[is_class] ** 2) / np.sum(events.weight[is_class])
                passing = events.weight[is_class & ~here & (events.score >= cut)]
                above = np.sum(is_known & (known.score >= cut)) * unit
                total = others.sum() + is_known.sum() * unit
                shares.append((passing.sum() + above) / total)
            squared = np.sum(passing**2)
            effective = passing.sum() ** 2 / squared if squared > 0 else 0.0
            sic = shares[0] / np.sqrt(shares[1]) if shares[1] > 0 else -np.inf
            if effective >= n_min * (1 - 1e-9) and sic > best * (1 + 1e-12):
                best, best_cut = sic, cut
        passes |= here & (events.score >= best_cut)
        cuts.append(best_cut)
    return passes, cuts


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.booleans())
def test_cuts_and_reading_agree_with_plain_loops(seed: int, is_weighted: bool) -> None:
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], 25)
    score = np.round(generator.normal(size=50) + label, 1)  # with ties
    weight = generator.choice([0.5, 1.0, 2.0], size=50) if is_weighted else None
    events = scored_events(score, label, weight)
    known = scored_events(np.round(generator.normal(size=30), 1), np.arange(30) % 2)
    passes, cuts = by_loops(events, known, 4, seed)
    point = CrossFit({"a": events}, {"a": known}, {}, 4, seed).point("a")
    assert point.n_signal_passing == (passes & events.is_signal).sum()
    assert point.n_background_passing == (passes & ~events.is_signal).sum()
    assert point.threshold == pytest.approx(np.median(cuts))


def test_reading_is_unbiased_where_the_sample_itself_would_mislead() -> None:
    """Few signal events: a cut that is chosen on the sample itself claims too much of them."""
    distance, excess, claimed = 2.0, [], []
    for seed in range(80):
        events = gaussians(40, 400, seed, distance)
        largest = fit(events, None, seed)
        point, cuts = largest.point("a"), largest.cuts("a")
        assert point.eps_s is not None
        excess.append(point.eps_s - norm.sf(cuts - distance).mean())
        best = max_sic_in_sample(roc(events), N_MIN)
        assert best.eps_s is not None
        claimed.append(best.eps_s - norm.sf((best.threshold or 0.0) - distance))
    error = np.std(excess) / np.sqrt(len(excess))
    assert abs(np.mean(excess)) < 3 * error
    assert np.mean(claimed) > 3 * error


@pytest.mark.parametrize("n_validation", [0, 400, 20_000])
def test_the_maximum_does_not_depend_on_the_validation_sample(n_validation: int) -> None:
    distance, n_b = 3.0, 5000
    grid = np.linspace(-2, 8, 2001)
    eps_b = norm.sf(grid)
    readable = eps_b * n_b >= N_MIN
    truth = np.max((norm.sf(grid - distance) / np.sqrt(eps_b))[readable])
    found = []
    for seed in range(30):
        known = gaussians(n_validation, n_validation, seed + 500, distance)
        point = fit(gaussians(1000, n_b, seed, distance), known if n_validation else None, seed)
        found.append(point.point("a").sic)
    assert None not in found
    assert np.mean(np.array(found, dtype=float)) == pytest.approx(truth, rel=0.1)


def test_intervals_cover_the_maximum() -> None:
    distance, n_b = 2.5, 3000
    grid = np.linspace(-2, 8, 2001)
    eps_b = norm.sf(grid)
    truth = np.max((norm.sf(grid - distance) / np.sqrt(eps_b))[eps_b * n_b >= N_MIN])
    covered = 0
    for seed in range(40):
        samples = {"a": gaussians(500, n_b, seed, distance)}
        largest = CrossFit(samples, {"a": gaussians(300, 300, seed + 99, distance)}, {}, N_MIN, 1)
        drawn = bootstrap(samples, {"a": []}, (0.5,), 100, seed, largest=[largest])["a"].max_sic()
        low, high = interval(drawn, 0.9, 0.05).pair or (np.inf, -np.inf)
        covered += low <= truth <= high
    assert covered >= 32


def test_equal_scores_have_equal_replicas_and_an_ablation_the_cut_of_its_model() -> None:
    events = gaussians(300, 900, 1)
    same = scored_events(events.score * 2 + 1, events.label)
    lost = scored_events(events.score - 0.5 * events.label, events.label)
    samples = {"a": events, "b": same, "lost": lost}
    largest = CrossFit(samples, None, {"lost": "a"}, N_MIN, 1)
    points = {name: largest.point(name) for name in samples}
    assert points["a"].sic == points["b"].sic
    assert points["lost"].threshold == points["a"].threshold
    assert points["lost"].n_background_passing == points["a"].n_background_passing
    thresholds = {name: [0.0] for name in samples}
    drawn = bootstrap(samples, thresholds, (0.5,), 20, 1, largest=[largest])
    np.testing.assert_array_equal(drawn["a"].max_sic(), drawn["b"].max_sic())
    assert (drawn["lost"].max_eps_s <= drawn["a"].max_eps_s).all()


def test_measured_events_that_are_also_the_validation_data_choose_no_cut_of_their_own() -> None:
    events = gaussians(60, 120, 3, 0.0)
    table = ScoreTable(events.label, {"llm": events.score})
    config = EvaluationConfig(bootstrap=1)
    twice = evaluate_scores(table, table, config, 1).record.max_sic
    alone = CrossFit({"llm": events}, None, {}, N_MIN, 1).point("llm")
    assert (twice.value, twice.threshold) == (alone.sic, alone.threshold)


def test_a_scale_of_the_weights_changes_nothing() -> None:
    events, known = gaussians(300, 900, 1), gaussians(200, 200, 2)
    plain = fit(events, known).point("a")
    scaled = dataclasses.replace(events, weight=np.where(events.is_signal, 0.1, 7.0))
    heavy = dataclasses.replace(known, weight=np.full(400, 1e-3))
    assert fit(scaled, heavy).point("a").sic == pytest.approx(plain.sic)


def test_negative_weights_count_as_they_sum() -> None:
    events = gaussians(500, 2000, 1)
    generator = np.random.default_rng(1)
    weight = np.where(generator.random(2500) < 0.1, -1.0, 1.0)
    point = fit(dataclasses.replace(events, weight=weight)).point("a")
    assert point.sic is not None
    assert point.sic > 1


@pytest.mark.parametrize(
    ("n_signal", "n_background", "reason"),
    [
        (0, 50, "no signal events"),
        (50, 0, "no background events"),
        (0, 0, "no signal events"),
        (20, 9, "fewer than 10 background events outside a fold"),
    ],
)
def test_what_cannot_be_chosen_has_a_reason(n_signal: int, n_background: int, reason: str) -> None:
    point = fit(gaussians(n_signal, n_background, 1)).point("a")
    assert point.sic is None
    assert point.reason == reason


def test_all_ties_pass_together() -> None:
    events = scored_events(np.zeros(100), np.arange(100) % 2)
    point = fit(events).point("a")
    assert (point.sic, point.eps_s, point.eps_b) == (1.0, 1.0, 1.0)


def test_folds_hold_equal_shares_of_each_class() -> None:
    is_signal = np.arange(1000) % 10 == 0
    fold = draw_folds(is_signal, 3)
    for chosen in (is_signal, ~is_signal):
        counts = np.bincount(fold[chosen], minlength=N_FOLDS)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(fold, draw_folds(is_signal, 3))
    assert (fold != draw_folds(is_signal, 4)).any()

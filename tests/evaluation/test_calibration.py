"""Calibrations against classes whose likelihood ratio is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray
from scipy.special import expit as scipy_expit

from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.calibration import (
    Calibration,
    Method,
    expit,
    fit_calibration,
    logit,
)
from hepllm.evaluation.calibration_choice import choose_calibration
from hepllm.evaluation.probabilities import (
    CalibrationRecord,
    Prior,
    check_calibration,
    choose_prior,
)
from hepllm.evaluation.reliability import reliability, top_bins
from hepllm.evaluation.scores import ScoredEvents, scored_events
from hepllm.pictures.reliability import plot_reliability
from hepllm.report.probabilities import probability_chapter
from hepllm.report.text import as_text

SLOPE, OFFSET, DISTANCE = 0.4, -0.7, 2.0


def draw(
    n_events: int, fraction: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores whose true logit at a ratio of 1:1 is SLOPE * score + OFFSET, and labels."""
    generator = np.random.default_rng(seed)
    label = (np.arange(n_events) < round(n_events * fraction)).astype(np.int64)
    hidden = generator.normal(size=n_events) + DISTANCE * (label - 0.5)
    return (DISTANCE * hidden - OFFSET) / SLOPE, label


def validation(seed: int = 1, fraction: float = 0.5, n_events: int = 4000) -> ScoredEvents:
    score, label = draw(n_events, fraction, seed)
    return ScoredEvents(score, label, np.ones(n_events))


def test_platt_finds_the_map_whatever_the_balance_of_the_validation_data() -> None:
    for fraction in (0.5, 0.1):
        found = fit_calibration(validation(fraction=fraction, n_events=40_000), "platt", 0.5)
        assert found.slope == pytest.approx(SLOPE, rel=0.06)
        assert found.offset == pytest.approx(OFFSET, abs=0.12)


def test_the_training_prior_is_where_the_logits_hold() -> None:
    found = fit_calibration(validation(n_events=40_000), "platt", 0.1)
    assert found.offset == pytest.approx(OFFSET + logit(0.1), abs=0.12)
    score = np.linspace(-5, 5, 11)
    shifted = found.logits(score, 0.001) - found.logits(score)
    np.testing.assert_allclose(shifted, logit(0.001) - logit(0.1))


def test_temperature_changes_the_scale_only() -> None:
    score, label = draw(20_000, 0.5, 1)
    centred = ScoredEvents(score + OFFSET / SLOPE, label, np.ones(len(score)))
    found = fit_calibration(centred, "temperature", 0.5)
    assert found.slope == pytest.approx(SLOPE, rel=0.06)
    assert found.offset == 0.0


@given(st.sampled_from(["temperature", "platt", "beta", "isotonic"]), st.integers(0, 20))
@settings(max_examples=20)
def test_calibration_never_reorders_and_is_finite(method: Method, seed: int) -> None:
    events = validation(seed, n_events=200)
    found = fit_calibration(events, method, 0.3)
    score = np.sort(np.append(events.score, [-1e6, 1e6]))
    for prior in (None, 1e-6, 0.5):
        probability = found.probabilities(score, prior)
        assert (np.diff(probability) >= 0).all()
        assert ((probability >= 0) & (probability <= 1)).all()


def test_every_method_repairs_the_calibration_error() -> None:
    score, label = draw(20_000, 0.5, 5)
    raw = reliability(expit(score), label == 1, 1)
    assert raw.ece > 0.05
    for method in ("platt", "beta", "isotonic"):
        found = fit_calibration(validation(n_events=20_000), method, 0.5)
        fixed = reliability(found.probabilities(score), label == 1, 1)
        assert fixed.ece < 0.02
        assert fixed.ece < raw.ece / 3


def test_separated_classes_have_a_finite_slope() -> None:
    events = ScoredEvents(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]), np.ones(4))
    for method in ("platt", "temperature", "beta", "isotonic"):
        assert np.abs(fit_calibration(events, method, 0.5).logits(events.score)).max() < 50


def test_what_cannot_be_calibrated_is_refused() -> None:
    events = validation(n_events=200)
    only = ScoredEvents(events.score[:100], events.label[:100], np.ones(100))
    with pytest.raises(InputError, match="one class only"):
        fit_calibration(only, "platt", 0.5)
    upside_down = ScoredEvents(-events.score, events.label, events.weight)
    with pytest.raises(InputError, match="nothing to calibrate"):
        fit_calibration(upside_down, "platt", 0.5)


def test_beta_finds_a_slope_for_each_end() -> None:
    """Scores are twice the true logit below 0 and half of it above."""
    generator = np.random.default_rng(3)
    true = generator.normal(0.0, 3.0, 60_000)
    label = (generator.random(len(true)) < scipy_expit(true)).astype(np.int64)
    score = np.where(true < 0, 2.0, 0.5) * true
    events = ScoredEvents(score, label, np.ones(len(score)))
    found = fit_calibration(events, "beta", float(label.mean()))
    assert found.slope_below is not None
    assert found.slope > 1.5
    assert found.slope_below < 0.7
    straight = fit_calibration(events, "platt", float(label.mean()))
    errors = [
        reliability(used.probabilities(score), label == 1, 1).ece for used in (found, straight)
    ]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("seed", range(6))
def test_scores_that_are_logits_already_are_left_alone(seed: int) -> None:
    """The fault was a map fitted to noise: it made probabilities worse that were right."""
    score, label = draw(1200, 0.5, seed)
    exact = ScoredEvents(SLOPE * score + OFFSET, label, np.ones(len(score)))
    assert choose_calibration(exact, "auto", 0.5).method == "none"


def test_cross_validation_takes_the_simplest_map_that_repairs_the_scores() -> None:
    found = choose_calibration(validation(), "auto", 0.5)
    assert found.method == "platt"
    assert {one.method for one in found.losses} == {
        "none", "temperature", "platt", "beta", "isotonic",
    }  # fmt: skip
    score, label = draw(20_000, 0.5, 1)
    centred = ScoredEvents(score + OFFSET / SLOPE, label, np.ones(len(score)))
    assert choose_calibration(centred, "auto", 0.5).method == "temperature"


def test_a_stated_map_that_makes_things_worse_is_named(caplog: pytest.LogCaptureFixture) -> None:
    score, label = draw(100, 0.5, 2)
    exact = ScoredEvents(SLOPE * score + OFFSET, label, np.ones(len(score)))
    found = choose_calibration(exact, "isotonic", 0.5)
    assert found.method == "isotonic"
    assert "evaluation.calibration=isotonic makes probabilities worse" in caplog.text
    caplog.clear()
    assert choose_calibration(validation(), "platt", 0.5).method == "platt"
    assert not caplog.text


def test_too_few_events_to_choose_leave_the_scores_alone(caplog: pytest.LogCaptureFixture) -> None:
    events = ScoredEvents(np.array([-1.0, 0.5, 2.0]), np.array([0, 0, 1]), np.ones(3))
    assert choose_calibration(events, "auto", 0.5).method == "none"
    assert "too few to choose a map" in caplog.text
    with pytest.raises(InputError, match="one class only"):
        choose_calibration(events.take(np.array([0, 1])), "auto", 0.5)


def test_a_check_says_when_calibration_is_worse_than_none() -> None:
    score, label = draw(20_000, 0.02, 3)
    prior = choose_prior(EvaluationConfig(), "1:1", validation(), (score, np.ones(len(score))))
    events = scored_events(SLOPE * score + OFFSET, label)
    for slope, offset, is_worse in ((0.6, 0.3, True), (1.0, 0.0, False)):
        check = check_calibration(Calibration("platt", 0.5, slope, offset), prior, events, 1)
        assert check is not None
        assert check.is_worse == is_worse


@pytest.mark.parametrize(
    ("n_events", "share", "least"), [(6_000, 0.02, 40), (1_000, 0.5, 40), (400, 0.1, 10)]
)
def test_a_check_says_when_probabilities_are_far_off(
    n_events: int, share: float, least: int
) -> None:
    exact = Calibration("platt", share, 1.0, 0.0)
    prior = Prior("stated", share)
    found = {0.0: 0, 3.0: 0}
    for offset in found:  # of a sample whose signal is not that of the validation data
        for seed in range(40):
            score, label = draw(n_events, share, seed)
            score = SLOPE * score + OFFSET + np.log(share / (1 - share)) - offset * label
            check = check_calibration(exact, prior, scored_events(score, label), 1)
            assert check is not None
            found[offset] += check.is_off
    assert found[0.0] == 0
    assert found[3.0] >= least


def test_expit_agrees_with_scipy_without_overflow() -> None:
    logits = np.array([-1000.0, -30.0, 0.0, 2.0, 1000.0])
    np.testing.assert_allclose(expit(logits), scipy_expit(logits), rtol=1e-12)
    assert logit(0.2) == pytest.approx(np.log(0.25))


def test_highest_scores_hold_as_much_signal_as_expected_at_the_right_prior_only() -> None:
    score, label = draw(100_000, 0.01, 7)
    found = Calibration("platt", 0.5, SLOPE, OFFSET)
    events = scored_events(score, label)
    top = top_bins(found.probabilities(score, 0.01), events, None)
    for share, part in zip((0.1, 0.01), top, strict=False):
        assert part.n_events == pytest.approx(100_000 * share, abs=2)
        assert part.observed == label[np.argsort(-score)[: part.n_events]].sum()
        assert part.ratio == pytest.approx(1.0, abs=0.12)
        assert part.low < part.ratio < part.high
    wrong = top_bins(found.probabilities(score, 0.1), events, None)[1]
    assert wrong.high < 0.7


def test_highest_scores_of_a_balanced_sample_are_weighted_to_the_prior() -> None:
    score, label = draw(100_000, 0.5, 7)
    found = Calibration("platt", 0.5, SLOPE, OFFSET)
    parts = top_bins(found.probabilities(score, 0.001), scored_events(score, label), 0.001)
    assert parts[0].observed < 0.1 * 50_000
    for part in parts[:2]:
        assert part.ratio == pytest.approx(1.0, abs=0.1)


def test_the_legend_of_a_reliability_diagram_hides_no_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(
        "hepllm.pictures.reliability.save_figure", lambda figure, _: figures.append(figure)
    )
    events = validation(n_events=500)
    calibration = fit_calibration(events, "platt", 0.5)
    config = EvaluationConfig()
    score, label = draw(500, 0.5, 4)
    weight = np.ones(len(score))
    prior = choose_prior(config, "1:1", events, (score, weight))
    check = check_calibration(calibration, prior, scored_events(score, label), 1)
    assert check is not None
    plot_reliability(check, "made", tmp_path / "reliability.png")
    (figure,) = figures
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_legend() is None
    assert legend.get_window_extent().y1 < axes.get_window_extent().y0


def test_reliability_counts_events() -> None:
    probability = np.repeat([0.2, 0.8], 500)
    is_signal = np.concatenate([np.arange(500) < 150, np.arange(500) < 400])
    found = reliability(probability, is_signal, 1)
    np.testing.assert_array_less(found.low, found.observed + 1e-12)
    np.testing.assert_array_less(found.observed - 1e-12, found.high)
    assert found.predicted[0] == pytest.approx(0.2)
    assert found.ece >= (0.1 + 0.0) / 2 - 1e-9
    assert found.ece_if_perfect > 0


@pytest.mark.parametrize("asked", ["training", 0.01, "estimate"])
def test_the_prior_is_named_and_told(asked: str | float, tmp_path: Path) -> None:
    events = validation(n_events=2000)
    calibration = fit_calibration(events, "isotonic", 0.5)
    score, label = draw(8000, 0.05, 4)
    config = EvaluationConfig(prior=asked)
    weight = np.ones(len(score))
    prior = choose_prior(config, "1:1", events, (score, weight))
    check = check_calibration(calibration, prior, scored_events(score, label), 1)
    assert check is not None
    found = CalibrationRecord.of(calibration, prior, check, 0.05)
    text = as_text(probability_chapter(found))
    expected = {"training": 0.5, 0.01: 0.01, "estimate": 0.05}[asked]
    assert found.prior_fraction == pytest.approx(expected, abs=0.012)
    assert prior.name in text
    plot_reliability(check, "made", tmp_path / "reliability.png")
    assert imread(tmp_path / "reliability.png").std() > 0.05
    if asked == "estimate":
        low, high = found.prior_interval or (1.0, 0.0)
        assert low <= 0.05 <= high
        assert "distributed as in the validation data" in " ".join(text.split())
        assert "distributed as in the validation data" in (found.prior_assumption or "")


def test_one_class_has_no_check() -> None:
    events = validation(n_events=200)
    calibration = fit_calibration(events, "platt", 0.5)
    prior = choose_prior(EvaluationConfig(), "1:1", events, (events.score, events.weight))
    only = scored_events(np.zeros(5), np.ones(5, dtype=int))
    assert check_calibration(calibration, prior, only, 1) is None

"""Soft labels by gradients: bounded terms, a held share, and more than the start knew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from hepllm.config import LabelConfig, SoftLabelConfig
from hepllm.errors import InputError
from hepllm.evaluation.calibration import expit
from hepllm.labelling.predictions import Predictions
from hepllm.labelling.soft_labels import fit_each_term, fit_soft_labels
from hepllm.labelling.soft_method import calibrated_prior, soft_labels
from hepllm.labelling.soft_terms import FLOOR, LARGEST_LOGIT, TERMS, Evidence, balanced
from hepllm.labelling.tuples import Tuples, join_tuples, predict_tuples

NONE = np.full(60, -1, dtype=np.int8)
WEAK = {"knowledge": 0.6, "noise": 1.0, "strength": 3.0}


def tuples_of(model, n_events: int, n_tuples: int = 600, seed: int = 1) -> Tuples:
    return predict_tuples(
        Predictions(model, 100_000),
        np.arange(n_events),
        np.full(n_events, 0.5),
        n_tuples,
        size=6,
        per_context=10,
        seed=(seed,),
    )


@pytest.fixture
def tuples(planted: Callable) -> Tuples:
    return tuples_of(planted(30), 30)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_the_mean_probability_is_held(share: float) -> None:
    raw = torch.from_numpy(np.random.default_rng(1).normal(0, 30, 50)).requires_grad_()
    logits = balanced(raw, share)
    assert float(logits.detach().sigmoid().mean()) == pytest.approx(share, abs=1e-6)
    small = raw.detach()[:6].div(20).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: balanced(x, share), small, atol=1e-4)


def test_terms_have_the_gradients_of_their_values(tuples: Tuples) -> None:
    evidence = Evidence.of(tuples, np.random.default_rng(2).normal(size=30), 4.0, 300, seed=1)
    logits = torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for name in TERMS:
        assert torch.autograd.gradcheck(
            lambda x, name=name: evidence.terms(x)[name], logits.clone().requires_grad_(), atol=1e-5
        )


def test_contexts_count_by_the_mean_log_probability_of_their_labels(tuples: Tuples) -> None:
    evidence = Evidence.of(tuples, np.zeros(30), 4.0, 10, seed=1)
    logits = np.random.default_rng(3).normal(size=30)
    match = evidence.tuples.match(torch.from_numpy(logits)).numpy()
    row = tuples.row == 3
    signs = 2.0 * tuples.label[row] - 1.0
    assert match[3] == pytest.approx(-np.log1p(np.exp(-signs * logits[tuples.event[row]])).mean())
    weights = evidence.tuples.weights(torch.from_numpy(logits), 4.0).numpy()
    sums = np.bincount(tuples.target, weights, minlength=30)
    assert_allclose(sums[np.unique(tuples.target)], 1.0)
    target = tuples.target[0]
    mine = np.flatnonzero(tuples.target == target)
    raised = np.exp(4.0 * match[tuples.context[mine]])
    assert_allclose(weights[mine], raised / raised.sum())


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_terms_are_bounded_and_finite(tuples: Tuples, size: float) -> None:
    extreme = Tuples(
        **{**vars(tuples), "log_odds": size * np.sign(tuples.log_odds)},
    )
    evidence = Evidence.of(extreme, size * np.ones(30), 4.0, 500, seed=1)
    raw = torch.from_numpy(size * np.random.default_rng(4).normal(size=30)).requires_grad_()
    terms = evidence.terms(balanced(raw, 0.3))
    sum(terms.values()).backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()
    values = {name: float(value.detach()) for name, value in terms.items()}
    for name in ("mutual", "prior", "direct"):
        assert 0 <= values[name] <= np.log(2 / FLOOR)
    assert 0 <= values["ranking"] <= 8 * LARGEST_LOGIT
    assert 0 <= values["entropy"] <= np.log(2) + 1e-9


def started_and_ended(model, seed: int, config: LabelConfig) -> tuple[float, float]:
    """Accuracies of the prior and of the soft labels."""
    found = soft_labels(Predictions(model, 10_000), np.arange(60), NONE, config, seed)
    assert not found.together.is_trivial
    odds = found.start, found.together.logits
    start, end = (((one > 0) == model.truth).mean() for one in odds)
    return float(start), float(end)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
def test_labels_become_better_than_the_start_in_nine_of_ten_seeds(
    planted: Callable, optimizer: str
) -> None:
    config = LabelConfig(context=8, soft=SoftLabelConfig(optimizer=optimizer))
    found = [started_and_ended(planted(60, seed=seed, **WEAK), seed, config) for seed in range(10)]
    assert sum(end > start for start, end in found) >= 9
    assert np.median([end for _, end in found]) > 0.9


@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
def test_labels_become_better_than_the_start(planted: Callable, optimizer: str) -> None:
    soft = SoftLabelConfig(optimizer=optimizer, epochs=40, rounds=1)
    start, end = started_and_ended(
        planted(60, seed=3, **WEAK), 3, LabelConfig(context=8, soft=soft)
    )
    assert end > start + 0.1


@pytest.mark.slow
def test_predictions_by_chance_teach_nothing(careless: Callable) -> None:
    config = LabelConfig(context=8)
    right = []
    for seed in range(8):
        model = careless(60, seed=seed)
        found = soft_labels(Predictions(model, 10_000), np.arange(60), NONE, config, seed)
        right.append(((found.together.logits > 0) == model.truth).mean())
    assert 0.38 < np.mean(right) < 0.62


def test_a_share_that_the_model_contradicts_is_told(
    planted: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of a pool with a tenth of signal would be called signal otherwise, and nothing told."""
    soft = SoftLabelConfig(epochs=2, rounds=1)
    for shift, prior in ((0.0, None), (-2.0, 0.1), (-2.0, None)):
        assert "label.prior" not in caplog.text
        model = planted(60, **WEAK)
        model.log_odds = lambda requests, ask=model.log_odds, shift=shift: [
            one + shift for one in ask(requests)
        ]
        config = LabelConfig(context=8, prior=prior, soft=soft)
        soft_labels(Predictions(model, 10_000), np.arange(60), NONE, config, 1)
    assert "% of the events signal, and soft labels hold their mean probability" in caplog.text


def test_each_term_is_seen_alone(planted: Callable) -> None:
    model = planted(60, **WEAK)
    tuples = tuples_of(model, 60, 1200)
    prior = 0.5 * (2.0 * model.truth - 1.0)
    prior[:12] *= -1  # a fifth is wrong
    alone = fit_each_term(tuples, prior, SoftLabelConfig(entropy=0.0), 0.5, seed=1)
    assert set(alone) == {"mutual", "ranking", "prior", "direct"}
    right = {name: ((one.logits > 0) == model.truth).mean() for name, one in alone.items()}
    assert right["mutual"] > right["prior"]
    assert right["prior"] == pytest.approx(0.8, abs=0.07)
    assert all(set(one.weights) == {name} for name, one in alone.items())


def test_learned_weights_stay_near_their_settings(planted: Callable) -> None:
    tuples = tuples_of(planted(30), 30)
    config = SoftLabelConfig(learn_weights=True, epochs=60, patience=60)
    found = fit_soft_labels(tuples, np.random.default_rng(1).normal(size=30), config, 0.5, 1)
    for name, weight in found.weights.items():
        assert 0.25 <= weight / getattr(config, name) <= 4.0
    assert any(
        abs(weight / getattr(config, name) - 1) > 0.05 for name, weight in found.weights.items()
    )


def test_the_best_held_out_epoch_is_kept(planted: Callable) -> None:
    tuples = tuples_of(planted(30), 30)
    prior = np.random.default_rng(1).normal(size=30)
    long = fit_soft_labels(tuples, prior, SoftLabelConfig(), 0.5, 1)
    short = fit_soft_labels(tuples, prior, SoftLabelConfig(epochs=max(1, long.epochs)), 0.5, 1)
    assert long.held_out >= long.start_held_out
    assert_allclose(short.logits, long.logits)


def test_uncertain_events_get_more_predictions(planted: Callable) -> None:
    probability = np.where(np.arange(60) < 20, 0.5, 0.999)
    found = predict_tuples(
        Predictions(planted(60), 10_000),
        np.arange(60),
        probability,
        1000,
        size=8,
        per_context=10,
        seed=(1,),
    )
    counts = np.bincount(found.target, minlength=60)
    assert counts[:20].mean() > 4 * counts[20:].mean() > 0
    of_context = {row: set(found.event[found.row == row]) for row in range(found.n_contexts)}
    pairs = zip(found.context, found.target, strict=True)
    assert not any(target in of_context[context] for context, target in pairs)
    joined = join_tuples([found, found])
    assert len(joined) == 2 * len(found)
    assert joined.n_contexts == 2 * found.n_contexts


def test_landmarks_calibrate_the_prior_or_say_that_it_is_upside_down() -> None:
    random = np.random.default_rng(5)
    truth = (np.arange(2000) % 2).astype(np.int8)
    odds = 3.0 + 0.1 * (2 * truth - 1) + random.normal(0, 0.1, 2000)
    landmarks = np.full(2000, -1, dtype=np.int8)
    landmarks[:400] = truth[:400]
    found = calibrated_prior(odds, landmarks, 0.5)
    # Two Gaussians of width 0.1 at +-0.1: the log-odds are 2 * 0.1 / 0.1^2 (x - 3).
    slope, offset = np.polyfit(odds - 3.0, found, 1)
    assert slope == pytest.approx(20.0, rel=0.25)
    assert abs(offset) < 0.4
    plain = calibrated_prior(odds, np.full(2000, -1, dtype=np.int8), 0.2)
    assert (plain > 0).mean() == pytest.approx(0.2, abs=0.01)
    assert expit(plain).std() > 0.1
    with pytest.raises(InputError, match="the larger log-odds"):
        calibrated_prior(-odds, landmarks, 0.5)
    with pytest.raises(InputError, match="one class"):
        calibrated_prior(odds, np.where(truth == 1, landmarks, -1).astype(np.int8), 0.5)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.errors import InputError
from hepllm.evaluation.metrics import roc
from hepllm.evaluation.scores import scored_events
from hepllm.weak.selection import (
    argos,
    argos_at,
    best_stage,
    choose_model,
    crossfit_argos,
    join_folds,
    validation_loss,
    weighted_argos,
)


def draw(
    separation: float, fraction: float, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of data, of a template, and which of the data are signal."""
    generator = np.random.default_rng(seed)
    is_signal = generator.random(count) < fraction
    data = generator.standard_normal(count) + separation * is_signal
    return data, generator.standard_normal(count), is_signal


def test_a_perfect_template_orders_cuts_by_their_sic() -> None:
    """eps_data = f eps_s + (1 - f) eps_b, so the value is f (SIC - sqrt(eps_b)) exactly."""
    background = np.arange(1000) / 1000
    signal = np.full(50, 0.9)
    data = np.concatenate([background, signal])
    found = argos_at((data, background), 0.1)
    eps_b, fraction = 0.1, 50 / 1050
    assert found.value == pytest.approx(fraction * (1 / np.sqrt(eps_b) - np.sqrt(eps_b)))
    assert argos((data, background)).threshold == 0.9


def test_the_uncertainty_is_the_spread_of_the_value() -> None:
    values = [argos_at(draw(2.5, 0.02, 5000, seed)[:2], 0.01) for seed in range(400)]
    # At a fixed share of the template the cut moves with it, which is the template's part.
    spread = np.std([one.value for one in values])
    assert spread == pytest.approx(np.mean([one.uncertainty for one in values]), rel=0.3)


def test_the_maximum_is_biased_upwards_and_the_crossfit_reading_is_not() -> None:
    scores = [draw(0.0, 0.0, 4000, seed)[:2] for seed in range(60)]
    assert np.mean([argos(one).value for one in scores]) > 0.02
    readings = [crossfit_argos(one, 1) for one in scores]
    assert abs(np.mean(readings)) < 3 * np.std(readings) / np.sqrt(len(readings))


@given(st.integers(0, 1000))
def test_only_the_order_of_scores_matters(seed: int) -> None:
    data, template, _ = draw(1.0, 0.1, 300, seed)
    before, after = argos((data, template)), argos((np.exp(data), np.exp(template)))
    assert after.value == before.value
    assert after.n_template == before.n_template >= 25


def test_the_better_classifier_is_chosen_and_its_sic_is_larger() -> None:
    folds = {"good": [], "poor": []}
    for seed in range(5):
        for name, separation in (("good", 3.0), ("poor", 1.5)):
            data, template, is_signal = draw(separation, 0.02, 8000, seed)
            folds[name].append((data, template))
            if name == "good":
                curve = roc(scored_events(data, is_signal.astype(np.int8)))
                assert np.nanmax(curve.sic(25)) > 4
    choice = choose_model(folds)
    assert choice.name == "good"
    assert choice.uncertainty["good"] == 0
    assert choice.value["good"] - choice.value["poor"] > 3 * choice.uncertainty["poor"]


def test_folds_are_joined_whatever_the_scale_of_their_scores() -> None:
    folds = [draw(2.0, 0.05, 3000, seed)[:2] for seed in range(4)]
    joined = join_folds(folds)
    scaled = join_folds([(10**k * one - k, 10**k * two - k) for k, (one, two) in enumerate(folds)])
    np.testing.assert_allclose(joined, scaled)
    cut = np.quantile(joined[1], 0.9)
    for fold in np.split(joined[1], 4):
        assert (fold >= cut).mean() == pytest.approx(0.1, abs=1e-3)


def test_the_best_stage_is_where_the_excess_is_largest() -> None:
    separations = [0.5, 1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 3.5, 3.0, 2.0, 1.0, 0.5]
    stages = [draw(one, 0.02, 20_000, 7)[:2] for one in separations]
    assert best_stage(stages) in (5, 6, 7)


def test_validation_loss_of_a_blind_classifier_is_log_two() -> None:
    assert validation_loss((np.full(5, 0.5), np.full(9, 0.5))) == pytest.approx(np.log(2))


def test_refusals() -> None:
    good = np.arange(100.0)
    with pytest.raises(InputError, match="25 must pass"):
        argos((good, good[:10]))
    with pytest.raises(InputError, match="data events are not finite in 1 rows, the first is 2"):
        argos((np.array([0.0, 1.0, np.nan]), good))
    with pytest.raises(InputError, match="template events are missing"):
        argos((good, good[:0]))
    with pytest.raises(InputError, match="above 0 and at most 1"):
        argos_at((good, good), 0.0)
    with pytest.raises(InputError, match="same folds"):
        choose_model({"a": [(good, good)], "b": []})
    with pytest.raises(InputError, match="no best one"):
        best_stage([])


def test_weights_count_as_events_would() -> None:
    """An event of weight 2 is two events, where enough of them pass either way."""
    random = np.random.default_rng(4)
    data, template = random.normal(0.2, 1, 3000), random.normal(0, 1, 2000)
    weight = random.integers(1, 4, 2000).astype(float)
    repeated = np.repeat(template, weight.astype(int))
    assert weighted_argos((data, template), np.ones(2000)) == pytest.approx(
        argos((data, template)).value
    )
    kept = np.sort(template)[-200]
    n_repeated = int((repeated >= kept).sum())
    assert weighted_argos((data, template), weight, 200) == pytest.approx(
        argos((data, repeated), n_repeated).value
    )
    with pytest.raises(InputError, match="10 template events are held out"):
        weighted_argos((data, template[:10]), np.ones(10))

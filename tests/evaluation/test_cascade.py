"""One ranking from two classifiers, what its cut keeps, and what its probabilities mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.calibration import Calibration
from hepllm.evaluation.cascade import (
    CascadeCalibration,
    CascadeCut,
    CascadeRecord,
    CascadeScores,
    choose_cut,
    cuts_beyond,
    measure_loss,
)
from hepllm.evaluation.metrics import auc, roc, sic_at
from hepllm.evaluation.scores import ScoredEvents, ScoreTable, scored_events
from hepllm.report.cascade import cascade_chapter
from hepllm.report.text import as_text

LOGITS = st.floats(-20, 20)
LABEL = np.tile([1, 0, 0, 0], 1000)


def events(shift: float, seed: int, label: np.ndarray = LABEL) -> ScoredEvents:
    score = np.random.default_rng(seed).normal(size=len(label)) + shift * label
    return scored_events(score, label)


@given(arrays(float, 40, elements=LOGITS), arrays(float, 40, elements=LOGITS), LOGITS)
def test_events_below_the_cut_rank_below_all_others(
    boosting: np.ndarray, model: np.ndarray, threshold: float
) -> None:
    cut = CascadeCut(0.1, threshold, float(2 * model.min() - model.max() - 1))
    kept = boosting >= threshold
    joined = cut.combine(boosting, model[kept])
    assert np.isfinite(joined).all()
    np.testing.assert_array_equal(joined[kept], model[kept])
    np.testing.assert_array_equal(cut.is_cascaded(joined), ~kept)
    if kept.any() and not kept.all():
        assert joined[~kept].max() < joined[kept].min()
    below = np.argsort(boosting[~kept], kind="stable")
    assert (np.diff(joined[~kept][below]) >= 0).all()
    np.testing.assert_allclose(cut.boosting_of(joined[~kept]), boosting[~kept], atol=1e-12)


def test_a_score_far_below_all_seen_still_ranks_above_the_boosting() -> None:
    cut = CascadeCut(0.1, threshold=0.0, floor=-10.0)
    joined = cut.combine(np.array([1.0, 2.0, -1e-18, -3.0]), np.array([-500.0, 4.0]))
    np.testing.assert_array_equal(np.argsort(joined), [3, 2, 0, 1])
    assert joined[2] < joined[0]


@pytest.mark.parametrize("keep", [0.001, 0.01, 0.1, 0.5])
def test_the_cut_keeps_the_stated_share_of_the_background(keep: float) -> None:
    boosting = events(2.0, 1)
    cut = choose_cut(boosting, np.array([-1.0, 1.0]), keep)
    passing = (boosting.score[LABEL == 0] >= cut.threshold).sum()
    assert passing == np.ceil(keep * 3000)


def test_keeping_all_leaves_the_scores_alone() -> None:
    boosting, model = events(2.0, 1), events(2.5, 2)
    cut = choose_cut(boosting, model.score, 1.0)
    np.testing.assert_array_equal(cut.combine(boosting.score, model.score), model.score)
    assert not cut.is_cascaded(np.array([-1e300])).any()


def test_one_class_has_no_cut() -> None:
    with pytest.raises(InputError, match="no background events"):
        choose_cut(events(1.0, 1, np.ones(10, dtype=int)), np.zeros(2), 0.1)


def test_no_more_signal_can_be_selected_than_the_cut_keeps(
    tiny_config: Callable[..., Config],
) -> None:
    """A selection tighter than the cut loses at most the signal that the cut loses."""
    config = tiny_config("evaluation.bootstrap=50").evaluation
    boosting, alone = events(1.0, 1), events(1.5, 2)
    cut = choose_cut(boosting, alone.score, 0.1)
    kept = cut.keeps(boosting.score)
    joined = cut.combine(boosting.score, alone.score[kept])
    loss = measure_loss(cut, boosting, (joined, alone), config, seed=1)
    assert loss.eps_s is not None
    assert loss.eps_b is not None
    assert loss.eps_s.value == np.mean(kept[LABEL == 1])
    assert loss.eps_b.value == pytest.approx(0.1)
    curve = roc(scored_events(joined, LABEL))
    above = curve.threshold >= cut.floor
    assert curve.eps_s[above].max() == loss.eps_s.value
    assert curve.eps_b[above].max() == loss.eps_b.value
    ours, theirs = (scored_events(score, LABEL) for score in (joined, alone.score))
    n_min = config.min_background
    for eps_s in (0.3, 0.5):
        first, second = (sic_at(roc(one), eps_s, n_min).sic for one in (ours, theirs))
        assert first is not None
        assert second is not None
        found = loss.difference[f"sic_at_{eps_s:g}"]
        assert found.estimate == pytest.approx(first - second)
        assert found.interval is not None
    areas = (auc(ours).value, auc(theirs).value)
    assert loss.difference["auc"].estimate == pytest.approx(areas[0] - areas[1])


def test_values_below_the_cut_are_marked(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config("evaluation.bootstrap=20").evaluation
    boosting, alone = events(1.0, 1), events(1.0, 2)
    cut = choose_cut(boosting, alone.score, 0.02)
    joined = cut.combine(boosting.score, alone.score[cut.keeps(boosting.score)])
    table = ScoreTable(LABEL, {"llm": joined})
    results = evaluate_scores(table, table, config, 1)
    beyond = cuts_beyond(cut, results.record)
    eps_s = np.mean(cut.keeps(boosting.score)[LABEL == 1])
    assert [f"sic_at_{x:g}" in beyond for x in (0.1, 0.3, 0.5)] == [
        x > eps_s for x in (0.1, 0.3, 0.5)
    ]
    assert "sic_at_0.5" in beyond
    loss = measure_loss(cut, boosting, (joined, alone), config, seed=1)
    scores = CascadeScores(joined, 100, seconds=2.0, model_seconds=1.0)
    passing = {"eps_s": None, "eps_b": None}
    found = CascadeRecord.of(cut, scores, loss, passing, beyond)
    assert found.speed_up == pytest.approx(20.0)
    assert found.beyond == beyond
    assert found.events_per_second == 2000
    assert found.events_per_second_without == 100
    text = as_text(cascade_chapter(found))
    assert "sic_at_0.5: these cuts lie below" in text.replace("\n", " ")
    assert "2000 events/s, 20.0 times" in text


def test_each_part_has_its_own_probabilities() -> None:
    cut = CascadeCut(0.1, threshold=1.0, floor=-10.0)
    kept, rest = Calibration("platt", 0.5, 2.0, 1.0), Calibration("platt", 0.5, 0.5, -1.0)
    both = CascadeCalibration(method="platt", prior=0.5, cut=cut, kept=kept, rest=rest)
    boosting, model = np.array([2.0, 0.0, -3.0]), np.array([0.7])
    found = both.probabilities(cut.combine(boosting, model), 0.01)
    expected = [*kept.probabilities(model, 0.01), *rest.probabilities(boosting[1:], 0.01)]
    np.testing.assert_allclose(found, expected)

"""Scores of folds: no event is scored by classifiers that saw it, and folds are joined by rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hepllm.baselines.scorer import TrainingSample
from hepllm.weak.ensemble import fit_ensemble
from hepllm.weak.folds import EventFiles, FoldTask, WeakTraining, at_equal_efficiency, draw_folds
from hepllm.weak.regions import Region
from hepllm.weak.templates import Sample, TemplateMaker, training_sample

REGION = Region(3300.0, 3700.0, 3100.0, 3950.0)
TRAINING = WeakTraining(TemplateMaker("sidebands", ("x", "y")), "boosting", members=2, seed=1)


@pytest.fixture(scope="module")
def data() -> Sample:
    """Background, and 4 % signal in the region, which differs in x."""
    random = np.random.default_rng(7)
    m_jj = 3000 + random.exponential(600, 4000)
    m_jj[:160] = random.uniform(3300, 3700, 160)
    features = random.normal(size=(4000, 2))
    features[:160, 0] += 5
    return Sample(features, m_jj)


def test_the_events_of_a_fold_have_no_part_in_its_training(data: Sample) -> None:
    """Neither their masses nor their features: others in their place change no other score."""
    fold = draw_folds(len(data), 2, seed=1)
    task = FoldTask(0, REGION, 0)
    scores = TRAINING.score(data, fold, None, task)
    m_jj, features = data.m_jj.copy(), data.features.copy()
    mine = np.flatnonzero(fold == 0)
    m_jj[mine] = 3500.0
    features[mine[1:]] = 9.0
    changed = TRAINING.score(Sample(features, m_jj), fold, None, task)
    assert changed[0] == scores[0]
    assert len(scores) == len(mine)


def test_the_signal_is_found_without_labels(data: Sample) -> None:
    fold = draw_folds(len(data), 2, seed=1)
    raw = np.empty(len(data))
    for number in range(2):
        raw[fold == number] = TRAINING.score(data, fold, None, FoldTask(0, REGION, number))
    joined = at_equal_efficiency(raw, fold, seed=1)
    assert (joined[:160] > 0.9).mean() > 0.8


def test_folds_have_equal_sizes_and_their_seed() -> None:
    fold = draw_folds(1003, 5, seed=3)
    assert sorted(np.bincount(fold)) == [200, 200, 201, 201, 201]
    np.testing.assert_array_equal(fold, draw_folds(1003, 5, seed=3))
    assert (fold != draw_folds(1003, 5, seed=4)).any()


def test_a_cut_keeps_the_same_share_of_each_fold() -> None:
    """Whatever the scale of a fold's scores is."""
    random = np.random.default_rng(2)
    fold = draw_folds(5000, 5, seed=1)
    scores = random.normal(size=5000) * (1 + fold) + 10 * fold
    joined = at_equal_efficiency(scores, fold, seed=1)
    assert joined.min() >= 0
    assert joined.max() < 1
    for share in (0.1, 0.01):
        kept = [(joined[fold == one] > 1 - share).sum() for one in range(5)]
        assert kept == [1000 * share] * 5
    for one in range(5):
        mine = fold == one
        np.testing.assert_array_equal(np.argsort(scores[mine]), np.argsort(joined[mine]))
    np.testing.assert_array_equal(joined, at_equal_efficiency(np.exp(scores / 9), fold, seed=1))


def test_equal_scores_are_put_in_an_order_at_random() -> None:
    """Where nothing was learnt, a cut is a random choice, which the masses know nothing of."""
    fold = draw_folds(4000, 4, seed=1)
    joined = at_equal_efficiency(np.full(4000, 0.5), fold, seed=1)
    assert len(np.unique(joined)) == 4000
    assert abs(np.corrcoef(joined, np.arange(4000))[0, 1]) < 0.06


@pytest.mark.parametrize("is_weighted", [False, True])
def test_files_give_the_same_scores(data: Sample, tmp_path: Path, *, is_weighted: bool) -> None:
    """Those that worker processes read, also with a dataset of background."""
    fold = draw_folds(len(data), 2, seed=1)
    weight = np.random.default_rng(3).uniform(0.2, 3, len(data) - 500) if is_weighted else None
    background = Sample(data.features[500:], data.m_jj[500:], weight)
    files = EventFiles(tmp_path)
    files.write(data, fold, background)
    training = replace(TRAINING, members=1, maker=TemplateMaker("simulation", ("x", "y")))
    task = FoldTask(2, REGION, 1)
    np.testing.assert_array_equal(
        files.score(training, task), training.score(data, fold, background, task)
    )


def test_members_differ_and_their_mean_is_the_score(data: Sample) -> None:
    template = TemplateMaker("sidebands", ("x", "y")).make(data, REGION, None, 1)
    sample = training_sample(data, REGION, template, ("x", "y"), 1)
    ensemble = fit_ensemble(sample, "boosting", 3)
    assert ensemble.bins is not None
    codes = ensemble.bins.codes(data.features)
    each = [1 / (1 + np.exp(-one.score(codes))) for one in ensemble.members]
    assert not np.array_equal(each[0], each[1])
    np.testing.assert_allclose(ensemble.score(data.features), np.mean(each, axis=0))


def test_a_network_is_a_member_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By choice; it reads the features themselves, since bins are for trees."""
    monkeypatch.setattr("hepllm.baselines.mlp._MAX_EPOCHS", 2)
    random = np.random.default_rng(5)
    label = np.repeat([1, 0], 150)
    features = random.normal(size=(300, 2)) + 3 * label[:, None]
    sample = TrainingSample(features, ("jet_mass_light", "tau21_light"), label, seed=1)
    ensemble = fit_ensemble(sample, "mlp", 1)
    assert ensemble.bins is None
    scores = ensemble.score(features)
    assert ((scores > 0.5) == (label == 1)).mean() > 0.8

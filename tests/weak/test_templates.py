"""Templates of the background in a signal region."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.weak.regions import Region
from hepllm.weak.templates import Sample, TemplateMaker, training_sample

REGION = Region(3300.0, 3700.0, 3100.0, 3950.0)


def _sample(n_events: int, seed: int, mean: float = 0.0) -> Sample:
    """Background whose first feature grows linearly with the mass."""
    random = np.random.default_rng(seed)
    m_jj = 3000 + random.exponential(600, n_events)
    x = random.normal(mean, 1, n_events) + (m_jj - 3500) / 1000
    return Sample(np.column_stack([x, random.normal(size=n_events)]), m_jj)


def test_sidebands_have_equal_weights_together() -> None:
    data = _sample(6000, 1)
    template = TemplateMaker("sidebands", ("x", "y")).make(data, REGION, None, 1)
    below, _, above = REGION.counts(data.m_jj)
    assert len(template.weight) == below + above
    assert template.weight[:below].sum() == pytest.approx(template.weight[below:].sum())
    assert template.weight.sum() == pytest.approx(len(template.weight))
    np.testing.assert_array_equal(template.features[:below], data.features[REGION.lower(data.m_jj)])


def test_both_classes_have_equal_weight() -> None:
    data = _sample(6000, 1)
    template = TemplateMaker("sidebands", ("x", "y")).make(data, REGION, None, 1)
    sample = training_sample(data, REGION, template, ("x", "y"), 4)
    is_data = sample.label == 1
    assert sample.weight is not None
    assert sample.weight[is_data].sum() == pytest.approx(sample.weight[~is_data].sum())
    np.testing.assert_array_equal(sample.features[is_data], data.features[REGION.signal(data.m_jj)])


@pytest.mark.parametrize("kind", ["simulation", "ideal"])
def test_simulation_is_that_of_the_region(kind: str) -> None:
    simulated = _sample(5000, 2)
    template = TemplateMaker(kind, ("x", "y")).make(_sample(3000, 1), REGION, simulated, 1)
    inside = REGION.signal(simulated.m_jj)
    np.testing.assert_array_equal(template.features, simulated.features[inside])
    assert (template.weight == 1).all()


def test_reweighting_in_the_sidebands_mends_simulation_in_the_region() -> None:
    data, simulated = _sample(12_000, 1), _sample(12_000, 2, mean=0.5)
    truth = data.features[REGION.signal(data.m_jj), 0].mean()
    maker = TemplateMaker("reweighted", ("x", "y"))
    template = maker.make(data, REGION, simulated, 1)
    before = template.features[:, 0].mean()
    after = np.average(template.features[:, 0], weights=template.weight)
    assert abs(before - truth) > 0.4
    assert abs(after - truth) < 0.15


def test_weights_of_simulation_count_as_so_many_events() -> None:
    """Slices in pT, of which some are simulated more often than they are in data."""
    random = np.random.default_rng(5)
    data, whole = _sample(12_000, 1), _sample(24_000, 2)
    share = np.where(whole.features[:, 0] > 0, 1.0, 0.25)
    sliced = whole.take(random.random(len(whole)) < share)
    weighted = replace(sliced, weight=np.where(sliced.features[:, 0] > 0, 1.0, 4.0))
    truth = data.features[REGION.signal(data.m_jj), 0].mean()
    for kind in ("simulation", "reweighted"):
        maker = TemplateMaker(kind, ("x", "y"))
        template = maker.make(data, REGION, weighted, 1)
        assert template.weight.sum() == pytest.approx(len(template.weight))
        found = np.average(template.features[:, 0], weights=template.weight)
        assert found == pytest.approx(truth, abs=0.15)
    plain = TemplateMaker("simulation", ("x", "y")).make(data, REGION, sliced, 1)
    assert plain.features[:, 0].mean() > truth + 0.2


def test_data_of_the_region_have_no_part_in_reweighting() -> None:
    data, simulated = _sample(3000, 1), _sample(3000, 2, mean=0.5)
    maker = TemplateMaker("reweighted", ("x", "y"))
    outside = data.take(~REGION.signal(data.m_jj))
    np.testing.assert_array_equal(
        maker.make(data, REGION, simulated, 1).weight,
        maker.make(outside, REGION, simulated, 1).weight,
    )


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="needs a dataset of background"):
        TemplateMaker("simulation", ("x", "y")).make(_sample(500, 1), REGION, None, 1)
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(InputError, match=r"hepllm\[weak\]"):
        TemplateMaker("density", ("x", "y")).make(_sample(5000, 1), REGION, None, 1)


def test_the_density_is_that_of_the_other_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for without the events of the region, for so many as were set."""
    data, asked = _sample(3000, 1), []

    def interpolate(*words: object, names: tuple[str, ...]) -> np.ndarray:
        assert names == ("x", "y")
        asked.append(words)
        return np.zeros((words[3], 2))

    monkeypatch.setattr("hepllm.weak.density.interpolate", interpolate)
    template = TemplateMaker("density", ("x", "y"), oversampling=3).make(data, REGION, None, 7)
    ((features, m_jj, region, count, seed),) = asked
    outside = ~REGION.signal(data.m_jj)
    np.testing.assert_array_equal(features, data.features[outside])
    np.testing.assert_array_equal(m_jj, data.m_jj[outside])
    assert (region, seed) == (REGION, 7)
    assert count == len(template.weight) == 3 * int(REGION.signal(data.m_jj).sum())

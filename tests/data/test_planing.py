"""Planing gives both classes one spectrum, and leaves the weight of each class as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepllm.data.planing import planing_factors


def draw(n_signal: int = 3000, n_background: int = 6000) -> tuple[NDArray[np.float64], ...]:
    random = np.random.default_rng(1)
    m_jj = np.concatenate(
        [
            random.uniform(2600, 5500, n_signal),
            2600 + random.exponential(600, n_background),
        ]
    )
    return m_jj, np.repeat([1, 0], [n_signal, n_background]).astype(np.int8)


def test_both_classes_have_one_spectrum() -> None:
    m_jj, label = draw()
    weight = np.random.default_rng(2).uniform(0.5, 2, len(m_jj))
    weight *= planing_factors(m_jj, label, weight)
    edges = np.quantile(m_jj, [0.1, 0.3, 0.5, 0.7, 0.9])
    shares = []
    for one in (1, 0):
        mine = label == one
        place = np.searchsorted(edges, m_jj[mine])
        shares.append(np.bincount(place, weight[mine]) / weight[mine].sum())
    np.testing.assert_allclose(shares[0], shares[1], atol=0.03)


def test_the_weight_of_a_class_is_unchanged() -> None:
    m_jj, label = draw()
    weight = np.where(np.arange(len(m_jj)) % 9 == 0, -1.0, 1.0)
    m_jj[::50] = np.nan
    factors = planing_factors(m_jj, label, weight)
    positive = np.clip(weight, 0, None)
    for one in (1, 0):
        mine = label == one
        np.testing.assert_allclose((factors * positive)[mine].sum(), positive[mine].sum())
    assert (factors[::50] == 1).all()


def test_equal_spectra_have_factors_of_about_one() -> None:
    m_jj, _ = draw()
    label = np.random.default_rng(3).integers(0, 2, len(m_jj)).astype(np.int8)
    factors = planing_factors(m_jj, label, np.ones(len(m_jj)))
    assert abs(factors - 1).max() < 0.3


def test_one_class_alone_keeps_its_weights() -> None:
    m_jj, _ = draw()
    assert (planing_factors(m_jj, np.zeros(len(m_jj), np.int8), np.ones(len(m_jj))) == 1).all()

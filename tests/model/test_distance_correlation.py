"""The distance correlation, against loops over pairs, at its limits, and as a loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hepllm.model.distance_correlation import background_dependence, distance_correlation


def by_loops(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The definition of Szekely, Rizzo and Bakirov, without weights."""
    matrices = []
    for values in (x, y):
        n = len(values)
        a = np.array([[abs(values[i] - values[j]) for j in range(n)] for i in range(n)])
        rows, columns, mean = a.mean(axis=1), a.mean(axis=0), a.mean()
        matrices.append(
            [[a[i][j] - rows[i] - columns[j] + mean for j in range(n)] for i in range(n)]
        )
    first, second = map(np.array, matrices)
    variances = np.sqrt((first**2).mean() * (second**2).mean())
    return float((first * second).mean() / variances)


def test_it_is_that_of_its_definition() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=30)
    y = x**2 + random.normal(size=30)
    found = distance_correlation(torch.tensor(x), torch.tensor(y), torch.ones(30))
    assert float(found) == pytest.approx(by_loops(x, y), rel=1e-4)


def test_integer_weights_count_like_repeated_events() -> None:
    random = np.random.default_rng(2)
    x, y = torch.tensor(random.normal(size=(2, 20)))
    weights = torch.tensor(random.integers(0, 4, 20))
    weighted = distance_correlation(x, y, weights)
    repeated = [one.repeat_interleave(weights) for one in (x, y)]
    expected = distance_correlation(*repeated, torch.ones(len(repeated[0])))
    torch.testing.assert_close(weighted, expected)


def test_limits() -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(3))
    one = torch.ones(200)
    assert float(distance_correlation(x, 3 - 2 * x, one)) == pytest.approx(1, abs=1e-4)
    assert float(distance_correlation(x, one, one)) == 0
    assert float(distance_correlation(x[:0], one[:0], one[:0])) == 0


def test_minimising_it_removes_a_dependence_that_is_not_linear() -> None:
    random = torch.Generator().manual_seed(4)
    m_jj = torch.rand(300, generator=random) * 3000 + 2600
    free = torch.randn(300, generator=random)
    mixed = torch.stack([(m_jj / 1000 - 4).abs(), free])
    labels, weights = torch.zeros(300), torch.ones(300)
    share = torch.tensor([1.0, 0.3], requires_grad=True)
    optimizer = torch.optim.Adam([share], lr=0.05)
    with torch.no_grad():
        before = float(background_dependence(share @ mixed, m_jj, labels, weights))
    for _ in range(100):
        optimizer.zero_grad()
        background_dependence(share @ mixed, m_jj, labels, weights).backward()
        optimizer.step()
    with torch.no_grad():
        after = float(background_dependence(share @ mixed, m_jj, labels, weights))
    assert before > 0.1
    assert after < before / 5


def test_only_background_with_a_mass_counts() -> None:
    scores, m_jj = torch.tensor([0.0, 1, 2, 9, 9]), torch.tensor([2.0, 1, 3, 8, torch.nan])
    labels, weights = torch.tensor([0, 0, 0, 1, 0]), torch.tensor([1.0, 2, 1, 5, 5])
    alone = background_dependence(scores[:3], m_jj[:3], labels[:3], weights[:3])
    torch.testing.assert_close(background_dependence(scores, m_jj, labels, weights), alone)


def test_constant_scores_have_a_finite_gradient() -> None:
    scores = torch.zeros(50, requires_grad=True)
    m_jj = torch.linspace(3000, 6000, 50)
    background_dependence(scores, m_jj, torch.zeros(50), torch.ones(50)).backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from hepllm.cartography.clusters import (
    NOISE,
    Clusters,
    assign_clusters,
    find_clusters,
    fit_projection,
    measure_stability,
)
from hepllm.config import ClustersConfig, ScoringConfig
from hepllm.errors import InputError

CONFIG = ClustersConfig(min_size=20, min_samples=5, dimensions=5, subsamples=3)
SIZES = (120, 80, 50)


def planted(distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of three groups in 12 dimensions, shuffled, and the group of each."""
    random = np.random.default_rng(3)
    group = random.permutation(np.repeat(np.arange(3), SIZES))
    centres = distance * np.eye(12)[:3]
    return centres[group] + random.normal(0, 1, (len(group), 12)), group


def test_planted_clusters_are_found_by_size_and_again_in_subsamples() -> None:
    points, group = planted(25.0)
    projection = fit_projection([points], CONFIG.dimensions)
    values = projection.project([points])
    assert values.shape == (250, 5)
    assert (np.diff(projection.explained) <= 0).all()
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-9)
    covariance = np.cov(values.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    found = find_clusters(values, CONFIG)
    assert found.n_clusters == 3
    kept = ~found.is_noise
    assert kept.mean() > 0.9
    np.testing.assert_array_equal(found.number[kept], group[kept])
    assert (found.probability[found.is_noise] == 0).all()
    stability = measure_stability(values, found, CONFIG, seed=1)
    assert len(stability) == 3
    assert min(stability) > 0.8
    assert stability == measure_stability(values, found, CONFIG, seed=1)


def test_a_random_division_is_unstable() -> None:
    points, _ = planted(25.0)
    random = Clusters(np.random.default_rng(1).integers(0, 3, len(points)), np.ones(len(points)))
    assert np.mean(measure_stability(points, random, CONFIG, seed=1)) < 0.1


def test_one_cloud_has_no_cluster_and_no_stability() -> None:
    points, _ = planted(0.0)
    found = find_clusters(points, CONFIG)
    assert found.n_clusters == 0
    assert (found.number == NOISE).all()
    assert measure_stability(points, found, CONFIG, seed=1) == ()


def test_parts_of_an_embedding_count_alike() -> None:
    random = np.random.default_rng(2)
    first, second = random.normal(0, 1, (2, 400, 3))
    plain = fit_projection([first, second], 6)
    larger = fit_projection([1e4 * first, second], 6)
    np.testing.assert_allclose(larger.explained, plain.explained)
    values = plain.project([first, second])
    np.testing.assert_allclose(
        np.abs(larger.project([1e4 * first, second])), np.abs(values), atol=1e-9
    )
    constant = fit_projection([first, np.ones((400, 3), np.float32)], 6).explained
    np.testing.assert_allclose(constant[3:], 0, atol=1e-12)


def test_further_events_join_the_clusters_that_they_are_in() -> None:
    points, group = planted(25.0)
    fitted, others = np.arange(len(points)) < 200, np.arange(len(points)) >= 200
    found = find_clusters(points[fitted], CONFIG)
    joined = assign_clusters(points[others], points[fitted], found, CONFIG)
    first_of = {number: group[fitted][found.number == number][0] for number in range(3)}
    is_member = ~joined.is_noise
    assert is_member.mean() > 0.8
    expected = [first_of[number] for number in joined.number[is_member].tolist()]
    np.testing.assert_array_equal(group[others][is_member], expected)
    assert ((joined.probability > 0) == is_member).all()
    assert (joined.probability <= 1).all()
    # An event at the place of a member is in its cluster; one far from all is in none.
    members = points[fitted][~found.is_noise]
    again = assign_clusters(members, points[fitted], found, CONFIG)
    np.testing.assert_array_equal(again.number, found.number[~found.is_noise])
    np.testing.assert_allclose(again.probability, found.probability[~found.is_noise], atol=0.2)
    far = assign_clusters(points[:3] + 500, points[fitted], found, CONFIG)
    assert far.is_noise.all()
    assert (far.probability == 0).all()
    none = Clusters(np.full(int(fitted.sum()), NOISE), np.zeros(int(fitted.sum())))
    assert assign_clusters(points[others], points[fitted], none, CONFIG).is_noise.all()


def test_clusters_of_a_sample_are_those_of_all_events() -> None:
    """The clusters of all of 2,000 events, and those of 500 which the others join, agree."""
    random = np.random.default_rng(5)
    group = random.integers(0, 3, 2000)
    points = (12.0 * np.eye(6)[:3])[group] + random.normal(0, 1, (2000, 6))
    whole = find_clusters(points, ClustersConfig(min_size=80, min_samples=10))
    sample = find_clusters(points[:500], ClustersConfig(min_size=20, min_samples=10))
    joined = assign_clusters(
        points[500:], points[:500], sample, ClustersConfig(min_size=20, min_samples=10)
    )
    both = ~whole.is_noise[500:] & ~joined.is_noise
    assert both.mean() > 0.8
    assert adjusted_rand_score(whole.number[500:][both], joined.number[both]) > 0.99


@pytest.mark.slow  # starts processes
def test_workers_change_no_bit() -> None:
    points, _ = planted(6.0)
    found = find_clusters(points, CONFIG)
    here = measure_stability(points, found, CONFIG, seed=1)
    workers = ScoringConfig(executor="processes", workers=2)
    assert measure_stability(points, found, CONFIG, seed=1, scoring=workers) == here


def test_too_few_events_are_told() -> None:
    with pytest.raises(InputError, match=r"5 events to cluster, .* needs 20; lower clusters"):
        find_clusters(np.zeros((5, 2)), CONFIG)

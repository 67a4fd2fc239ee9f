from __future__ import annotations

import numpy as np
import pytest

from hepllm.cartography.clusters import (
    NOISE,
    Clusters,
    find_clusters,
    find_components,
    measure_stability,
)
from hepllm.config import ClustersConfig
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
    components = find_components([points], CONFIG.dimensions)
    assert components.values.shape == (250, 5)
    assert (np.diff(components.explained) <= 0).all()
    found = find_clusters(components.values, CONFIG)
    assert found.n_clusters == 3
    kept = ~found.is_noise
    assert kept.mean() > 0.9
    np.testing.assert_array_equal(found.number[kept], group[kept])
    assert (found.probability[found.is_noise] == 0).all()
    stability = measure_stability(components.values, found, CONFIG, seed=1)
    assert len(stability) == 3
    assert min(stability) > 0.8
    assert stability == measure_stability(components.values, found, CONFIG, seed=1)


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
    plain = find_components([first, second], 6).explained
    np.testing.assert_allclose(find_components([1e4 * first, second], 6).explained, plain)
    constant = find_components([first, np.ones((400, 3), np.float32)], 6).explained
    np.testing.assert_allclose(constant[3:], 0, atol=1e-12)


def test_too_few_events_are_told() -> None:
    with pytest.raises(InputError, match=r"5 events to cluster, .* needs 20; lower clusters"):
        find_clusters(np.zeros((5, 2)), CONFIG)

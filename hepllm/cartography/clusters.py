"""Clusters of embedded events, and whether they are there again in subsamples.

Clusters are sought among principal components, which keep distances, and not in a picture such as
UMAP's, which pulls clusters apart that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import ClustersConfig
from hepllm.errors import InputError

NOISE = -1
"""Number of the events that are in no cluster."""


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of N embedded events.

    Attributes:
        values: shape (N, D), the component of largest variance first.
        explained: share of the variance that each has, shape (D,).
    """

    values: Floats
    explained: Floats


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of N events.

    Attributes:
        number: cluster of each event from 0, the largest first; ``NOISE`` for none; shape (N,).
        probability: strength of each event's membership, 0 for noise, shape (N,).
    """

    number: Ints
    probability: Floats

    @property
    def n_clusters(self) -> int:
        """Number of clusters, without noise."""
        return int(self.number.max(initial=NOISE)) + 1

    @property
    def is_noise(self) -> Bools:
        """The events in no cluster, shape (N,)."""
        return np.asarray(self.number == NOISE)


def find_components(parts: Sequence[NDArray[np.floating]], dimensions: int) -> Components:
    """Projects embeddings of N events on their principal components.

    Each part is divided by the root of its total variance first, so that all parts count alike:
    hidden states are larger than soft tokens by orders of magnitude.

    Args:
        parts: parts of the embeddings, shape (N, H) each.
        dimensions: most components.
    """
    joined = np.concatenate([_scaled(part) for part in parts], axis=1)
    number = min(dimensions, *joined.shape)
    pca = PCA(number, svd_solver="covariance_eigh")
    values: Floats = pca.fit_transform(joined)
    return Components(values, pca.explained_variance_ratio_)


def _scaled(part: NDArray[np.floating]) -> Floats:
    centred: Floats = part.astype(np.float64) - part.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(np.square(centred).sum(axis=1).mean())
    return centred / spread if spread > 0 else centred


def find_clusters(values: Floats, config: ClustersConfig) -> Clusters:
    """Finds clusters of N events by HDBSCAN (Campello et al., doi:10.1007/978-3-642-37456-2_14).

    Args:
        values: coordinates, shape (N, D).
        config: smallest size and density.

    Raises:
        InputError: if there are fewer events than make a cluster.
    """
    return _cluster(values, config.min_size, config.min_samples)


def _cluster(values: Floats, min_size: int, min_samples: int | None) -> Clusters:
    needed = max(min_size, min_samples or 1)
    if len(values) < needed:
        raise InputError(
            f"{len(values)} events to cluster, and a cluster needs {needed}; lower "
            "clusters.min_size and clusters.min_samples"
        )
    # copy: HDBSCAN overwrites distances in place otherwise, and warns where it is not said.
    found = HDBSCAN(min_cluster_size=min_size, min_samples=min_samples, copy=True).fit(values)
    return Clusters(_by_size(found.labels_), found.probabilities_)


def _by_size(number: Ints) -> Ints:
    """Numbers clusters by size; of equal ones the first stays first."""
    is_member = number != NOISE
    counts = np.bincount(number[is_member])
    place = np.empty(len(counts), dtype=np.int64)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    found = np.full(len(number), NOISE, dtype=np.int64)
    found[is_member] = place[number[is_member]]
    return found


def measure_stability(
    values: Floats,
    clusters: Clusters,
    config: ClustersConfig,
    seed: int,
    on_subsample: Callable[[int], object] | None = None,
) -> tuple[float, ...]:
    """Clusters random subsamples again and compares each with the clusters of all events.

    Args:
        values: coordinates of the N events, shape (N, D).
        clusters: their clusters.
        config: number and size of the subsamples. A cluster of a subsample may be smaller by the
            same share.
        seed: seed of the subsamples.
        on_subsample: called with 1 after each.

    Returns:
        The adjusted Rand index (Hubert and Arabie 1985) of each subsample: 1 where the division is
        the same, 0 on average where it is random. Noise counts as a group. Empty without clusters.
    """
    if not clusters.n_clusters:
        return ()
    share, found = config.subsample_share, []
    n_chosen = round(share * len(values))
    min_size = max(2, round(share * config.min_size))
    for place in range(config.subsamples):
        random = np.random.default_rng([seed, place])
        rows = np.sort(random.choice(len(values), n_chosen, replace=False))
        again = _cluster(values[rows], min_size, config.min_samples)
        found.append(float(adjusted_rand_score(clusters.number[rows], again.number)))
        if on_subsample is not None:
            on_subsample(1)
    return tuple(found)

"""Clusters of embedded events, and whether they are there again in subsamples.

Clusters are sought among principal components, which keep distances, and not in a picture such as
UMAP's, which pulls clusters apart that are not there. Components and clusters are found in a sample
of the events, since the time of HDBSCAN rises as the square of their number; all other events join
the cluster of a sampled event.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import ClustersConfig, ScoringConfig
from hepllm.errors import InputError
from hepllm.executor import Retry, run_tasks

NOISE = -1
"""Number of the events that are in no cluster."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Projects embeddings on principal components; made by ``fit_projection``.

    Attributes:
        centre: mean embedding, shape (H,).
        matrix: what a centred embedding is multiplied with, shape (H, D).
        explained: share of the variance that each component has, the largest first, shape (D,).
    """

    centre: Floats
    matrix: Floats
    explained: Floats

    def project(self, parts: Sequence[NDArray[np.floating]]) -> Floats:
        """Principal components of N embedded events, shape (N, D).

        Args:
            parts: parts of the embeddings, with H columns together.
        """
        joined = np.concatenate(parts, axis=1).astype(np.float64)
        with threadpool_limits(1, user_api="blas"):  # the same bits on any number of cores
            values: Floats = (joined - self.centre) @ self.matrix
        return values


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

    def by_size(self) -> Clusters:
        """The same clusters, numbered by size."""
        return Clusters(_by_size(self.number), self.probability)


def fit_projection(parts: Sequence[NDArray[np.floating]], dimensions: int) -> Projection:
    """Finds the principal components of embeddings of N events.

    Each part is divided by the root of its total variance first, so that all parts count alike:
    hidden states are larger than soft tokens by orders of magnitude.

    Args:
        parts: parts of the embeddings, shape (N, H) each.
        dimensions: most components.
    """
    centre = np.concatenate([part.mean(axis=0, dtype=np.float64) for part in parts])
    joined = np.concatenate(parts, axis=1).astype(np.float64) - centre
    squares = np.square(joined).mean(axis=0)
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    spreads = [np.sqrt(of_part.sum()) for of_part in np.split(squares, ends)]
    scale = np.concatenate(
        [np.full(part.shape[1], spread or 1.0) for part, spread in zip(parts, spreads, strict=True)]
    )
    number = min(dimensions, *joined.shape)
    with threadpool_limits(1, user_api="blas"):
        pca = PCA(number, svd_solver="covariance_eigh").fit(joined / scale)
    matrix: Floats = pca.components_.T / scale[:, np.newaxis]
    return Projection(centre + scale * pca.mean_, matrix, pca.explained_variance_ratio_)


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


# ------------------------------------------------------------------- further events


@dataclass(frozen=True, eq=False)
class _Reach:
    """The fitted event that each of N events reaches first.

    Attributes:
        place: its position, shape (N,).
        distance: mutual reachability distance to it, shape (N,).
    """

    place: Ints
    distance: Floats


def assign_clusters(
    values: Floats, fitted: Floats, clusters: Clusters, config: ClustersConfig
) -> Clusters:
    """Assigns N events to clusters that were found among M others.

    An event joins the cluster of the fitted event that it reaches first, among its nearest ones, by
    the mutual reachability distance of HDBSCAN: the largest of both core distances and their
    distance. It is noise where that one is, or where this is farther than any fitted member is from
    the next one: no place there is as dense as the cluster. Its membership is that of the event it
    reaches, times the ratio of the reaches where its own is longer.

    Args:
        values: coordinates of the events, shape (N, D).
        fitted: those of the M events, shape (M, D).
        clusters: clusters of these.
        config: the density; its number of neighbours is that of the fit.
    """
    number = np.full(len(values), NOISE, dtype=np.int64)
    if not clusters.n_clusters or not len(values):
        return Clusters(number, np.zeros(len(values)))
    n_core = config.min_samples or config.min_size
    finder = _Finder(fitted, n_core)
    own = finder.reach_of_fitted(clusters.number)
    longest = np.array(
        [
            own[(clusters.number == place) & np.isfinite(own)].max(initial=0.0)
            for place in range(clusters.n_clusters)
        ]
    )
    found = finder.reach(values)
    of_neighbour = clusters.number[found.place]
    joins = (of_neighbour != NOISE) & (found.distance <= longest[of_neighbour])
    number[joins] = of_neighbour[joins]
    nearer = np.where(np.isfinite(own), own, 0.0)[found.place]
    ratio = np.divide(
        nearer, found.distance, out=np.ones(len(values)), where=found.distance > nearer
    )
    probability = np.where(joins, clusters.probability[found.place] * ratio, 0.0)
    return Clusters(number, probability)


class _Finder:
    """Finds fitted events near others, with one thread, so that bits do not depend on cores."""

    def __init__(self, fitted: Floats, n_core: int) -> None:
        self._fitted = fitted
        self._n_core = min(n_core, len(fitted))
        self._n_near = min(2 * self._n_core, len(fitted))
        self._index = NearestNeighbors(algorithm="brute").fit(fitted)
        distance, _ = self._near(fitted, self._n_core)
        self._core = distance[:, -1]  # an event is its own first neighbour, as in HDBSCAN

    def reach(self, values: Floats) -> _Reach:
        """What N other events reach."""
        distance, place = self._near(values, self._n_near)
        # The event itself counts as the first of the neighbours that its density is taken from.
        core = distance[:, max(0, self._n_core - 2)] if self._n_core > 1 else np.zeros(len(values))
        mutual = np.maximum(np.maximum(distance, core[:, np.newaxis]), self._core[place])
        first = np.argmin(mutual, axis=1)[:, np.newaxis]
        return _Reach(
            np.take_along_axis(place, first, axis=1)[:, 0],
            np.take_along_axis(mutual, first, axis=1)[:, 0],
        )

    def reach_of_fitted(self, number: Ints) -> Floats:
        """Distance at which each fitted event reaches another one of its cluster, shape (M,).

        Infinite where none is among its neighbours.
        """
        distance, place = self._near(self._fitted, self._n_near)
        mutual = np.maximum(np.maximum(distance, self._core[:, np.newaxis]), self._core[place])
        is_fellow = (number[place] == number[:, np.newaxis]) & (
            place != np.arange(len(place))[:, np.newaxis]
        )
        reached: Floats = np.where(is_fellow, mutual, np.inf).min(axis=1)
        return reached

    def _near(self, values: Floats, n_near: int) -> tuple[Floats, Ints]:
        with threadpool_limits(1):
            distance, place = self._index.kneighbors(values, n_near)
        return distance, place


# ------------------------------------------------------------------- stability


def measure_stability(
    values: Floats,
    clusters: Clusters,
    config: ClustersConfig,
    seed: int,
    *,
    scoring: ScoringConfig | None = None,
    on_subsample: Callable[[int], object] | None = None,
) -> tuple[float, ...]:
    """Clusters a subsample of each of several seeds and compares it with the clusters of all.

    Args:
        values: coordinates of the N events, shape (N, D).
        clusters: their clusters.
        config: number and size of the subsamples. A cluster of a subsample may be smaller by the
            same share.
        seed: with the number of a subsample, the seed that draws it.
        scoring: workers; None: in this process. The result does not depend on them.
        on_subsample: called with 1 after each.

    Returns:
        The adjusted Rand index (Hubert and Arabie 1985) of each subsample: 1 where the division is
        the same, 0 on average where it is random. Noise counts as a group. Empty without clusters.
    """
    if not clusters.n_clusters:
        return ()
    scoring = scoring or ScoringConfig(executor="serial")
    own = scoring.executor == "processes" and not scoring.workers
    results = run_tasks(
        functools.partial(_compare_subsample, values, clusters.number, config, seed),
        range(config.subsamples),
        kind="sooner" if own else scoring.executor,
        workers=scoring.workers,
        describe="subsample {}".format,
        ordered=True,
        retry=Retry(scoring.retries, scoring.piece_timeout),
        scheduler=scoring.dask_scheduler,
    )
    found = []
    with closing(results):
        for _, index in results:
            found.append(index)
            if on_subsample is not None:
                on_subsample(1)
    return tuple(found)


def _compare_subsample(
    values: Floats, number: Ints, config: ClustersConfig, seed: int, place: int
) -> float:
    """The adjusted Rand index of one subsample."""
    share = config.subsample_share
    random = np.random.default_rng([seed, place])
    rows = np.sort(random.choice(len(values), round(share * len(values)), replace=False))
    min_size = max(2, round(share * config.min_size))
    again = _cluster(values[rows], min_size, config.min_samples)
    return float(adjusted_rand_score(number[rows], again.number))

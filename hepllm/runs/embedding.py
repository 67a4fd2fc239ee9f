"""Embeds events by a run in pieces, which are kept, here or in workers.

The components are found in a sample of the events; all others are projected on them as soon as they
are embedded, so that the embeddings of many events need not be in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hepllm.arrays import Bools, Floats
from hepllm.cartography.clusters import Projection, fit_projection
from hepllm.config import ClustersConfig, ScoringConfig
from hepllm.data.work_folder import WorkFolder
from hepllm.learning.passes import events_at_once
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import embed_events
from hepllm.runs.pieces import Part, TableSource, cut_parts, score_missing
from hepllm.runs.run_model import SCORE, RunModel

LOG = logging.getLogger(__name__)

_COMPONENTS = "components"


@dataclass(frozen=True, eq=False)
class EmbeddedEvents:
    """N embedded events.

    Attributes:
        names: parts of an embedding.
        values: principal components, shape (N, D).
        explained: share of the variance that each component has, shape (D,).
        score: score of the run, shape (N,).
        is_fitted: the events in which the components were found, shape (N,).
    """

    names: tuple[str, ...]
    values: Floats
    explained: Floats
    score: Floats
    is_fitted: Bools


@dataclass(frozen=True, eq=False)
class PieceEmbedder:
    """Embeds the events of one piece, here or in a worker.

    Attributes:
        model: the model of a run.
        projection: what embeddings are projected on; None: they are kept as they are.
    """

    model: RunModel
    projection: Projection | None = None

    def columns(self, inputs: ModelInputs) -> dict[str, Any]:
        """Score of N events, and their components or each part of their embeddings."""
        classifier, encoder = self.model.loaded
        size = self.model.batch_size or events_at_once(classifier, encoder, inputs)
        found = embed_events(classifier, encoder, inputs, batch_size=size)
        vectors = dict(found.named)
        columns: dict[str, Any] = {SCORE: found.score}
        if self.projection is not None:
            columns[_COMPONENTS] = _as_lists(self.projection.project(list(vectors.values())))
            return columns
        return columns | {name: _as_lists(part) for name, part in vectors.items()}


def embed_in_pieces(
    model: RunModel,
    inputs: ModelInputs,
    config: ClustersConfig,
    scoring: ScoringConfig,
    work: WorkFolder,
    *,
    seed: int,
) -> EmbeddedEvents:
    """Embeds N events without a hypothesis, and finds their principal components.

    The result does not depend on the number of workers: each piece is computed on one thread.

    Args:
        model: the model of a run.
        inputs: the events.
        config: number of components, and of the events in which they are found.
        scoring: where pieces are embedded, and their size.
        work: folder that keeps finished pieces.
        seed: seed of the choice of these events.

    Raises:
        ChunkError: if a worker failed; finished pieces are kept.
        RunError: if a piece cannot be written.
    """
    n_events = len(inputs)
    n_fitted = min(config.fitted, n_events)
    order = np.arange(n_events)
    if n_fitted < n_events:
        chosen = np.sort(np.random.default_rng([seed, 1]).choice(n_events, n_fitted, replace=False))
        order = np.concatenate([chosen, np.setdiff1d(order, chosen)])
    source = TableSource(inputs.take(order) if n_fitted < n_events else inputs)
    sample = cut_parts(n_fitted, scoring.piece_size)
    rest = tuple(
        Part(part.start + n_fitted, part.stop + n_fitted)
        for part in cut_parts(n_events - n_fitted, scoring.piece_size)
    )
    score_missing(source, sample, PieceEmbedder(model), work, scoring, description="embed")
    tables = [work.parts.load(str(part)) for part in sample]
    names = tuple(name for name in tables[0].column_names if name != SCORE)
    vectors = [_joined(tables, name) for name in names]
    projection = fit_projection(vectors, config.dimensions)
    scores, values = [_column(tables, SCORE)], [projection.project(vectors)]
    del vectors, tables
    if rest:
        embedder = PieceEmbedder(model, projection)
        score_missing(source, rest, embedder, work, scoring, description="embed the others")
        others = [work.parts.load(str(part)) for part in rest]
        scores.append(_column(others, SCORE))
        values.append(_joined(others, _COMPONENTS).astype(np.float64))
    back = np.argsort(order, kind="stable")
    return EmbeddedEvents(
        names=names,
        values=np.concatenate(values)[back],
        explained=projection.explained,
        score=np.concatenate(scores)[back],
        is_fitted=(np.arange(n_events) < n_fitted)[back],
    )


def _as_lists(vectors: NDArray[np.floating]) -> pa.Array:
    """Vectors of N events, shape (N, H), as one column."""
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def _joined(tables: Sequence[pa.Table], name: str) -> NDArray[np.floating]:
    """A column of vectors, shape (N, H)."""
    parts = [table[name].combine_chunks() for table in tables]
    return np.concatenate(
        [part.flatten().to_numpy().reshape(-1, part.type.list_size) for part in parts]
    )


def _column(tables: Sequence[pa.Table], name: str) -> Floats:
    return np.concatenate([table[name].to_numpy() for table in tables])

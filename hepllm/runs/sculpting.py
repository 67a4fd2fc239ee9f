"""What the cuts of an evaluation's classifiers do to the background's mass spectrum."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from hepllm.arrays import Bools
from hepllm.config import SearchConfig
from hepllm.evaluation.assessment import EvaluationResults
from hepllm.evaluation.sculpting import MIN_EVENTS, BackgroundMasses, MassBins, measure_sculpting
from hepllm.runs.samples import EvaluationSet
from hepllm.schema import BACKGROUND
from hepllm.search.spectra import bin_edges

LOG = logging.getLogger(__name__)


def add_sculpting(
    results: EvaluationResults, chosen: EvaluationSet, config: SearchConfig, seed: int
) -> EvaluationResults:
    """Measures the sculpting of all classifiers, and adds it to their results.

    Nothing is added, with a log message, where too few background events have a mass in the range
    of a search, or where one of them has a negative weight.

    Args:
        results: results of a set, without ablations.
        chosen: the set, with labels.
        config: mass, range, bins and windows of a search.
        seed: seed of random selections and replicas.
    """
    background = _background(chosen, config)
    if background is None:
        return results
    inside, events = background
    record, spectra = measure_sculpting(
        events,
        {name: one.score[inside] for name, one in results.events.items()},
        mass=config.mass,
        confidence=results.record.bootstrap.confidence,
        seed=seed,
    )
    curves = results.curves.model_copy(update={"spectra": spectra})
    return replace(results, curves=curves, sculpting=record)


def _background(
    chosen: EvaluationSet, config: SearchConfig
) -> tuple[Bools, BackgroundMasses] | None:
    """The mask of the background events in the range of a search, and these events."""
    table, mass = chosen.table, config.mass
    known = table if mass in table.names else chosen.reread((mass,), labels=False)
    m_jj = known.column(mass)
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    inside = (table.label == BACKGROUND) & (m_jj >= edges[0]) & (m_jj < edges[-1])
    weight = table.weight[inside]
    n_inside, n_negative = (int(np.count_nonzero(one)) for one in (inside, weight < 0))
    if n_inside < MIN_EVENTS or n_negative or weight.sum() <= 0:
        LOG.info(
            "%s: sculpting is not measured: of %d background events with %s from %g to %g GeV, "
            "%d have negative weights",
            *(chosen.name, n_inside, mass, edges[0], edges[-1], n_negative),
        )
        return None
    bins = MassBins(edges, config.narrowest, config.widest)
    return inside, BackgroundMasses(m_jj[inside], weight, bins)

"""Signals of many masses as a run scores them, for the limits of a search by mass."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from hepllm.arrays import Floats
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.signal_points import SignalPoint, masses_of_points
from hepllm.errors import InputError
from hepllm.learning.inputs import model_inputs
from hepllm.model.inputs import ModelInputs
from hepllm.runs.folder import Run
from hepllm.runs.samples import check_jets
from hepllm.schema import SIGNAL
from hepllm.search.signal_grid import SignalGrid

LOG = logging.getLogger(__name__)


def open_signal_grid(run: Run, folder: Path) -> Dataset:
    """Opens a dataset of signals with known masses that was made with the jets of a run.

    Raises:
        InputError: if it is none, or its events have weights.
    """
    dataset = run.known(read_dataset(folder))
    dataset.require_events()
    if not dataset.has_signal_points:
        raise InputError(
            f"{folder}: evaluation.search.signal_grid needs the true masses of its events; make "
            "them with 'hepllm simulate --grid 250', and preprocess grid.h5 with grid.points.json "
            "beside it"
        )
    kinds = {(point.decay_x, point.decay_y, point.width) for point in _points_of(dataset)}
    if len(kinds) > 1 or np.isnan(masses_of_points(_points_of(dataset))).any():
        raise InputError(
            f"{folder}: limits by mass need signals that differ in their masses only, found several"
            " decays or widths, or single quarks; make them with one entry in simulate.grid.decays"
            " and in simulate.grid.widths"
        )
    if any(point.generated is None for point in _points_of(dataset)):
        raise InputError(f"{folder}: its points do not say how many events were generated for them")
    check_jets(run, dataset)
    return dataset


def _points_of(dataset: Dataset) -> list[SignalPoint]:
    return [point for source in dataset.manifest.sources for point in source.signal_points or ()]


def score_signal_grid(
    run: Run, dataset: Dataset, score: Callable[[ModelInputs], Floats], mass: str = "m_jj"
) -> SignalGrid:
    """Scores the signals of a grid, without the events that the run has seen.

    Where the run has a selection, events that fail it count as events that do not trigger, because
    a box has none of them either.

    Args:
        run: run whose classifier scores them.
        dataset: made by ``open_signal_grid``.
        score: the classifier, from the inputs of N events to their scores.
        mass: feature in which a resonance is searched for.

    Raises:
        InputError: if an event is no signal or has a weight, or too few points are left.
    """
    features = run.config.train.feature_names()
    cut_on = () if run.selection is None else run.selection.names
    names = tuple(dict.fromkeys((*features, mass, *cut_on)))
    table = dataset.load(names, particles=run.config.fusion.constituents)
    if not (table.label == SIGNAL).all() or not (table.weight == 1).all():
        raise InputError(f"{dataset.folder}: a signal grid has signal only, of weight 1")
    seen = np.isin(table.event_digest, run.used_events())
    if seen.any():
        LOG.warning("%s: %d events were seen in training", dataset.folder, int(seen.sum()))
        table = table.take(~seen)
    points = _points_of(dataset)
    triggering = np.array([point.events for point in points])
    if run.selection is not None:
        before = dataset.true_masses(table)
        table = table.take(run.selection.mask(table.columns()))
        share = _share_by_point(masses_of_points(points), dataset.true_masses(table), before)
        triggering = np.round(triggering * share).astype(np.int64)
    hypothesis = run.question.hypotheses(dataset, table, run.config.seed)
    return SignalGrid(
        score=score(replace(model_inputs(table, features), hypothesis=hypothesis)),
        m_jj=table.column(mass),
        masses=dataset.true_masses(table),
        points=masses_of_points(points),
        triggering=triggering,
        generated=np.array([point.generated for point in points], dtype=np.int64),
        description=f"the signals of {dataset.folder.name}",
    )


def _share_by_point(points: Floats, kept: Floats, before: Floats) -> Floats:
    """Share of the events of each point, shape (K,), that are kept, from the masses of both."""
    counts = [
        np.array([(masses == point).all(axis=1).sum() for point in points])
        for masses in (kept, before)
    ]
    return np.asarray(counts[0] / np.maximum(counts[1], 1))

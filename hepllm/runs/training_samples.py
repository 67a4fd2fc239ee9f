"""The events of a run as its baselines are trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hepllm.baselines.scorer import TrainingSample
from hepllm.data.event_table import EventTable
from hepllm.data.planing import planing_factors
from hepllm.data.signal_truth import SignalTruth, signal_truth
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.learning.presentation import assign_own
from hepllm.runs.folder import Run, training_events, training_masses
from hepllm.schema import SIGNAL

_TIMES = 3
"""Hypotheses under which baselines see each background event; the model sees one an epoch."""

_OPEN = 73
"""Stream of random numbers, beside those of other modules."""


def training_sample(run: Run, names: Sequence[str] | None = None) -> TrainingSample:
    """Loads the events that a run was trained on, with the seed of the run.

    The seed of an evaluation, which several runs may share, decides no training: runs with
    different seeds have different baselines.

    Args:
        run: the run.
        names: features; None for those of the run.
    """
    config, seed = run.config.train, run.config.seed
    kept = run.kept_events()
    events = training_events(run.dataset(), config, seed, names, kept=kept)
    m_jj, weight = training_masses(run.dataset(), config, seed, kept), events.weight
    if m_jj is not None and config.decorrelate == "planing":
        weight = weight * planing_factors(m_jj, events.label, weight)
    return TrainingSample(
        features=events.features,
        names=events.names,
        label=events.label,
        weight=weight,
        seed=seed,
        fusion=run.config.fusion,
        disco=config.loss.disco,
        m_jj=m_jj,
    )


def shown_sample(run: Run) -> TrainingSample:
    """Loads the events of ``training_sample`` as ``under_hypotheses`` shows them."""
    dataset, config, seed = run.dataset(), run.config.train, run.config.seed
    events = training_events(dataset, config, seed, kept=run.kept_events())
    truth, open_share = signal_truth(dataset, events), config.hypothesis.open_share
    return under_hypotheses(training_sample(run), events, truth, open_share)


def under_hypotheses(
    sample: TrainingSample, events: EventTable, truth: SignalTruth, open_share: float
) -> TrainingSample:
    """Shows events under hypotheses, background several times.

    Signal is shown under its own hypothesis, background each time under another one, in proportion
    to the signal. Signal, which would only be repeated, has more weight instead, so that the
    balance remains.

    Args:
        sample: N training events.
        events: the same events.
        truth: their true signals.
        open_share: share of both classes that is shown under the open hypothesis.
    """
    is_signal, seed = sample.label == SIGNAL, sample.seed
    again = np.flatnonzero(~is_signal)
    rows = np.concatenate([np.arange(len(events)), *[again] * (_TIMES - 1)])
    first, *others = (assign_own(events, truth, seed + time) for time in range(_TIMES))
    hypothesis = np.concatenate([first, *(other[again] for other in others)])
    is_open = np.random.default_rng([seed, _OPEN]).random(len(hypothesis))
    hypothesis[is_open < open_share] = OPEN
    weight = np.ones(len(events)) if sample.weight is None else sample.weight
    return replace(
        sample,
        features=sample.features[rows],
        label=sample.label[rows],
        weight=(weight * np.where(is_signal, _TIMES, 1))[rows],
        hypothesis=hypothesis,
        m_jj=None if sample.m_jj is None else sample.m_jj[rows],
    )

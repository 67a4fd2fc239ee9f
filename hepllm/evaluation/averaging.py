"""Ensembles: the mean of calibrated logits of several classifiers, and how far these differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.evaluation.records import ResultsRecord
from hepllm.provenance import Call
from hepllm.records import Events, FileRecord, Record

ENSEMBLE = "ensemble"
"""Name of the mean among its members."""


class MemberRecord(Record):
    """A classifier of an ensemble."""

    name: str
    """Its name in tables; ``score_<name>`` is its column."""
    run: str
    """Folder of the run, relative to that of this file."""
    baseline: str | None = None
    """Baseline that was fitted to the events of the run; absent for the run itself."""
    calibration: str
    """How the map from its scores to logits was fitted on validation data; none: not at all."""


class EnsembleRecord(FileRecord):
    """An ensemble and what it is worth on a set; the command reads its members again."""

    sample: str
    """Name of the set."""
    n_events: Events
    """Events with a score."""
    n_excluded_as_seen: Events
    """Further events that a member was trained or validated on; they are left out."""
    prior_fraction: float
    """Signal fraction for which the logits are valid, that of the first run's training."""
    members: tuple[MemberRecord, ...]
    """The classifiers whose mean it is."""
    median_spread: float
    """Median over the events of the standard deviation of the members' logits."""
    results: ResultsRecord | None = None
    """The ensemble, with its members as baselines; absent where it could not be measured."""
    problem: str | None = None
    """Why it could not be measured."""
    made: Call
    """When, by which command and with which versions it was made."""


@dataclass(frozen=True, eq=False)
class Combined:
    """Scores of an ensemble of N events.

    Attributes:
        score: mean logit of the members, shape (N,).
        spread: standard deviation of their logits, shape (N,), with K - 1 degrees of freedom.
    """

    score: Floats
    spread: Floats


def combine(logits: Floats) -> Combined:
    """Averages calibrated logits over members.

    The mean logit is the normalised geometric mean of the odds. The spread is that of one member:
    the mean of K independent members varies by spread / sqrt(K).

    Args:
        logits: shape (K, N), of K members, all valid for one signal fraction.

    Raises:
        InputError: for fewer than two members.
    """
    if len(logits) < 2:
        raise InputError("an ensemble has at least two members: name another RUN, or --with NAME")
    return Combined(logits.mean(axis=0), np.asarray(logits.std(axis=0, ddof=1)))

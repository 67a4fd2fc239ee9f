"""Trains the baselines of a report."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Mapping, Sequence

from hepllm.baselines.boosting import BOOSTING, BOOSTING_EXTENDED, fit_boosting
from hepllm.baselines.cut import CUT_FEATURES, fit_cut
from hepllm.baselines.hypothesis import fit_given, has_jet_masses
from hepllm.baselines.logistic import fit_logistic
from hepllm.baselines.mlp import fit_network
from hepllm.baselines.scorer import Fit, Scorer, TrainingSample
from hepllm.schema import feature_names

logger = logging.getLogger(__name__)


BASELINES: Mapping[str, Fit] = {
    BOOSTING: fit_boosting,
    BOOSTING_EXTENDED: fit_boosting,
    "boosting_hypothesis": functools.partial(fit_given, fit_boosting, differences=False),
    "boosting_differences": functools.partial(fit_given, fit_boosting, differences=True),
    "mlp": fit_network,
    "mlp_hypothesis": functools.partial(fit_given, fit_network, differences=False),
    "mlp_differences": functools.partial(fit_given, fit_network, differences=True),
    "logistic": fit_logistic,
    "cut": fit_cut,
}
"""Every baseline of a report by name."""

OWN_FEATURES: Mapping[str, tuple[str, ...]] = {BOOSTING_EXTENDED: feature_names("extended")}
"""Features of the baselines that do not read those of the model."""


def readable_baselines(
    names: Sequence[str], features: Sequence[str], columns: Collection[str]
) -> list[str]:
    """Leaves out a baseline with features of its own that a dataset lacks, or the model reads.

    Args:
        names: names of baselines.
        features: features of the model.
        columns: features of the dataset.
    """
    readable = []
    for name in names:
        own = set(OWN_FEATURES.get(name, ()))
        if not own <= set(columns):
            logger.info("no baseline '%s': its features need preprocess.extended", name)
        elif own and own <= set(features):
            logger.info("no baseline '%s': the model reads the same features", name)
        else:
            readable.append(name)
    return readable


def reads_hypotheses(name: str) -> bool:
    """Whether a baseline is given the hypothesis of each event."""
    return name.endswith(("_hypothesis", "_differences"))


def possible_baselines(
    names: Sequence[str], features: Sequence[str], *, hypotheses: bool
) -> list[str]:
    """Leaves out baselines that lack something, with a log message.

    Args:
        names: the wanted baselines.
        features: features of the model.
        hypotheses: whether its events are shown with hypotheses.
    """
    possible = []
    for name in names:
        if reads_hypotheses(name) and not hypotheses:
            logger.debug("no baseline '%s': the events have no hypotheses", name)
        elif name.endswith("_differences") and not has_jet_masses(features):
            logger.info("no baseline '%s': it needs features with the masses of both jets", name)
        elif name == "cut" and not set(CUT_FEATURES) <= set(features):
            logger.info("no baseline 'cut': it needs the features %s", ", ".join(CUT_FEATURES))
        else:
            possible.append(name)
    return possible


def fit_baselines(sample: TrainingSample, names: Sequence[str]) -> dict[str, Scorer]:
    """Trains the named baselines on the same events, without those that lack something.

    Raises:
        InputError: for training events that no classifier can use.
    """
    fitted: dict[str, Scorer] = {}
    hypotheses = sample.hypothesis is not None
    for name in possible_baselines(names, sample.names, hypotheses=hypotheses):
        logger.info("fitting the baseline '%s' to %d events", name, len(sample.label))
        fitted[name] = BASELINES[name](sample)
    return fitted

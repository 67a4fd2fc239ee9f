"""Trains the baselines of a report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from hepllm.baselines.boosting import BOOSTING, fit_boosting
from hepllm.baselines.cut import CUT_FEATURES, fit_cut
from hepllm.baselines.logistic import fit_logistic
from hepllm.baselines.mlp import fit_network
from hepllm.baselines.scorer import Fit, Scorer, TrainingSample

logger = logging.getLogger(__name__)


BASELINES: Mapping[str, Fit] = {
    BOOSTING: fit_boosting,
    "mlp": fit_network,
    "logistic": fit_logistic,
    "cut": fit_cut,
}
"""Every baseline of a report by name."""


def possible_baselines(names: Sequence[str], features: Sequence[str]) -> list[str]:
    """Leaves out the cut, with a log message, where the model does not use all of its features."""
    possible = []
    for name in names:
        if name == "cut" and not set(CUT_FEATURES) <= set(features):
            logger.info("no baseline 'cut': it needs the features %s", ", ".join(CUT_FEATURES))
            continue
        possible.append(name)
    return possible


def fit_baselines(sample: TrainingSample, names: Sequence[str]) -> dict[str, Scorer]:
    """Trains the named baselines on the same events.

    Leaves out the cut, with a log message, where the model does not use all of its features.

    Raises:
        InputError: for training events that no classifier can use.
    """
    fitted: dict[str, Scorer] = {}
    for name in possible_baselines(names, sample.names):
        logger.info("fitting the baseline '%s' to %d events", name, len(sample.label))
        fitted[name] = BASELINES[name](sample)
    return fitted

"""The methods that label a pool, behind one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from hepllm.arrays import Floats, Labels
from hepllm.config import LabelConfig, LabelMethod
from hepllm.errors import InputError
from hepllm.labelling.coherence import CoherenceSearch, inconsistencies
from hepllm.labelling.peers import cut, few_shot, iterated, k_means, mean_by_event, zero_shot
from hepllm.labelling.pool import Pool
from hepllm.labelling.predictions import BudgetSpentError, Contexts, Predictions
from hepllm.labelling.soft_method import soft_labels
from hepllm.schema import UNKNOWN


@dataclass(frozen=True, eq=False)
class EventLabels:
    """Labels of N events.

    Attributes:
        labels: shape (N,), 1, 0, or -1 where the budget left none.
        log_odds: shape (N,), mean over the views; NaN where there is none.
        mean_log_probability: of the labels after their contexts; None without contexts.
        inconsistencies: pairs of views of one event with different labels.
        details: further numbers of the method.
        start_log_odds: shape (N,), what the method began with; None where it began with nothing.
    """

    labels: Labels
    log_odds: Floats
    mean_log_probability: float | None = None
    inconsistencies: int | None = None
    details: Mapping[str, float] = field(default_factory=dict)
    start_log_odds: Floats | None = None

    @property
    def soft(self) -> Floats:
        """Probabilities of signal, shape (N,); NaN where there is none."""
        return np.asarray(expit(self.log_odds))


def label_pool(pool: Pool, predictions: Predictions, config: LabelConfig, seed: int) -> EventLabels:
    """Labels the events of a pool by the method that the settings name.

    Args:
        pool: events and their views.
        predictions: asks the model, within the budget.
        config: method and its settings.
        seed: seed of all that is drawn.

    Raises:
        InputError: the budget is too small for the method to begin, or a prompt would not fit.
    """
    n_items = len(pool.event)
    size = 0 if config.method in {"zero-shot", "k-means"} else config.context
    predictions.model.check_fit(min(size, len(pool.table) - 1))
    try:
        return _METHODS[config.method](pool, predictions, config, seed)
    except BudgetSpentError as error:
        raise InputError(
            f"label.budget: {config.budget} predictions do not suffice for {config.method} of "
            f"{n_items} items ({error}); set label.budget={4 * n_items} or more, or label.pool "
            "smaller"
        ) from None


def _icm(pool: Pool, predictions: Predictions, config: LabelConfig, seed: int) -> EventLabels:
    contexts = Contexts.draw(pool.event, config.blocks, config.context, seed)
    search = CoherenceSearch(predictions, contexts, config.coherence, seed)
    found = search.run()
    log_odds = mean_by_event(found.log_odds, pool.event)
    share = mean_by_event(np.where(found.labels == UNKNOWN, np.nan, found.labels), pool.event)
    labels = np.where(share > 0.5, 1, 0)
    labels = np.where(share == 0.5, log_odds > 0, labels)
    labels = np.where(np.isnan(share), UNKNOWN, labels).astype(np.int8)
    return EventLabels(
        labels,
        log_odds,
        found.mean_log_probability,
        found.inconsistencies,
        {"utility": found.utility},
    )


def _soft(pool: Pool, predictions: Predictions, config: LabelConfig, seed: int) -> EventLabels:
    found = soft_labels(predictions, pool.event, pool.landmarks, config, seed)
    details: dict[str, float] = {}
    for name, one in {"all terms": found.together, **found.alone}.items():
        details |= {
            f"{name}: held-out log-likelihood": one.held_out,
            f"{name}: held-out log-likelihood at the start": one.start_held_out,
            f"{name}: epochs": float(one.epochs),
            f"{name}: agreement with all terms": float(
                np.mean((one.logits > 0) == (found.together.logits > 0))
            ),
        }
    together = found.together
    details |= {f"{name} at the end": value for name, value in together.terms.items()}
    details |= {f"weight of {name}": value for name, value in together.weights.items()}
    odds = together.logits
    return EventLabels(cut(odds, None), odds, details=details, start_log_odds=found.start)


def _zero_shot(pool: Pool, predictions: Predictions, config: LabelConfig, seed: int) -> EventLabels:
    del seed
    return _from_odds(pool, zero_shot(predictions, len(pool.event)), config)


def _few_shot(pool: Pool, predictions: Predictions, config: LabelConfig, seed: int) -> EventLabels:
    return _from_odds(pool, few_shot(predictions, pool.event, config.context, seed), config)


def _iterated(pool: Pool, predictions: Predictions, config: LabelConfig, seed: int) -> EventLabels:
    contexts = Contexts.draw(pool.event, config.blocks, config.context, seed)
    start = zero_shot(predictions, len(pool.event))
    odds = iterated(predictions, contexts, start, config.rounds, config.prior)
    return _from_odds(pool, odds, config)


def _k_means(pool: Pool, predictions: Predictions, _: LabelConfig, seed: int) -> EventLabels:
    odds = mean_by_event(zero_shot(predictions, len(pool.event)), pool.event)
    found = k_means(pool.table.features, pool.names, odds, seed)
    return EventLabels(cut(found, None), found)


def _from_odds(pool: Pool, odds: Floats, config: LabelConfig) -> EventLabels:
    means = mean_by_event(odds, pool.event)
    wrong = inconsistencies(pool.event, cut(odds, config.prior))
    return EventLabels(cut(means, config.prior), means, inconsistencies=wrong)


_Method = Callable[[Pool, Predictions, LabelConfig, int], EventLabels]
_METHODS: Mapping[LabelMethod, _Method] = {
    "icm": _icm,
    "soft": _soft,
    "zero-shot": _zero_shot,
    "few-shot": _few_shot,
    "iterated": _iterated,
    "k-means": _k_means,
}

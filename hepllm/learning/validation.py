"""Validates a classifier during training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import EvaluationConfig
from hepllm.data.event_table import EventTable
from hepllm.errors import RunError
from hepllm.evaluation.metrics import RocCurve, auc, roc, sic_at
from hepllm.evaluation.scores import ScoredEvents, scored_events
from hepllm.learning.checkpoint import MERIT
from hepllm.learning.distributed import ALONE, Team
from hepllm.learning.inputs import model_inputs
from hepllm.learning.presentation import Hypotheses
from hepllm.learning.stopping import StopRequestedError
from hepllm.learning.watchdogs import warn_if_collapsed, warn_if_numbers_ignored
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.weak.selection import weighted_argos

_REACTION_EVENTS = 256

ChooseBy = Literal["auto", "auc", "loss", "argos"]


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes:
        found: ``loss``, ``auc``, ``accuracy`` at score 0, ``predicted_signal``, and
            ``sic_at_0.3`` and ``sic_at_0.5`` if enough background passes; ``auc_open`` under the
            open hypothesis where the events have hypotheses; ``argos`` and ``merit`` where
            ``train.choose_by`` asks for them.
        events: scores and labels of the validation events.
        curve: ROC curve.
    """

    found: dict[str, float]
    events: ScoredEvents
    curve: RocCurve


def validate(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    table: EventTable,
    config: EvaluationConfig,
    *,
    hypothesis: Hypotheses | None = None,
    log_odds: float = 0.0,
    on_batch: Callable[[int], object] | None = None,
    team: Team = ALONE,
    choose_by: ChooseBy = "auto",
) -> Validation:
    """Scores validation events and warns if the scores cannot be right.

    Each process of ``team`` scores its part. Calls ``on_batch`` after each batch, and restores the
    train or eval mode of the classifier. ``hypothesis`` is what each event is shown with, from
    ``assign_own``; None: the open one for all. ``log_odds`` is the logarithm of signal over
    background in the training. ``choose_by`` is what the validation is judged by.

    Raises:
        RunError: if the events are all of one class.
        StopRequestedError: in every process, if ``on_batch`` raises it in one.
    """
    score = _Scorer(classifier, encoder, config.batch_size, team)
    without = model_inputs(table)
    inputs = replace(without, hypothesis=hypothesis)
    scores = score(inputs, on_batch=on_batch)
    events = scored_events(scores, table.label, table.weight)
    called = scores > 0
    margins = np.where(events.is_signal, scores, -scores)
    found = {
        "loss": float(np.average(np.logaddexp(0.0, -margins))),
        "auc": team.first_says(_area(events)),  # all processes must agree on the best validation
        "accuracy": float((called == events.is_signal).mean()),
        "predicted_signal": float(called.mean()),
    }
    if hypothesis is not None:
        open_scores = score(without, on_batch=on_batch)
        found["auc_open"] = _area(scored_events(open_scores, table.label, table.weight))
    if choose_by == "argos":  # class 1 are data then, and class 0 a template
        found["argos"] = team.first_says(_argos(events))
    if choose_by in ("argos", "loss"):
        found[MERIT] = found["argos"] if choose_by == "argos" else team.first_says(-found["loss"])
    curve = roc(events)
    for eps_s in (0.3, 0.5):
        sic = sic_at(curve, eps_s, config.min_background).sic
        if sic is not None:
            found[f"sic_at_{eps_s}"] = sic
    if choose_by != "argos":  # all scores of data and template are near the odds, as they should be
        warn_if_collapsed(scores, events.is_signal, log_odds)
    if classifier.nfa is not None:
        # Exchanges the adapter's numbers between events; the scores must change.
        written = encoder.with_text(inputs.take(slice(_REACTION_EVENTS)))
        order = np.roll(np.arange(len(written)), len(written) // 2)
        exchanged = score(written.exchange(order, "numbers", "particles"))
        warn_if_numbers_ignored(scores[: len(written)], exchanged)
    return Validation(found, events, curve)


def _argos(events: ScoredEvents) -> float:
    template = ~events.is_signal
    scores = events.score[events.is_signal], events.score[template]
    return weighted_argos(scores, events.weight[template])


def _area(events: ScoredEvents) -> float:
    area = auc(events).value
    if area is None:
        raise RunError(
            f"validation: {events.problem}; enlarge the dataset, or preprocess.splits.val"
        )
    return area


@dataclass(frozen=True)
class _Scorer:
    """Scores events in all processes; each process gets all scores."""

    classifier: EventClassifier
    encoder: PromptEncoder
    batch_size: int | None
    team: Team

    def __call__(
        self, inputs: ModelInputs, on_batch: Callable[[int], object] | None = None
    ) -> Floats:
        mine, is_cut_short = self.team.part(len(inputs)), False
        scores = np.zeros(len(inputs))
        try:
            scores[mine] = score_events(
                self.classifier,
                self.encoder,
                inputs.take(mine),
                batch_size=self.batch_size,
                on_batch=on_batch,
            )
        except StopRequestedError:
            is_cut_short = True
        *total, cuts = self.team.sum_array(np.append(scores, float(is_cut_short)))
        if cuts:
            raise StopRequestedError
        return np.array(total)

"""The cascade of a run: its boosting, its cut and its probabilities."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.baselines.fitting import fit_baselines
from hepllm.baselines.scorer import Scorer
from hepllm.config import EvaluationConfig
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.evaluation.calibration import Calibration
from hepllm.evaluation.calibration_choice import Choice, choose_calibration
from hepllm.evaluation.cascade import (
    FEW_EVENTS,
    CascadeCalibration,
    CascadeCut,
    CascadeRecord,
    CascadeScores,
    choose_cut,
    cuts_beyond,
    measure_loss,
)
from hepllm.evaluation.efficiency import Efficiency, efficiencies
from hepllm.evaluation.records import ResultsRecord
from hepllm.evaluation.scores import ScoredEvents, scored_events
from hepllm.runs.folder import Run
from hepllm.runs.score_files import RunCalibration, calibrate
from hepllm.runs.training_samples import training_sample
from hepllm.schema import SIGNAL, UNKNOWN

LOG = logging.getLogger(__name__)

MODEL = "llm"
"""Name of the run's own classifier in tables."""


@dataclass(frozen=True, eq=False)
class RunCascade:
    """A cascade before the model of a run; made by ``open_cascade``.

    Attributes:
        boosting: boosting trained on the events and features of the run.
        cut: cut from the validation split.
        calibration: calibration of joined scores, with joined validation scores.
        prior_calibration: calibration of the boosting's logits, with those of the whole validation
            split. A prior is estimated from these logits, because all events have them.
        alone: the model's own scores of the validation events of the run.
    """

    boosting: Scorer
    cut: CascadeCut
    calibration: RunCalibration
    prior_calibration: RunCalibration
    alone: ScoredEvents

    def before(self, model: Floats) -> RunCascade:
        """The same cascade before another model, from (V,) validation scores of that model."""
        return replace(self, cut=self.cut.with_floor_of(model))

    def score(self, rows: Floats, score_model: Callable[[Bools], Floats]) -> CascadeScores:
        """Scores events by the boosting, and those that pass its cut by the model.

        Args:
            rows: (N, F) features.
            score_model: computes the model's (K,) scores of the events in a mask (N,).
        """
        started = time.perf_counter()
        boosting = self.boosting.score(rows)
        kept = self.cut.keeps(boosting)
        before = time.perf_counter()
        model = score_model(kept) if kept.any() else np.empty(0)
        model_seconds = time.perf_counter() - before
        joined = self.cut.combine(boosting, model)
        seconds = time.perf_counter() - started
        return CascadeScores(joined, int(np.count_nonzero(kept)), seconds, model_seconds)

    def record(
        self,
        scores: CascadeScores,
        table: EventTable,
        results: ResultsRecord | None,
        config: EvaluationConfig,
        seed: int,
    ) -> CascadeRecord:
        """Records what the cascade does on a set and loses on validation data.

        Args:
            scores: scores of the set.
            table: events of the set.
            results: results on the set; None without labels.
            config: confidence and number of replicas.
            seed: seed of the bootstrap.
        """
        passing: dict[str, Efficiency | None] = {"eps_s": None, "eps_b": None}
        beyond: tuple[str, ...] = ()
        if results is not None:
            passes, is_signal = ~self.cut.is_cascaded(scores.score), table.label == SIGNAL
            passing = efficiencies(passes, is_signal, table.weight, config.confidence)
            beyond = cuts_beyond(self.cut, results)
        compared = (self.calibration.validation.score, self.alone)
        logits = self.prior_calibration.validation
        loss = measure_loss(self.cut, logits, compared, config, seed)
        return CascadeRecord.of(self.cut, scores, loss, passing, beyond)


def fit_boosting_alone(run: Run) -> Scorer:
    """Fits only the boosting of the baselines."""
    return fit_baselines(training_sample(run), [BOOSTING])[BOOSTING]


def open_cascade(
    run: Run, config: EvaluationConfig, boosting: Scorer | None = None
) -> RunCascade | None:
    """Prepares the cascade that ``evaluation.cascade`` sets; None if it sets none.

    Args:
        run: finished run.
        config: settings of the evaluation.
        boosting: the baseline, if it is already trained.

    Raises:
        InputError: if the training dataset is gone, or its validation split has one class only.
    """
    if config.cascade is None:
        return None
    boosting = boosting or fit_boosting_alone(run)
    table = run.dataset().load(run.config.train.feature_names(), "val")
    logits = boosting.score(table.features)
    known = table.label != UNKNOWN
    validation = scored_events(logits[known], table.label[known], table.weight[known], BOOSTING)
    alone = scored_events(run.validation_scores(), *run.validation_labels(), MODEL)
    cut = choose_cut(validation, alone.score, config.cascade)
    _warn_if_uncertain(cut, validation)
    scored = run.validation_rows(table)  # events that the model has scored
    scores = cut.combine(logits[scored], alone.score[cut.keeps(logits[scored])])
    joined = replace(alone, score=scores)
    rest = _calibrate_boosting(validation, calibrate(run, "none").map)
    return RunCascade(
        boosting=boosting,
        cut=cut,
        calibration=RunCalibration(
            joined, _calibrate_joined(run, config.calibration, joined, cut, rest)
        ),
        prior_calibration=RunCalibration(validation, rest),
        alone=alone,
    )


def _warn_if_uncertain(cut: CascadeCut, validation: ScoredEvents) -> None:
    n_passing = int(np.count_nonzero(cut.keeps(validation.score) & ~validation.is_signal))
    if n_passing < FEW_EVENTS:
        LOG.warning(
            "%d of %d validation background events determine the cascade's cut; the share that it "
            "keeps of other samples is uncertain",
            n_passing,
            validation.n_background,
        )


def _calibrate_boosting(validation: ScoredEvents, raw: Calibration) -> Calibration:
    try:
        return choose_calibration(validation, "auto", raw.prior)
    except InputError as error:
        LOG.warning("probabilities of the boosting are not calibrated: %s", error)
        return raw


def _calibrate_joined(
    run: Run,
    choice: Choice,
    joined: ScoredEvents,
    cut: CascadeCut,
    rest: Calibration,
) -> CascadeCalibration:
    """Calibrates the model's scores among the events that pass the cut."""
    kept = ~cut.is_cascaded(joined.score)
    ours = calibrate(run, choice).map
    if not kept.all():
        try:
            prior = _passing_prior(ours.prior, kept, joined)
            fitted = choose_calibration(joined.take(kept), choice, prior)
            ours = replace(fitted, prior=ours.prior)
        except InputError as error:
            LOG.warning("calibrated on all validation events, not only on kept ones: %s", error)
    told = ours.method, ours.prior, ours.slope, ours.offset, ours.slope_below
    return CascadeCalibration(*told, losses=ours.losses, cut=cut, kept=ours, rest=rest)


def _passing_prior(prior: float, kept: Bools, events: ScoredEvents) -> float:
    """Computes the signal fraction of kept events from that of all; negative weights count as 0.

    Raises:
        InputError: if a class has no positive weight, or no event passes.
    """
    weight = np.clip(events.weight, 0, None)
    classes = {"signal": (prior, events.is_signal), "background": (1 - prior, ~events.is_signal)}
    odds = []
    for name, (fraction, chosen) in classes.items():
        total = float(weight[chosen].sum())
        if not total > 0:
            raise InputError(f"no {name} event of positive weight is among the validation events")
        odds.append(fraction * (float(weight[chosen & kept].sum()) / total))
    if not sum(odds) > 0:
        raise InputError("no validation event passes the cascade's cut")
    return odds[0] / sum(odds)

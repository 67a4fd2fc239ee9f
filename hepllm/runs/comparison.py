"""The run's classifier and the classifiers that it is compared with, ready to score."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hepllm.arrays import Bools, Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.baselines.scorer import Scorer
from hepllm.baselines.stacking import STACK, fit_stack
from hepllm.config import EvaluationConfig
from hepllm.data.dataset import EventTable
from hepllm.errors import InputError
from hepllm.evaluation.cascade import CascadeScores
from hepllm.evaluation.scores import ScoreTable
from hepllm.logs import progress_bar
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.runs.cascade import MODEL, RunCascade
from hepllm.runs.folder import Run

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contest:
    """The run's classifier and those that it is compared with.

    Attributes:
        run: evaluated run.
        config: settings of the evaluation.
        seed: seed of the exchange of inputs between events.
        classifier: classifier of the run.
        encoder: prompt encoder of the run.
        baselines: baselines trained on the same events and features, by name.
        cascade: cascade before the model; None where the model scores all events.
    """

    run: Run
    config: EvaluationConfig
    seed: int
    classifier: EventClassifier
    encoder: PromptEncoder
    baselines: Mapping[str, Scorer]
    cascade: RunCascade | None = None

    def measure(
        self, inputs: ModelInputs, description: str, *, cut_on: Floats | None = None
    ) -> CascadeScores:
        """Scores events by the language model, or by the cascade, and measures the time.

        Args:
            inputs: inputs of N events.
            description: text of the progress bar.
            cut_on: (N, F) features for the cascade's cut; None for those of ``inputs``, which
                ablations exchange.
        """

        def score(kept: Bools) -> Floats:
            return self._score(inputs.take(kept), description)

        if self.cascade is not None:
            return self.cascade.score(inputs.numbers if cut_on is None else cut_on, score)
        started = time.perf_counter()
        scores = score(np.ones(len(inputs), dtype=np.bool_))
        seconds = time.perf_counter() - started
        return CascadeScores(scores, len(scores), seconds, seconds)

    def validation_scores(self) -> Floats:
        """Scores of the run's validation events, equal to those of ``measure``."""
        if self.cascade is None:
            return self.run.validation_scores()
        return self.cascade.calibration.validation.score

    def score_baselines(self, rows: Floats) -> dict[str, Floats]:
        """Scores events by each baseline."""
        return {name: fitted.score(rows) for name, fitted in self.baselines.items()}

    def ablate(self, inputs: ModelInputs) -> dict[str, Floats]:
        """Scores events with one part of the input exchanged between events or removed.

        A part that the model does not have is not ablated. The cascade keeps the same events.
        """

        def score(ablated: ModelInputs, description: str) -> Floats:
            return self.measure(ablated, description, cut_on=inputs.numbers).score

        order = np.random.default_rng([self.seed, 4]).permutation(len(inputs))
        written = self.encoder.with_text(inputs)
        ablations: dict[str, Floats] = {}
        if self.classifier.nfa is not None:
            numbers = replace(written, numbers=written.numbers[order])
            ablations["nfa_permuted"] = score(numbers, "permute numbers")
            with self.classifier.silenced_fusion():
                ablations["nfa_zeroed"] = score(inputs, "zero soft tokens")
        if self.encoder.prints_numbers:
            text = replace(inputs, text=written.take(order).text)
            ablations["text_permuted"] = score(text, "permute text")
        return ablations

    def _score(self, inputs: ModelInputs, description: str) -> Floats:
        with progress_bar(len(inputs), description) as bar:
            return score_events(
                self.classifier,
                self.encoder,
                inputs,
                batch_size=self.config.batch_size,
                on_batch=bar.update,
            )


def name_retrained(run: Run, others: Sequence[Run]) -> dict[str, Run]:
    """Names runs of the same model that were trained with part of its input.

    A run without the numeric fusion adapter is ``text_only``, one with it and a minimal prompt is
    ``numbers_only``; any other, and a second of either, has the name of its folder.

    Raises:
        InputError: for a run of another dataset, other features or another balance, which differs
            in more than the input; for the run itself, or a run that is given twice.
    """
    named: dict[str, Run] = {}
    for other in others:
        if other.folder.resolve() == run.folder.resolve():
            raise InputError(f"{other.folder}: is the run itself; compare it with another run")
        differing = [
            what
            for what, ours, theirs in (
                ("dataset", run.record.dataset_digest, other.record.dataset_digest),
                ("features", run.config.train.feature_names(), other.config.train.feature_names()),
                ("balance", run.config.train.balance, other.config.train.balance),
            )
            if ours != theirs
        ]
        if differing:
            raise InputError(
                f"{other.folder}: trained with another {' and another '.join(differing)} than "
                f"{run.folder}; only runs that differ in what the model reads can be compared"
            )
        name = other.folder.resolve().name
        if not other.config.fusion.enabled and "text_only" not in named:
            name = "text_only"
        elif other.config.prompt.layout == "minimal" and "numbers_only" not in named:
            name = "numbers_only"
        if name in (MODEL, STACK, *named):
            raise InputError(f"{other.folder}: '{name}' is compared already; give each run once")
        named[name] = other
    return named


def score_retrained(
    others: Mapping[str, Run],
    config: EvaluationConfig,
    seed: int,
    tables: Mapping[str, EventTable],
    cascade: RunCascade | None = None,
) -> dict[str, dict[str, Floats]]:
    """Scores several tables by other runs, with one model in memory at a time.

    Args:
        others: runs by name.
        config: settings of the evaluation.
        seed: seed of the evaluation.
        tables: events by name.
        cascade: cascade of the evaluated run, which is used for the other runs too.

    Returns:
        Scores by name of the table and of the run.
    """
    scores: dict[str, dict[str, Floats]] = {key: {} for key in tables}
    for name, other in others.items():
        contest = Contest(other, config, seed, *other.load_classifier(), {})
        if cascade is not None:
            contest = replace(contest, cascade=cascade.before(other.validation_scores()))
        for key, table in tables.items():
            scores[key][name] = contest.measure(ModelInputs(table.features), f"score {name}").score
        del contest
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return scores


def add_stack(test: ScoreTable, validation: ScoreTable, seed: int) -> tuple[ScoreTable, ScoreTable]:
    """Adds the scores of the combination of model and boosting to both tables.

    Raises:
        InputError: if there is no boosting.
    """
    parts = (MODEL, BOOSTING)
    if BOOSTING not in validation.scores:
        raise InputError("evaluation.stack needs the boosting: name it in evaluation.baselines")
    columns = [np.column_stack([table.scores[p] for p in parts]) for table in (test, validation)]
    weight = None if validation.weight is None else np.asarray(validation.weight)
    stack = fit_stack(columns[1], np.asarray(validation.label), weight, seed)
    combined = {**test.scores, STACK: stack.score(columns[0])}
    chosen = {**validation.scores, STACK: stack.validation}
    return replace(test, scores=combined), replace(validation, scores=chosen)

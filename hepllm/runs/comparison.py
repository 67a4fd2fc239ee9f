"""The run's classifier and the classifiers that it is compared with, ready to score."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hepllm.arrays import Bools, Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.baselines.stacking import STACK, fit_stack
from hepllm.config import EvaluationConfig
from hepllm.config.learning import TEXT_WITHOUT_NUMBERS
from hepllm.errors import InputError
from hepllm.evaluation.averaging import ENSEMBLE
from hepllm.evaluation.cascade import CascadeScores
from hepllm.evaluation.scores import ScoreTable
from hepllm.model.inputs import ModelInputs
from hepllm.report.tables import NUMBERS_ONLY, TEXT_ONLY
from hepllm.runs.cascade import MODEL, RunCascade
from hepllm.runs.ensemble_model import open_model
from hepllm.runs.folder import Run
from hepllm.runs.kept_scores import KeptScores, TimedScores
from hepllm.runs.run_model import PieceScorer, RunModel, spread_out


@dataclass(frozen=True)
class Contest:
    """The run's classifier before its cascade, ready to score.

    Attributes:
        config: settings of the evaluation.
        seed: seed of the exchange of inputs between events.
        model: model of the run.
        kept: scores of earlier evaluations; None: score in this process and keep nothing.
        cascade: cascade before the model; None where the model scores all events.
        name: name of the model in tables.
    """

    config: EvaluationConfig
    seed: int
    model: RunModel
    kept: KeptScores | None = None
    cascade: RunCascade | None = None
    name: str = MODEL

    @property
    def run(self) -> Run:
        """The run of the model."""
        return self.model.run

    @property
    def shown(self) -> str:
        """Name of the classifier in tables."""
        return ENSEMBLE if self.run.is_ensemble else self.name

    def measure(
        self,
        sample: str,
        inputs: ModelInputs,
        *,
        ablation: str | None = None,
        silenced: bool = False,
        cut_on: Floats | None = None,
    ) -> CascadeScores:
        """Scores events by the language model, or by the cascade, with the time that it took.

        Args:
            sample: name of the set, under which its scores are kept.
            inputs: inputs of N events.
            ablation: name of the ablation whose inputs these are; None: none.
            silenced: whether the soft tokens are zero.
            cut_on: (N, F) features for the cascade's cut; None for those of ``inputs``, which
                ablations exchange.
        """
        name = ablation or self.name
        scorer = PieceScorer(self.model, silenced=silenced)

        def score(some: ModelInputs, called: str) -> TimedScores:
            if self.kept is not None:
                return self.kept.by_model(sample, called, scorer, some, also=(name,))
            started = time.perf_counter()
            scores = scorer.score(some)
            return TimedScores(scores, time.perf_counter() - started)

        if self.cascade is None:
            found = score(inputs, name)
            seconds = found.seconds
            return CascadeScores(found.score, len(inputs), seconds, seconds, found.members)
        model_seconds = 0.0
        members: dict[str, Floats] = {}

        def score_passing(passing: Bools) -> Floats:
            nonlocal model_seconds
            found = score(inputs.take(passing), f"{name}-cascade")
            for member, logits in found.members.items():
                members[member] = spread_out(logits, passing)
            model_seconds = found.seconds  # of kept scores: when they were computed
            return found.score

        joined = self.cascade.score(inputs.numbers if cut_on is None else cut_on, score_passing)
        seconds = joined.seconds - joined.model_seconds + model_seconds
        return replace(joined, seconds=seconds, model_seconds=model_seconds, members=members)

    def validation_scores(self) -> Floats:
        """Scores of the run's validation events, equal to those of ``measure``."""
        if self.cascade is None:
            return self.run.validation_scores()
        return self.cascade.calibration.validation.score

    def ablate(self, sample: str, inputs: ModelInputs) -> dict[str, Floats]:
        """Scores events with one part of the input exchanged between events or removed.

        A part that the model does not have is not ablated. The cascade keeps the same events.
        """

        def score(name: str, ablated: ModelInputs, *, silenced: bool = False) -> Floats:
            found = self.measure(
                sample, ablated, ablation=name, silenced=silenced, cut_on=inputs.numbers
            )
            return found.score

        encoder, hypothesis = self.model.encoder, inputs.hypothesis
        order = np.random.default_rng([self.seed, 4]).permutation(len(inputs))
        written = encoder.with_text(inputs)
        ablations: dict[str, Floats] = {}
        if self.run.config.fusion.enabled:
            parts: dict[str, tuple[str, ...]] = {"nfa_permuted": ("numbers", "particles")}
            if self.run.config.fusion.inputs == "both":
                parts["particles_permuted"] = ("particles",)
            for name, exchanged in parts.items():
                ablations[name] = score(name, written.exchange(order, *exchanged))
            ablations["nfa_zeroed"] = score("nfa_zeroed", inputs, silenced=True)
        if encoder.prints_numbers:
            text = replace(inputs, text=written.take(order).text)
            ablations["text_permuted"] = score("text_permuted", text)
        elif hypothesis is not None and len(set(hypothesis.tolist())) > 1:
            text = replace(inputs, hypothesis=hypothesis[order])
            ablations["text_permuted"] = score("text_permuted", text)
        return ablations


def name_retrained(run: Run, others: Sequence[Run]) -> dict[str, Run]:
    """Names runs on the same events, such as those that were trained with part of the input.

    A run without the numeric fusion adapter is ``text_only``, one with it and a prompt without
    numbers is ``numbers_only``, if the evaluated run is not such a one itself; any other, and a
    second of either, has the name of its folder.

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
        fusion, layout = other.config.fusion.enabled, other.config.prompt.layout
        if run.config.fusion.enabled and not fusion:
            part = TEXT_ONLY
        elif layout in TEXT_WITHOUT_NUMBERS and layout != run.config.prompt.layout:
            part = NUMBERS_ONLY
        else:
            part = name
        name = name if part in named else part
        if name in (MODEL, STACK, *named):
            raise InputError(f"{other.folder}: '{name}' is compared already; give each run once")
        named[name] = other
    return named


def score_retrained(
    others: Mapping[str, Run],
    contest: Contest,
    inputs: Mapping[str, ModelInputs],
) -> dict[str, dict[str, Floats]]:
    """Scores several samples by other runs, with one model in memory at a time.

    Args:
        others: runs by name.
        contest: the evaluated run, whose settings, cascade and folder of kept scores are used.
        inputs: events by name; a run that was trained without hypotheses does not read them.

    Returns:
        Scores by name of the events and of the run.
    """
    scores: dict[str, dict[str, Floats]] = {key: {} for key in inputs}
    for name, other in others.items():
        model = open_model(other, contest.config.batch_size)
        cascade = contest.cascade
        if cascade is not None:
            cascade = cascade.before(other.validation_scores())
        theirs = replace(contest, model=model, cascade=cascade, name=name)
        for key, some in inputs.items():
            read = some if other.record.hypotheses else replace(some, hypothesis=None)
            scores[key][name] = theirs.measure(key, read).score
        del theirs, model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return scores


def add_stack(
    test: ScoreTable, validation: ScoreTable, seed: int, model: str = MODEL
) -> tuple[ScoreTable, ScoreTable]:
    """Adds the scores of the combination of model and boosting to both tables.

    Args:
        test: the sample that is measured.
        validation: the events on which the combination is fitted.
        seed: seed of the folds.
        model: name of the model in both.

    Raises:
        InputError: if there is no boosting.
    """
    parts = (model, BOOSTING)
    if BOOSTING not in validation.scores:
        raise InputError("evaluation.stack needs the boosting: name it in evaluation.baselines")
    columns = [np.column_stack([table.scores[p] for p in parts]) for table in (test, validation)]
    weight = None if validation.weight is None else np.asarray(validation.weight)
    stack = fit_stack(columns[1], np.asarray(validation.label), weight, seed)
    combined = {**test.scores, STACK: stack.score(columns[0])}
    chosen = {**validation.scores, STACK: stack.validation}
    return replace(test, scores=combined), replace(validation, scores=chosen)

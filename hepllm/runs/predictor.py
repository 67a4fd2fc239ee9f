"""A run in memory, ready to score events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from hepllm.arrays import Floats
from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.executor import resolve_threads
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.runs.asking import ask
from hepllm.runs.cascade import RunCascade, open_cascade
from hepllm.runs.ensemble_model import open_model
from hepllm.runs.folder import Run, open_run
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.questions import OPEN_QUESTION, Question
from hepllm.runs.run_model import PieceScorer, RunModel
from hepllm.runs.score_files import RunCalibration, calibrate


@dataclass(frozen=True)
class Predictor:
    """A run that scores; made by ``load_predictor``.

    Attributes:
        model: its model, which is loaded when it scores.
        config: settings of the evaluation, and threads.
        question: what it is asked about events.
    """

    model: RunModel
    config: Config
    question: Question = OPEN_QUESTION

    def asking(self, text: str) -> Predictor:
        """The same run, whose model is not loaded again, for a hypothesis in words.

        Raises:
            InputError: the text is no hypothesis, or the run was trained without.
        """
        question = self.model.run.read_question(text)
        if question.hypothesis is None:
            raise InputError(
                f"hypothesis '{text}': only 'hepllm eval' knows the signals of its events; state "
                "one in words"
            )
        return replace(self, question=question)

    @cached_property
    def asked(self) -> RunModel:
        """The model of the run with validation scores for the question, which may be made now."""
        threads = resolve_threads(self.config.train.threads)
        scoring = self.config.evaluation.scoring
        kept = KeptScores.of(self.model.run, scoring, threads=threads)
        return ask(self.model, self.question, kept)

    @property
    def run(self) -> Run:
        """The run, with validation scores for the question."""
        return self.asked.run

    @cached_property
    def cascade(self) -> RunCascade | None:
        """Boosting that scores events before the model; None where the model scores all."""
        settings = self.config.evaluation
        return None if settings.cascade is None else open_cascade(self.run, settings)

    @cached_property
    def calibration(self) -> RunCalibration:
        """The map from scores to probabilities."""
        if self.cascade is not None:
            return self.cascade.calibration
        return calibrate(self.run, self.config.evaluation.calibration)

    @property
    def hypothesis(self) -> Hypothesis:
        """The hypothesis under which events are scored."""
        stated = self.question.hypothesis
        return OPEN if stated is None else stated

    @property
    def names(self) -> tuple[str, ...]:
        """Features in the order of the columns of ``ModelInputs.numbers``."""
        return self.model.run.config.train.feature_names()

    @property
    def classifier(self) -> EventClassifier:
        """The classifier with the weights that are best on validation data."""
        return self.model.loaded[0]

    @property
    def encoder(self) -> PromptEncoder:
        """The encoder of its prompts."""
        return self.model.loaded[1]

    @property
    def scorer(self) -> PieceScorer:
        """What computes scores, here or in workers."""
        return PieceScorer(self.model, self.cascade, hypothesis=self.hypothesis)

    def score(self, inputs: ModelInputs) -> Floats:
        """Returns uncalibrated scores, logits of signal, shape (N,).

        With a cascade they are the joined scores of ``hepllm.evaluation.cascade``.
        """
        return self.scorer.score(inputs)

    def probability(self, scores: Floats, prior: float | None = None) -> Floats:
        """Returns probabilities of signal, shape (N,).

        Args:
            scores: shape (N,), from ``score``.
            prior: signal fraction of the events; None for that of the training events.
        """
        return self.calibration.map.probabilities(scores, prior)


def load_predictor(
    folder: Path, config: Config | None = None, hypothesis: str | None = None
) -> Predictor:
    """Opens a run, whose model is loaded when it is needed.

    Args:
        folder: run folder, made by ``hepllm train``.
        config: its ``evaluation`` and ``train.threads`` replace the run's own settings.
        hypothesis: hypothesis in words under which events are scored. The validation events are
            scored under it first, unless their scores are kept.

    Raises:
        InputError: if the folder is not a run, the training did not finish, or the hypothesis
            cannot be read.
    """
    run = open_run(folder)
    config = config or run.config
    torch.set_num_threads(resolve_threads(config.train.threads))
    # Opened now, to fail before the boosting of a cascade is fitted.
    found = Predictor(open_model(run, config.evaluation.batch_size), config)
    if hypothesis is not None:
        found = found.asking(hypothesis)
    _ = found.calibration  # fails now if it cannot be made
    return found

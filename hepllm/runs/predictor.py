"""A run in memory, ready to score events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hepllm.arrays import Floats
from hepllm.config import Config
from hepllm.executor import resolve_workers
from hepllm.learning.checkpoint import best_checkpoint
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.runs.cascade import RunCascade, open_cascade
from hepllm.runs.folder import Run, open_run
from hepllm.runs.run_model import PieceScorer, RunModel
from hepllm.runs.score_files import RunCalibration, calibrate


@dataclass(frozen=True)
class Predictor:
    """A run that scores; made by ``load_predictor``.

    Attributes:
        model: its model, which is loaded when it scores.
        cascade: boosting that scores events before the model; None where the model scores all.
    """

    model: RunModel
    calibration: RunCalibration
    cascade: RunCascade | None = None

    @property
    def run(self) -> Run:
        """The run."""
        return self.model.run

    @property
    def names(self) -> tuple[str, ...]:
        """Features in the order of the columns of ``ModelInputs.numbers``."""
        return self.run.config.train.feature_names()

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
        return PieceScorer(self.model, self.cascade)

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


def load_predictor(folder: Path, config: Config | None = None) -> Predictor:
    """Opens a run, whose model is loaded when it is needed.

    Args:
        folder: run folder, made by ``hepllm train``.
        config: its ``evaluation`` and ``train.threads`` replace the run's own settings.

    Raises:
        InputError: if the folder is not a run, or the training did not finish.
    """
    run = open_run(folder)
    config = config or run.config
    best_checkpoint(run.checkpoints)  # to fail before the boosting of a cascade is fitted
    cascade = open_cascade(run, config.evaluation)
    calibration = (
        calibrate(run, config.evaluation.calibration) if cascade is None else cascade.calibration
    )
    torch.set_num_threads(resolve_workers(config.train.threads))
    return Predictor(RunModel(run, config.evaluation.batch_size), calibration, cascade)

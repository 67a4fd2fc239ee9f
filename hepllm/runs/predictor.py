"""A run in memory, ready to score events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hepllm.arrays import Floats
from hepllm.config import Config
from hepllm.executor import resolve_workers
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.runs.cascade import RunCascade, open_cascade
from hepllm.runs.folder import Run, open_run
from hepllm.runs.score_files import RunCalibration, calibrate


@dataclass(frozen=True)
class Predictor:
    """A loaded run; made by ``load_predictor``.

    Attributes:
        names: features in the order of the columns of ``ModelInputs.numbers``.
        batch_size: events per forward pass.
        cascade: boosting that scores events before the model; None where the model scores all.
    """

    run: Run
    names: tuple[str, ...]
    classifier: EventClassifier
    encoder: PromptEncoder
    calibration: RunCalibration
    batch_size: int
    cascade: RunCascade | None = None

    def score(self, inputs: ModelInputs) -> Floats:
        """Returns uncalibrated scores, logits of signal, shape (N,).

        With a cascade they are the joined scores of ``hepllm.evaluation.cascade``.
        """

        def score(some: ModelInputs) -> Floats:
            return score_events(self.classifier, self.encoder, some, batch_size=self.batch_size)

        if self.cascade is None:
            return score(inputs)
        return self.cascade.score(inputs.numbers, lambda kept: score(inputs.take(kept))).score

    def probability(self, scores: Floats, prior: float | None = None) -> Floats:
        """Returns probabilities of signal, shape (N,).

        Args:
            scores: shape (N,), from ``score``.
            prior: signal fraction of the events; None for that of the training events.
        """
        return self.calibration.map.probabilities(scores, prior)


def load_predictor(folder: Path, config: Config | None = None) -> Predictor:
    """Loads a run.

    Args:
        folder: run folder, made by ``hepllm train``.
        config: its ``evaluation`` and ``train.threads`` replace the run's own settings.

    Raises:
        InputError: if the folder is not a run, or the training did not finish.
    """
    run = open_run(folder)
    config = config or run.config
    cascade = open_cascade(run, config.evaluation)
    calibration = (
        calibrate(run, config.evaluation.calibration) if cascade is None else cascade.calibration
    )
    torch.set_num_threads(resolve_workers(config.train.threads))
    classifier, encoder = run.load_classifier()
    names = run.config.train.feature_names()
    return Predictor(
        run, names, classifier, encoder, calibration, config.evaluation.batch_size, cascade
    )

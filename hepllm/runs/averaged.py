"""The model of a run that labelled events tell which of its hypotheses holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import HypothesesConfig
from hepllm.config.evaluation import MassPlaneConfig
from hepllm.errors import InputError
from hepllm.labelling.averaged import HypothesisAverage
from hepllm.logs import progress_bar
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.runs.folder import Run
from hepllm.runs.questions import fill
from hepllm.search.mass_plane import plane_points


def averaged_run(
    run: Run,
    made: tuple[EventClassifier, PromptEncoder],
    inputs: ModelInputs,
    config: HypothesesConfig,
) -> HypothesisAverage:
    """Averages the model of a run over pairs of masses in the range of its training.

    Args:
        run: the run.
        made: its classifier and encoder.
        inputs: M items.
        config: number of masses, and what is assumed of labels.

    Raises:
        InputError: if the run was trained without hypotheses.
    """
    trained = run.record.hypotheses
    if trained is None:
        raise InputError(
            f"{run.folder}: was trained without hypotheses, so none can be averaged over; set "
            "label.hypotheses.masses=0, or train on signals of several masses, as "
            "'hepllm simulate --grid' makes them"
        )
    points = plane_points(MassPlaneConfig(masses=config.masses), trained)

    def score() -> Floats:
        found = []
        with progress_bar(len(points), "score", "hypotheses") as bar:
            for point in points:
                told = replace(inputs, hypothesis=fill(point, len(inputs)))
                found.append(score_events(*made, told, batch_size=None))
                bar.update(1)
        return np.stack(found)

    return HypothesisAverage(score, config.wrong_share, points)

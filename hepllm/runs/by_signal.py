"""Each simulated signal of a set under its own hypothesis, against all of the background."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from hepllm.data.signal_truth import signal_truth
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.records import ScoreRecord
from hepllm.evaluation.scores import ScoreTable
from hepllm.hypotheses.phrases import describe
from hepllm.runs.cascade import MODEL
from hepllm.runs.comparison import Contest
from hepllm.runs.questions import Question, fill
from hepllm.runs.samples import EvaluationSet
from hepllm.schema import BACKGROUND

LOG = logging.getLogger(__name__)

_FEWEST = 20
"""Events of a signal that is measured on its own."""


def results_by_signal(
    contest: Contest, chosen: EvaluationSet, cuts: ScoreTable
) -> dict[str, ScoreRecord]:
    """Scores the background once for each signal, under the hypothesis of this signal.

    Args:
        contest: the model.
        chosen: the set, with labels, whose events have their own hypotheses.
        cuts: validation events, whose scores by the model set the cuts of accuracies.

    Returns:
        Numbers of the model by what the signal is, in words.
    """
    table, hypotheses = chosen.table, chosen.hypothesis
    truth = signal_truth(chosen.dataset, table)
    background = np.flatnonzero(table.label == BACKGROUND)
    alone = replace(
        cuts, scores={contest.shown: cuts.scores[contest.shown]}, ablations={}, retrained=()
    )
    counts = np.bincount(truth.place[truth.place >= 0], minlength=len(truth.signals))
    LOG.info(
        "scoring %d background events under each of %d hypotheses", len(background), len(counts)
    )
    found = {}
    for place in np.argsort([one.masses for one in truth.signals], axis=0)[:, 0]:
        signal = np.flatnonzero(truth.place == place)
        if hypotheses is None or len(signal) < _FEWEST:
            LOG.warning("%s: %d events are too few", describe(truth.signals[place]), len(signal))
            continue
        rows = np.concatenate([signal, background])
        own = hypotheses[signal[0]]
        inputs = replace(chosen.inputs.take(rows), hypothesis=fill(own, len(rows)))
        name = f"{MODEL}{Question(own).suffix}"
        scores = contest.measure(chosen.name, inputs, ablation=name).score
        test = ScoreTable(table.label[rows], {contest.shown: scores}, weight=table.weight[rows])
        record = evaluate_scores(test, alone, contest.config, contest.seed).record
        numbers = {key: getattr(record, key) for key in ScoreRecord.model_fields}
        found[describe(truth.signals[place])] = ScoreRecord(**numbers)
    return found

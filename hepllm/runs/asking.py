"""Asks a run about a hypothesis: its validation events are scored under it first.

Cuts and probabilities of the scores under a hypothesis come from these.
"""

from __future__ import annotations

from dataclasses import replace

from hepllm.learning.inputs import model_inputs
from hepllm.runs.cascade import MODEL
from hepllm.runs.folder import AskedScores
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.questions import Question
from hepllm.runs.run_model import PieceScorer, RunModel


def ask(model: RunModel, question: Question, kept: KeptScores) -> RunModel:
    """Scores the validation events of a run under a hypothesis, unless their scores are kept.

    Args:
        model: model of a run that was asked nothing yet.
        question: what it is asked.
        kept: scores of earlier calls.

    Returns:
        The model, whose ``run`` has the validation scores for this question.

    Raises:
        InputError: if the training dataset is gone, or has no true signals where they are needed.
    """
    run = model.run
    if question.is_open:
        return model
    dataset = run.dataset()
    names, constituents = run.config.train.feature_names(), run.config.fusion.constituents
    table = run.validation_table(names, particles=constituents)
    table = table.take(question.reference_events(dataset, table))
    hypotheses = question.hypotheses(dataset, table, run.config.seed)
    inputs = replace(model_inputs(table), hypothesis=hypotheses)
    name = f"validation{question.suffix}"
    found = kept.by_model(name, MODEL, PieceScorer(model), inputs)
    asked = AskedScores(
        table.event_digest, table.label, table.weight, found.score, members=found.members
    )
    return model.of(replace(run, question=question, asked=asked))

"""The model with part of its input destroyed, measured on a sample of a set."""

from __future__ import annotations

from dataclasses import replace

from hepllm.arrays import Floats
from hepllm.data.views import validation_view
from hepllm.evaluation.assessment import EvaluationResults, evaluate_scores
from hepllm.evaluation.records import ScoreRecord
from hepllm.evaluation.scores import ScoreTable
from hepllm.runs.cascade import MODEL
from hepllm.runs.comparison import Contest
from hepllm.runs.samples import EvaluationSet


def add_ablations(
    results: EvaluationResults,
    contest: Contest,
    chosen: EvaluationSet,
    scores: Floats,
    cuts: ScoreTable,
) -> EvaluationResults:
    """Scores the ablations on at most ``ablation_events`` events, and adds their results.

    The model is measured on the same events, so that the differences are paired. Up to half of the
    events are from the rarer class: AUC and SIC are ratios within a class, so this does not bias
    them. Inputs are exchanged between the events of the sample.

    Args:
        results: results on the whole set.
        contest: the model.
        chosen: the set, with labels.
        scores: (N,) scores of its events by the model.
        cuts: validation events, whose scores by the model set the cuts.
    """
    config, seed, table = contest.config, contest.seed, chosen.table
    rows = validation_view(table.label, config.ablation_events, seed)
    table = table.take(rows)
    ablations = contest.ablate(chosen.name, chosen.inputs.take(rows))
    if not ablations:
        return results
    test = ScoreTable(table.label, {MODEL: scores[rows]}, ablations, table.weight)
    alone = replace(cuts, scores={MODEL: cuts.scores[MODEL]}, ablations={}, retrained=())
    found = evaluate_scores(test, alone, config, seed, sample=chosen.name)
    record, theirs = results.record, found.record
    reference = None
    if len(rows) < len(chosen.table):
        reference = ScoreRecord(**{key: getattr(theirs, key) for key in ScoreRecord.model_fields})
    changes = {
        "ablation": {**theirs.ablation, **record.ablation},
        "paired": {**record.paired, **theirs.paired},
        "ablation_reference": reference,
    }
    drawn = {name: found.curves.classifiers[name] for name in ablations}
    curves = {"classifiers": {**results.curves.classifiers, **drawn}}
    return replace(
        results,
        record=record.model_copy(update=changes),
        curves=results.curves.model_copy(update=curves),
        events={**results.events, **{name: found.events[name] for name in ablations}},
    )
